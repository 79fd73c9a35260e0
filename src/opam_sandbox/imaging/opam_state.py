"""opam's records in an image: they are opam's own, written where all packages are, and not what each package's build left.

Python writes which packages there are, and what opam knows of them. From that, opam itself makes what it keeps of the
environment: the switch's updates, the scripts for shells, and what it remembers of the environment that it gave last. The
image's own environment is what `opam env` prints there.
"""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from opam_sandbox.opam.package import OpamPackage, metadata
from opam_sandbox.opam.switch import HOME, LAST_ENV, OPAM_ROOT, REPOSITORY, SWITCH_STATE_DIR, environment, switch_state
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import LOG, View

# What of opam's shared records the state layer has.
KEPT = {
    ownership.SWITCH_STATE_DIR + b"/switch-state",
    ownership.SWITCH_STATE_DIR + b"/environment",
    ownership.OPAM_ROOT + b"/repo",
    ownership.OPAM_ROOT + b"/opam-init",
    ownership.LAST_ENV,
}
LEFT_OUT = {ownership.OPAM_ROOT + b"/repo/lock"}

_FAILED, _LAST = b"failed: ", "opam env --sexp"
# All of it in one view, as a view takes as long as opam does. The arguments are the variables that the last one is given.
# Its --inplace-path is how opam writes the environment when a package is installed: what is added to PATH keeps its place there.
_SCRIPT = f"""
run() {{
  "$@" >/dev/null && return
  status=$?
  echo "{_FAILED.decode()}$*"
  exit $status
}}
run opam switch set default
run opam env --inplace-path
run /bin/rm -rf "/{LAST_ENV}"
exec /usr/bin/env -i "$@" {_LAST}
"""

_ENVIRONMENT = f"{SWITCH_STATE_DIR}/environment"
# A line of `opam env --sexp`: two strings as OCaml has them, which says bytes beyond ASCII by their decimal numbers.
_PAIR = re.compile(rb'  \("((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\)')
_ESCAPE = re.compile(rb"\\([0-9]{3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b"}


def write(view: View, packages: Sequence[OpamPackage], installed: Sequence[str], roots: Sequence[str]) -> List[str]:
    """Write opam's records of these packages, `installed` and `roots` as `name.version`; returns the image's environment,
    `NAME=value`. Raises ToolError where opam does not read the records, or a variable is no text."""
    files: List[view_files.NewFile] = [(f"{SWITCH_STATE_DIR}/switch-state", switch_state(installed, roots).encode())]
    for repository in (REPOSITORY, f"{OPAM_ROOT}/repo/default"):
        for package in packages:
            files += metadata(package, f"{repository}/packages/{package.name}/{package.title}", package.opam)
    # A build is shown a part of its opam file: see `PackageToBuild`.
    files += [file for file in map(_switch_opam_file, packages) if view_files.read(view.root, file[0]) != file[1]]
    view.write_files(files)
    # Of the empty switch: opam believes what is there, and makes what is not.
    view_files.remove(view.root, _ENVIRONMENT)
    base = image_environment()
    with view.timer.step("opam"):
        printed = _opam(view, base)
    updates = read_environment(printed)
    env = {name: value for name, value in base.items() if name not in updates}
    return [f"{name}={value}" for name, value in {**env, **updates}.items()]


def _switch_opam_file(package: OpamPackage) -> Tuple[str, bytes]:
    return f"{SWITCH_STATE_DIR}/packages/{package.title}/opam", package.opam.encode("utf-8", "surrogateescape")


def image_environment() -> Dict[str, str]:
    """An image's environment without opam: the order of the directories in PATH is Debian's."""
    return {name: environment(1)[name] for name in ("HOME", "LANG", "PATH")}


def read_environment(printed: bytes) -> Dict[str, str]:
    """The variables that `opam env --sexp` prints. Raises ToolError for other output, and for one that is not UTF-8."""
    found: Dict[str, str] = {}
    lines = printed.rstrip(b"\n").split(b"\n")
    if lines[0] != b"(" or lines[-1] != b")":
        raise ToolError(f"`opam env --sexp` did not print an environment in the image, but {printed!r:.200}, see {LOG}")
    for line in lines[1:-1]:
        pair = _PAIR.fullmatch(line)
        if pair is None:
            raise ToolError(f"`opam env --sexp` printed {line!r:.200} in the image, which is no variable")
        name, value = (_ESCAPE.sub(_unescaped, text) for text in pair.groups())
        try:
            found[name.decode()] = value.decode()
        except UnicodeDecodeError:
            raise ToolError(
                f"a package's `setenv` gives the variable {name.decode(errors='replace')} the value {value!r:.200}, which is not "
                "UTF-8: the configuration of an image cannot hold it. Correct the package's opam file in an overlay repository."
            ) from None
    return found


def _unescaped(match: "re.Match[bytes]") -> bytes:
    text = match[1]
    return bytes([int(text) & 0xFF]) if len(text) == 3 else _ESCAPED.get(text, text)


def _opam(view: View, base: Dict[str, str]) -> bytes:
    """What `opam env` prints in the environment `base`, after opam has written its records. opam reads every record on the way:
    what it cannot read fails here."""
    output = view.scratch / "printed"
    argv = ["/bin/sh", "-c", _SCRIPT, "opam", *(f"{name}={value}" for name, value in base.items())]
    with open(output, "wb") as out:
        done = view.overlay.run(argv, environment(1), view.log, user=True, cwd=f"/{HOME}", stdout=out.fileno())
    printed = output.read_bytes()
    if done.returncode != 0:
        command = printed[len(_FAILED) :].decode(errors="replace").strip() if printed.startswith(_FAILED) else _LAST
        raise ToolError(f"`{command}` failed in the image's switch (exit status {done.returncode}), see {LOG}")
    return printed
