"""`opam-root`: the layer between a base and the packages: the user opam, `opam init`, an empty switch `default`."""

from __future__ import annotations

from pathlib import Path

from opam_sandbox import owned
from opam_sandbox.errors import ToolError
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.layer import read_layers
from opam_sandbox.maker import LOG, Facts, View, make_layer
from opam_sandbox.opamroot import HOME, REPO_FILE, REPOSITORY, environment, write_files
from opam_sandbox.request import Request
from opam_sandbox.store import Store

# What `opam init` leaves behind that is made anew, or differs from run to run.
_LEFT_OUT = {
    owned.OPAM_ROOT + name
    for name in (
        b"/log",
        b"/lock",
        b"/config.lock",
        b"/repo/lock",
        b"/download-cache",
        b"/default/.opam-switch/lock",
        b"/default/.opam-switch/packages/cache",
    )
}


def run(request: Request, jobs: int) -> int:
    layers = read_layers(request.strings("layers"))
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request.get("store", str)), rootless)
        make_layer("opam-root", "default", "", layers, store, rootless, _prepare, skip=_skip)
        return 0

    return run_isolated(inside)


def _skip(path: bytes, directory: bool) -> bool:
    if path.startswith(owned.OPAM_ROOT):
        return path in _LEFT_OUT or owned.is_repository_cache(path)
    return owned.is_shared(path, directory)


def _prepare(view: View) -> Facts:
    root = view.overlay.root
    for program in ("usr/bin/opam", "bin/gzip", "usr/bin/tar"):
        if not (root / program).exists():
            raise ToolError(f"the base lacks /{program}: add the Debian package {Path(program).name} to its `packages`")
    add_user(root)
    home = root / HOME
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    view.overlay.chown_to_opam(home)
    write_files(view.overlay, [(f"{REPOSITORY}/repo", REPO_FILE.encode()), (f"{REPOSITORY}/packages/.keep", b"")])
    env = environment(1)
    commands = (
        ["opam", "init", "--bare", "--no-setup", "--disable-sandboxing", "--kind=local", "default", f"/{REPOSITORY}"],
        ["opam", "switch", "create", "default", "--empty"],
    )
    with view.timer.step("opam"):
        for command in commands:
            done = view.overlay.run(command, env, view.log, user=True, cwd=f"/{HOME}")
            if done.returncode != 0:
                raise ToolError(
                    f"`{' '.join(command[:2])}` failed in the base (exit status {done.returncode}), see {LOG}"
                )
    return Facts()


def add_user(root: Path) -> None:
    """Enter the user and the group `opam`, both 1000, into the accounts below `root`. Raises ToolError if 1000 is taken."""
    for name, line, mode in (
        ("passwd", "opam:x:1000:1000:opam:/home/opam:/bin/bash", 0o644),
        ("group", "opam:x:1000:", 0o644),
        ("shadow", "opam:*:3652:0:99999:7:::", 0o640),
    ):
        path = root / "etc" / name
        text = path.read_text() if path.exists() else ""
        entries = [entry.split(":") for entry in text.splitlines()]
        taken = [entry[0] for entry in entries if name != "shadow" and len(entry) > 2 and entry[2] == "1000"]
        if any(entry[0] == "opam" for entry in entries):
            continue
        if taken:
            raise ToolError(f"the base's /etc/{name} gives 1000, which is opam's, to {taken[0]!r}")
        path.write_text(text + line + "\n")
        path.chmod(mode)
