"""Installs .debs in a view by the base's own dpkg, which nothing forces: what a package pre-depends on is there before it."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import List, Optional, Sequence

from opam_sandbox import deb822, dpkg
from opam_sandbox.building.install_order import Deadlock, Step, is_configured, read_control, steps
from opam_sandbox.building.requests import Deb
from opam_sandbox.errors import BuildFailed
from opam_sandbox.opam.switch import debian_environment
from opam_sandbox.request import check_file
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

_SHOWN = "tmp/debs"
_CONTROL = "control"
_LIST_CONTROL = 'for deb; do dpkg-deb --field "$deb" || exit; echo; done'


def install(view: View, debs: Sequence[Deb], what: str) -> int:
    """Install .debs; returns dpkg's exit status. `what`: whose they are, for messages. Raises BuildFailed."""
    directory = view.scratch / "debs"
    directory.mkdir()
    for deb in debs:
        check_file(deb["file"], deb["sha256"])
    paths = [f"/{_SHOWN}/{_link(Path(deb['file']), directory)}" for deb in debs]
    view_files.make_directories(view.root / "tmp", posixpath.basename(_SHOWN))
    view.overlay.bind_tree(directory, _SHOWN)
    status = 0
    for arguments in _calls(_order(view, paths, what), paths, [deb["name"] for deb in debs]):
        status = _run(view, ["dpkg", "--force-unsafe-io", "--force-confnew", *arguments])
        if status != 0:
            break
    view.overlay.unbind(_SHOWN)
    return status


def _order(view: View, paths: Sequence[str], what: str) -> List[Step]:
    everything = tuple(range(len(paths)))
    if len(paths) == 1:
        return [Step(everything, everything)]
    printed = view.scratch / _CONTROL
    with open(printed, "wb") as out:
        argv = ["sh", "-c", _LIST_CONTROL, "dpkg-deb", *paths]
        status = _run(view, argv, out.fileno())
    text = printed.read_text(encoding="utf-8", errors="surrogateescape")
    controls = [read_control(stanza) for stanza in deb822.stanzas(text)]
    if status != 0 or len(controls) != len(paths):
        raise BuildFailed(f"{what}: dpkg-deb does not read the control fields of its depexts (exit status {status})")
    there = [stanza for stanza in dpkg.read_status(view.root).values() if is_configured(stanza)]
    try:
        return steps(controls, map(read_control, there))
    except Deadlock as error:
        raise BuildFailed(f"{what}: its depexts cannot be installed in any order: {error}") from None


def _calls(order: Sequence[Step], paths: Sequence[str], names: Sequence[str]) -> List[List[str]]:
    """dpkg's arguments. Triggers run once, when everything is there, but where a .deb waits for what a trigger does."""
    if len(order) == 1:
        return [["--auto-deconfigure", "--install", *(paths[place] for place in order[0].unpack)]]
    calls: List[List[str]] = []
    for step in order:
        if step.unpack:
            calls.append(["--no-triggers", "--auto-deconfigure", "--unpack", *(paths[place] for place in step.unpack)])
        if step.configure and step is not order[-1]:
            calls.append(["--no-triggers", "--configure", *(names[place] for place in step.configure)])
    return [*calls, ["--configure", "--pending"]]


def _run(view: View, argv: Sequence[str], stdout: Optional[int] = None) -> int:
    return view.overlay.run(argv, debian_environment(), view.log, user=False, stdout=stdout).returncode


def _link(source: Path, directory: Path) -> str:
    """Have an input in a directory of this process's; returns its name."""
    name = posixpath.basename(source)
    real = os.path.realpath(source)
    try:
        os.link(real, directory / name)
    except OSError:  # of another file system, or somebody else's
        import shutil

        shutil.copyfile(real, directory / name)
    return name
