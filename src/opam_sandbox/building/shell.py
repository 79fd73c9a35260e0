"""`shell`: a command of a person's in the view of a package's build, where opam would run the package's own commands.

opam itself makes it ready. It is told to wrap the package's commands in a script, which writes down what opam runs, with which
variables and where, and then either does nothing (the sources are as the build found them) or runs it (they are as the build left
them). Nothing of it becomes a layer, and what is written is gone at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from opam_sandbox.building import sorted_readdir
from opam_sandbox.building.build import Build, read
from opam_sandbox.building.real_owners import RealOwners
from opam_sandbox.building.requests import ShellRequest
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.opam import opamfile
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, SWITCH_STATE_DIR, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import Ended, is_rootless, run_isolated
from opam_sandbox.sandbox.view import View

_NOTES = "/tmp/.opam-shell"
_HOOK, _START = "opam-shell-hook", "opam-shell"
_LOG_LINES = 15

# Of opam's: `MODE COMMAND ...`, in the environment and the directory of the command.
_HOOK_SCRIPT = rf"""d={_NOTES}
mode=$1
shift
if [ ! -e $d/env ]; then
  mkdir -p $d && export -p > $d/env && pwd > $d/directory || exit 1
fi
line=
for word in "$@"; do
  case $word in
    ''|*[!A-Za-z0-9_./=:,@%+-]*) word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
  esac
  line="$line $word"
done
[ -z "$line" ] || printf '%s\n' "$line" >> $d/commands
case $mode in
  run) exec "$@" ;;
  stop) exit 1 ;;
esac
"""

# Before the first install command, or in place of it.
_CONFIG = """
wrap-build-commands: [["/bin/sh" "/dev/{hook}" "{mode}"]]
"""
_STOP = """pre-install-commands: [["/bin/sh" "/dev/{hook}" "stop"]]
"""

# Of the person's: the words are the command.
_START_SCRIPT = rf"""d={_NOTES}
term=$OPAM_SHELL_TERM
. $d/env
unset OPAM_SHELL_TERM OPAMKEEPBUILDDIR
cd "$(cat $d/directory)" || exit 1
if [ -t 0 ] && [ -n "$term" ]; then export TERM="$term"; fi
[ $# -gt 0 ] || set -- "$([ -x /bin/bash ] && echo /bin/bash || echo /bin/sh)"
exec "$@"
"""


def run(request: ShellRequest, jobs: int) -> int:
    """Run the request's command; its exit status, 128 + N for a signal. Raises ToolError."""
    layers, package = read(request)
    rootless = is_rootless()
    keep = Path(request["keep"]) if request.get("keep") else None
    if keep is not None:
        _check_keep(keep)

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        library = sorted_readdir.library(store, layers[0])
        with mounted(store, layers) as view:
            owners = RealOwners(view, store, layers, request.get("left_out", ()))
            build = Build(view, store, library, layers, package, request, jobs, owners)
            build.prepare()
            if keep is not None:
                _show(view, keep)
            _make_ready(view, build, package.title, request.get("after_build", False))
            _explain(view, package.title, package.opam, request)
            return _run(view, request)

    network = request.get("network", False)
    try:
        return run_isolated(inside, subordinates=bool(request["package"]["debs"]), network=network)
    except Ended as ended:
        return 128 + ended.number


def _check_keep(keep: Path) -> None:
    """Raises ToolError."""
    try:
        keep.mkdir(mode=0o755, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise ToolError(f"{keep} is to keep what is in the build's directory, but is not empty")
    except OSError as error:
        raise ToolError(f"{keep} is to keep what is in the build's directory: {error.strerror}") from None


def _show(view: View, keep: Path) -> None:
    """Have the directory that opam builds in be this one."""
    target = f"{SWITCH_STATE_DIR}/build"
    view_files.make_directories(view.root, target, owner=view.overlay.opam)
    view.overlay.chown_to_opam(keep)
    view.overlay.bind(keep, target, writable=True)


def _make_ready(view: View, build: Build, title: str, after_build: bool) -> None:
    """Have opam unpack and patch the sources, and write down what it would run, or has run. Raises ToolError."""
    config = f"{OPAM_ROOT}/config"
    before = view_files.read(view.root, config)
    if before is None:
        raise ToolError("the layers have no opam root")
    view.overlay.show_in_dev(_HOOK, _HOOK_SCRIPT.encode())
    view.overlay.show_in_dev(_START, _START_SCRIPT.encode())
    ours = _CONFIG.format(hook=_HOOK, mode="run" if after_build else "note")
    ours += "" if after_build else _STOP.format(hook=_HOOK)
    view.write_files([(config, before + ours.encode())])
    done = build.run_opam(OPAMKEEPBUILDDIR="1")
    view.write_files([(config, before)])
    lines = view.log_text().splitlines()
    if view_files.read(view.root / "tmp", f"{_NOTES[5:]}/env") is None:
        printed = "\n".join(lines[-_LOG_LINES:])
        raise ToolError(
            f"opam has not come to the commands of {title} (opam's exit status {done.returncode}). The end of its log:\n{printed}"
        )
    if after_build:
        state = "built" if done.returncode == 0 else f"failed to build (opam's exit status {done.returncode})"
        _say("\n".join([*lines[-_LOG_LINES:], f"{title} has {state}; the lines above are the end of the log."]))


def _explain(view: View, title: str, opam: str, request: ShellRequest) -> None:
    """Say what there is, before a person's shell."""
    if request["command"]:
        return
    found = view_files.read(view.root / "tmp", f"{_NOTES[5:]}/commands") or b""
    commands = [f"  {line.strip()}" for line in found.decode(errors="replace").splitlines()]
    did, does = ("has run", "") if request.get("after_build") else ("runs", " Nothing of it has run yet.")
    text = [f"This is the sandbox of {title}, as user opam, where opam {did} its commands.{does}"]
    text += [f"opam {did}:", *commands] if commands else [f"opam {did} no command to build it."]
    if any(item.name == "install" for item in opamfile.parse(opam, title)):
        text.append("Then it runs what the field `install` of the opam file says.")
    kept = request.get("keep")
    text.append(
        f"What is written is gone at the end, but for the build's directory, which is kept in {kept}."
        if kept
        else "What is written here is gone at the end."
    )
    _say("\n".join(text))


def _say(text: str) -> None:
    # Of what a package printed, a terminal is to see the words only.
    print("".join(char if char.isprintable() or char in "\n\t" else "?" for char in text), file=sys.stderr, flush=True)


def _run(view: View, request: ShellRequest) -> int:
    if request.get("network"):
        view.overlay.show_network()
    # All else is what opam gave the package's command: it takes away some of what it was given itself.
    env = {"PATH": environment(1)["PATH"], "OPAM_SHELL_TERM": os.environ.get("TERM", "")}
    argv = ["/bin/sh", f"/dev/{_START}", *request["command"]]
    return view.overlay.run(argv, env, view.log, user=True, cwd=f"/{HOME}", person=True).returncode
