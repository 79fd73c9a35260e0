"""`export`: the packages' files as a switch of this machine, for editors and for programs that are run by hand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Iterator, List

from opam_sandbox import machine_errors
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.exporting import environment, host, swap
from opam_sandbox.exporting.relocate import check_prefix
from opam_sandbox.exporting.requests import ExportRequest
from opam_sandbox.exporting.tree import Tree
from opam_sandbox.files import remove_tree
from opam_sandbox.layer.description import read_layers

# In the switch: the names of compiled files that still have its place in a layer in them.
LEFT = "not-relocated.txt"

# Beside the switch, in a directory that nothing else is in.
_LOCK = "lock"
_REMEDY = "set Pants' [GLOBAL].pants_distdir to a directory of another file system"


def run(request: ExportRequest, jobs: int) -> int:
    """Write the switch, whole or not at all. Raises ToolError."""
    place, made_by = Path(request["tree"]), Path(request["made_by"])
    for path in (request["prefix"], request["tree"], request["made_by"]):
        if not os.path.isabs(path) or os.path.normpath(path) != path:
            raise RequestError(f"{path!r:.200} is no absolute path")
    os.umask(0o022)
    try:
        check_prefix(request["prefix"])
        place.parent.mkdir(parents=True, exist_ok=True)
        with machine_errors.at(place.parent, "the exported switch", _REMEDY), _alone(place):
            new = place.with_name(f"new-{os.urandom(4).hex()}")
            new.mkdir(mode=0o755)
            try:
                notes = _fill(request, new)
                swap.put(new, place)
            finally:
                remove_tree(new)
    finally:
        os.chdir("/")  # out of what is removed
        remove_tree(made_by)
        _remove_dead_links(made_by.parent)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _fill(request: ExportRequest, new: Path) -> List[str]:
    """Make the switch; returns what is to be known of it, a sentence each."""
    tree = Tree(new, request["prefix"])
    for layer in read_layers(request["layers"]):
        tree.add(layer)
    tree.finish()
    depexts = request["depexts"]
    if request["check_host"]:
        _check_host(request, tree)
    own_compiler = tree.has("lib/ocaml/stdlib.cmxa") or tree.has("lib/ocaml/stdlib.cma")
    variables = environment.parts_of(
        request["variables"], request["prefix"], own_compiler, tree.has("lib/findlib.conf")
    )
    tree.write(environment.FILE, environment.shell_text(request["resolve"], variables))
    tree.write(LEFT, "".join(f"{name}\n" for name in sorted(tree.left)))
    lacking = host.missing_development(tree.programs, depexts) if request["check_host"] else []
    if request["check_host"] and not host.has_c_compiler(os.environ.get("PATH", os.defpath)):
        lacking.append("a C compiler (gcc)")
    return [
        *(f"left out: {one}" for one in tree.left_out),
        *(f"this machine lacks {one}: what needs it cannot be built here" for one in lacking),
    ]


def _check_host(request: ExportRequest, tree: Tree) -> None:
    problems = host.missing_libraries(tree.programs, tree.has, host.known_libraries(), request["depexts"])
    if request["compiler"]:
        problem = host.compiler_problem(request["compiler"], os.environ.get("PATH", os.defpath))
        problems += [problem] if problem else []
    if problems:
        listed = "".join(f"\n  * {one}" for one in problems)
        raise ToolError(
            f"The packages of the resolve {request['resolve']} do not run on this machine, which lacks:{listed}\n"
            "Install that, or use the packages in their sandbox, with `pants opam-exec`. What an earlier export wrote is as it "
            "was."
        )


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Nobody else exports to the same place meanwhile. What a killed export left beside it is removed."""
    with open(place.with_name(_LOCK), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(place.parent):
            if name not in (place.name, _LOCK):
                remove_tree(place.parent / name)
        yield


def _remove_dead_links(directory: Path) -> None:
    """Those that lead to a switch that is not there, as the first export failed; and the directory, if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_symlink() and not path.exists():
                path.unlink()
        directory.rmdir()
