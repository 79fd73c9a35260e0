"""Text files that several packages enter themselves in, by scripts of their own: the union has the entries of all.

opam and dpkg install one package after the other, so each finds what those before it have entered. Of packages whose layers
lie beside one another, each changed what it found below. `unite` takes each layer's changes in turn, as `line_union` does.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox.beside import line_union
from opam_sandbox.layer import ownership
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

_SWITCH = re.escape(ownership.SWITCH.decode())
# Below the switch: findlib's and the bytecode linker's lists, the directory of info pages. Debian's: accounts' further numbers,
# shells, certificates, and SGML's and XML's catalogs, whose packages' own scripts write them.
_PATTERN = rf"""{_SWITCH}/(?:
        lib/ocaml/ld\.conf | (?:lib|etc)/findlib\.conf(?:\.d/[^/]+\.conf)? | share/info/dir | info/dir
    ) | etc/(?:
        shells | subuid | subgid | ca-certificates\.conf | xml/[^/]+ | sgml/[^/]+\.cat | perl/XML/SAX/ParserDetails\.ini
    ) | var/lib/(?:shells\.state | xml-core/[^/]+ | ucf/cache/:etc:perl:XML:SAX:ParserDetails\.ini)"""


class _Version(NamedTuple):
    """What a layer makes of a path: `mode` is None where it is no file, or not there."""

    mode: Optional[int]
    content: bytes


_ABSENT = _Version(None, b"")


def is_registry(path: bytes) -> bool:
    """Whether `path`, relative to the root, is such a file."""
    return bool(re.fullmatch(_PATTERN, os.fsdecode(path), re.VERBOSE))


def unite(view: View, store: Store, layers: Sequence[Layer], paths: Iterable[bytes]) -> List[bytes]:
    """Write the unions of those of `paths` that are registries into a view of `layers`; returns which have one.

    A registry that a layer removes, or whose mode it changes, has none, nor one of which two layers changed the same lines.
    """
    done = []
    for path in sorted(filter(is_registry, paths)):
        united = _Union(store, layers, os.fsdecode(path)).of_all()
        if united is None or united.mode is None:
            continue
        done.append(path)
        name = os.fsdecode(path)
        if view_files.read(view.root, name, links=False) != united.content:
            owner = view.overlay.opam if ownership.is_opams(path) else None
            view_files.write(view.root, name, united.content, united.mode, owner)
    return done


class _Union:
    """Of one path. Each layer is known by its place."""

    def __init__(self, store: Store, layers: Sequence[Layer], name: str) -> None:
        titles = {layer.opam.get("package", ""): place for place, layer in enumerate(layers)}
        ground = frozenset(place for place, layer in enumerate(layers) if layer.kind != "package")
        self._versions: Dict[int, _Version] = {}
        self._below: Dict[int, FrozenSet[int]] = {}
        for place, layer in enumerate(layers):
            version = _version(store.path(layer.diff_id), name)
            if version is not None:
                self._versions[place] = version
                named = {titles[title] for title in layer.opam.get("below", ()) if title in titles}
                self._below[place] = frozenset(one for one in {*ground, *named} if one < place)
        self._known: Dict[Tuple[int, ...], Optional[_Version]] = {}

    def of_all(self) -> Optional[_Version]:
        return self._of(tuple(sorted(self._versions)))

    def _of(self, places: Tuple[int, ...]) -> Optional[_Version]:
        """The union of these layers' versions; None if there is none."""
        if places not in self._known:
            self._known[places] = self._fold(places)
        return self._known[places]

    def _fold(self, places: Tuple[int, ...]) -> Optional[_Version]:
        result: Optional[_Version] = _ABSENT
        for number, place in enumerate(places):
            before = self._of(tuple(one for one in places[:number] if one in self._below[place]))
            if before is None or result is None:
                return None
            result = _three_way(before, result, self._versions[place])
        return result


def _three_way(before: _Version, first: _Version, second: _Version) -> Optional[_Version]:
    if second == before or first == second:
        return first
    if first == before:
        return second
    if first.mode is None or first.mode != second.mode or before.mode not in (None, first.mode):
        return None
    content = line_union.unite(before.content, first.content, second.content)
    return None if content is None else _Version(first.mode, content)


def _version(layer: Path, name: str) -> Optional[_Version]:
    """What a layer's directory makes of a path; None if nothing."""
    found = view_files.status(layer, name)
    if found is None:
        return None
    if not stat.S_ISREG(found.st_mode):
        return _ABSENT
    return _Version(stat.S_IMODE(found.st_mode), view_files.read(layer, name, links=False) or b"")
