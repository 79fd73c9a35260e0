"""What dpkg's triggers make of several packages' files (caches, indexes, registries), made again for layers beside one another.

A trigger's result is right in a layer for what lies below it. Of layers neither of which was built over the other, one may have
what a trigger is about and another the package that waits for it, or each has a result of its own: one of these would hide the
other. dpkg, which would have installed one over the other, would have run the trigger again; so its own tools do so here.

Sources: deb-triggers(5), dpkg-trigger(1), /usr/share/doc/dpkg/spec/triggers.txt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from opam_sandbox import dpkg_records
from opam_sandbox.beside.overlaps import strangers
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.opam.switch import debian_environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import LOG, View

_TRIGGERS = f"{dpkg_records.DATABASE}/triggers"
_INFO = f"{dpkg_records.DATABASE}/info"
_STATUS = f"{dpkg_records.DATABASE}/status"
_PATHS = "File"
# dpkg writes these for itself.
_OWN = tuple(f"{_TRIGGERS}/{name}" for name in ("Lock", "Unincorp"))
_SCRIPTS = (".preinst", ".postinst", ".prerm", ".postrm")
# The dynamic linker's cache is made anew for every view.
_ELSEWHERE = ("libc-bin",)
_RUN = 'for trigger; do dpkg-trigger --no-await --by-package=dpkg "$trigger" || exit; done; exec dpkg --triggers-only --pending'


def stale(view: View, layers: Sequence[Layer]) -> List[str]:
    """The triggers, sorted, whose results are right in no layer. The view's records are those of all layers already."""
    trees = [Path(os.fsdecode(path)) for path in reversed(view.overlay.lower)]
    packages = [(layer, tree) for layer, tree in zip(layers, trees) if layer.kind == "package"]
    if sum(bool(layer.dpkg.get("status") or layer.dpkg.get("triggered")) for layer, _ in packages) < 2:
        return []
    unchecked = strangers([layer.opam for layer, _ in packages])
    having = [_Layer(layer, tree) for layer, tree in packages]
    found: Set[str] = set()
    for trigger, waiting in _interests(view.root):
        telling = {number for number, one in enumerate(having) if one.activates(trigger)}
        for package in waiting:
            concerned = telling | {number for number, one in enumerate(having) if package in one.brings}
            if telling and any(unchecked[one] >> other & 1 for one in concerned for other in concerned if one != other):
                found.add(trigger)
    return sorted(found)


def of_several(view: View, layers: Sequence[Layer]) -> List[str]:
    """The triggers, sorted, of Debian packages that several layers have installed. What such a package's script made when it was
    configured there, it may make of all layers when it is told to."""
    seen: Set[str] = set()
    again: Set[str] = set()
    for layer in layers:
        names = {key.partition(":")[0] for key in layer.dpkg.get("status", {})} if layer.kind == "package" else set()
        again |= names & seen
        seen |= names
    return sorted(trigger for trigger, waiting in _interests(view.root) if again.intersection(waiting))


def run(view: View, triggers: Sequence[str]) -> None:
    """Have dpkg run these triggers in the view. Its records are then as before. Raises ToolError where a script fails."""
    if not triggers:
        return
    status = view_files.read(view.root, _STATUS) or b""
    absent = [name for name in _OWN if not view_files.exists(view.root, name)]
    done = view.overlay.run(["sh", "-c", _RUN, "sh", *triggers], debian_environment(), view.log, user=False)
    if done.returncode != 0:
        raise ToolError(
            f"dpkg failed (exit status {done.returncode}) to run the triggers of packages beside one another again "
            f"({', '.join(triggers)}), see {LOG}"
        )
    from opam_sandbox.beside import machine_files  # most builds run no trigger

    machine_files.settle(view.overlay.upper, view.overlay.lower, mounted=view.root)
    view_files.write(view.root, _STATUS, status)
    for name in absent:
        view_files.remove(view.root, name)


def _interests(root: Path) -> Iterator[Tuple[str, List[str]]]:
    """Each trigger, a name or an absolute path, and who waits for it."""
    waiting: Dict[str, List[str]] = {}
    for name in view_files.names(root, _TRIGGERS):
        if name not in (_PATHS, "Lock", "Unincorp"):
            waiting[name] = [_package(line) for line in dpkg_records.read_table(root, f"{_TRIGGERS}/{name}")]
    for line in dpkg_records.read_table(root, dpkg_records.FILE_TRIGGERS):
        path, _, package = line.rpartition(" ")
        waiting.setdefault(path, []).append(_package(package))
    for trigger, packages in sorted(waiting.items()):
        yield trigger, [package for package in packages if package not in _ELSEWHERE]


def _package(text: str) -> str:
    return text.partition("/")[0].partition(":")[0]


class _Layer:
    """brings: the Debian packages that it has installed."""

    def __init__(self, layer: Layer, tree: Path) -> None:
        self.brings = {key.partition(":")[0] for key in layer.dpkg.get("status", {})}
        self._tree = tree
        self._named = set(layer.dpkg.get("triggered", ()))
        self._scripts: List[str] = []
        for name in view_files.names(tree, _INFO) if self.brings else ():
            if name.endswith((".triggers", *_SCRIPTS)):
                text = view_files.read_text(tree, f"{_INFO}/{name}") or ""
                if name.endswith(".triggers"):
                    self._named.update(_activated(text.split("\n")))
                elif "dpkg-trigger" in text:
                    self._scripts.append(text)

    def activates(self, trigger: str) -> bool:
        """By its own files, its packages' `triggers` files, or scripts that call dpkg-trigger; or it was run for the layer."""
        if trigger in self._named or any(trigger in script for script in self._scripts):
            return True
        return trigger.startswith("/") and bool(self.brings) and self._has(trigger.lstrip("/"))

    def _has(self, path: str) -> bool:
        return view_files.status(self._tree, path) is not None


def _activated(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        words = line.split("#", 1)[0].split()
        if len(words) > 1 and words[0].startswith("activate"):
            yield words[1]
