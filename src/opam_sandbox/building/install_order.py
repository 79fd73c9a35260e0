"""In which order dpkg unpacks and configures .debs, so that each finds what it pre-depends on.

dpkg unpacks whatever it is told, in the order that it is told, but nothing whose Pre-Depends are not configured. Which .debs wait
for which is worked out here, as apt does: a step unpacks all that can be unpacked; if some have to wait, it also configures all
that can be configured. Within a step dpkg finds the order by itself, circles of Depends included.

Sources: Debian policy 7.2 (Pre-Depends), 7.5 (Provides); deb-control(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from opam_sandbox import deb822
from opam_sandbox.debian_versions import compare_debian

# name, operator and version; both "" where any will do.
Relation = Tuple[str, str, str]
# Of each group one.
Formula = List[List[Relation]]

_RELATION = re.compile(r"\s*([^\s(:\[<]+)(?::[^\s(]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^)\s]+)\s*\))?")
_HOLDS: Dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<": lambda order: order <= 0,  # as dpkg still reads them
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


@dataclass(frozen=True)
class Control:
    """What a package's control fields say, as far as the order depends on it."""

    name: str
    version: str
    provides: Formula
    pre_depends: Formula
    depends: Formula


@dataclass(frozen=True)
class Step:
    """Places in the list of .debs: what to unpack, and what to configure afterwards; both sorted."""

    unpack: Tuple[int, ...]
    configure: Tuple[int, ...]


class Deadlock(Exception):
    """Packages wait for one another; says which, and for what."""


def read_control(stanza: str) -> Control:
    """A stanza of control fields, of a .deb or of dpkg's status."""
    fields = {name.lower(): value for name, value in deb822.fields(stanza).items()}
    return Control(
        fields.get("package", ""),
        fields.get("version", ""),
        _formula(fields.get("provides", "")),
        _formula(fields.get("pre-depends", "")),
        _formula(fields.get("depends", "")),
    )


def is_configured(stanza: str) -> bool:
    """Whether a paragraph of dpkg's status is of a package that others can rely on."""
    status = deb822.fields(stanza).get("Status", "").split()
    return status[-1:] in (["installed"], ["triggers-pending"])


def steps(debs: Sequence[Control], installed: Iterable[Control]) -> List[Step]:
    """The steps that install `debs` where `installed` are configured; the last configures whatever is left.

    Raises Deadlock where no order meets all Pre-Depends.
    """
    configured = _Known()
    for control in installed:
        configured.add(control)
    left = dict(enumerate(debs))
    unpacked: Dict[int, Control] = {}
    result: List[Step] = []
    while left:
        ready = {place: deb for place, deb in left.items() if configured.unmet(deb.pre_depends) is None}
        for place in ready:
            del left[place]
        unpacked.update(ready)
        if not left:
            result.append(Step(tuple(sorted(ready)), tuple(sorted(unpacked))))
            break
        now = _configurable(unpacked, configured)
        if not ready and not now:
            raise Deadlock(_explanation(left, configured))
        for place in now:
            configured.add(unpacked.pop(place))
        result.append(Step(tuple(sorted(ready)), tuple(now)))
    return result


def _configurable(unpacked: Mapping[int, Control], configured: "_Known") -> List[int]:
    """The largest part of what is unpacked that needs nothing but itself and what is configured."""
    part = dict(unpacked)
    while True:
        known = _Known(configured)
        for control in part.values():
            known.add(control)
        kept = {place: control for place, control in part.items() if known.unmet(control.depends) is None}
        if len(kept) == len(part):
            return sorted(kept)
        part = kept


def _explanation(left: Mapping[int, Control], configured: "_Known") -> str:
    lines = []
    for control in left.values():
        group = configured.unmet(control.pre_depends) or []
        wanted = " | ".join(
            name + (f" ({operator} {version})" if operator else "") for name, operator, version in group
        )
        lines.append(f"{control.name} pre-depends on {wanted}")
    return "; ".join(lines)


class _Known:
    """Names and the versions that they stand for, those of `Provides` included ("" for one without a version)."""

    def __init__(self, other: "Optional[_Known]" = None) -> None:
        self._versions: Dict[str, List[str]] = {}
        if other is not None:
            self._versions = {name: list(versions) for name, versions in other._versions.items()}

    def add(self, control: Control) -> None:
        self._versions.setdefault(control.name, []).append(control.version)
        for group in control.provides:
            for name, operator, version in group:
                self._versions.setdefault(name, []).append(version if operator == "=" else "")

    def unmet(self, formula: Formula) -> Optional[List[Relation]]:
        """The first group of which nothing is known; None if there is none."""
        for group in formula:
            if not any(self._meets(relation) for relation in group):
                return group
        return None

    def _meets(self, relation: Relation) -> bool:
        name, operator, wanted = relation
        versions = self._versions.get(name, ())
        if not operator:
            return bool(versions)
        return any(version and _HOLDS[operator](compare_debian(version, wanted)) for version in versions)


def _formula(text: str) -> Formula:
    groups = []
    for group in text.replace("\n", " ").split(","):
        found = [_RELATION.match(alternative) for alternative in group.split("|")]
        relations = [(match[1], match[2] or "", match[3] or "") for match in found if match]
        if relations:
            groups.append(relations)
    return groups
