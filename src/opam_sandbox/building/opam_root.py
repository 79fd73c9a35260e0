"""`opam-root`: the layer between a base and the packages: the user opam, `opam init`, an empty switch `default`."""

from __future__ import annotations

from pathlib import Path

from opam_sandbox.accounts import add_user
from opam_sandbox.building.requests import OpamRootRequest
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.switch import HOME, REPO_FILE, REPOSITORY, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG, View

# What `opam init` leaves behind that is made anew, or differs from run to run.
_LEFT_OUT = {
    ownership.OPAM_ROOT + name
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


def run(request: OpamRootRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    layers = read_layers(request["layers"])
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        make_layer(Identity("opam-root", "default"), layers, store, _prepare, skip=_skip)
        return 0

    return run_isolated(inside)


def _skip(path: bytes, directory: bool) -> bool:
    if path.startswith(ownership.OPAM_ROOT):
        return path in _LEFT_OUT or ownership.is_repository_cache(path)
    return ownership.is_shared(path, directory)


def _prepare(view: View) -> Facts:
    for program in ("usr/bin/opam", "bin/gzip", "usr/bin/tar"):
        if not view_files.exists(view.root, program):
            raise ToolError(f"the base lacks /{program}: add the Debian package {Path(program).name} to its `packages`")
    add_user(view.root)
    view_files.make_directories(view.root, HOME)
    if view.overlay.opam:
        view_files.change_owner(view.root, HOME, view.overlay.opam)
    view.write_files([(f"{REPOSITORY}/repo", REPO_FILE.encode()), (f"{REPOSITORY}/packages/.keep", b"")])
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
