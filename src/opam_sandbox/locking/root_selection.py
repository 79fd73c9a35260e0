"""Which roots a selection means: names, patterns, versions and bounds, among what is there and what is available."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import AbstractSet, Dict, List, Sequence, Tuple

from opam_sandbox.debian_versions import compare_versions, version_key
from opam_sandbox.errors import ToolError
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.root_requests import RootSelection
from opam_sandbox.locking.solve import check_known, parse_requirement
from opam_sandbox.locking.universe import Bound, Universe

_COMPARISONS = {
    "=": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}

Root = Tuple[str, str]


def is_pattern(text: str) -> bool:
    """Whether it may mean several names."""
    return any(char in text for char in "*?[")


@dataclass(frozen=True)
class Available:
    """What may be chosen for one compiler: `left` are (name, version) that go with it."""

    universe: Universe
    left: AbstractSet[Root]


def check_selection(selection: RootSelection, packages: Packages, repositories: Sequence[str]) -> None:
    """Raise ToolError for what means nothing, with names that were perhaps meant."""
    if selection.get("latest", 1) < 1:
        raise ToolError(
            f"a selection of roots has the newest {selection.get('latest')} versions: it should be 1 or more"
        )
    problems = []
    names = sorted(packages.names())
    for text in selection["packages"]:
        if is_pattern(text) and not any(fnmatchcase(name, text) for name in names):
            close = difflib.get_close_matches(text.strip("*?"), names, 3)
            meant = f" (did you mean {' or '.join(close)}?)" if close else ""
            problems.append(f"no package of the opam repositories {', '.join(repositories)} matches {text!r}{meant}")
    if problems:
        raise ToolError("\n".join(problems))
    check_known([text for text in selection["packages"] if not is_pattern(text)], packages, repositories)


def select(selection: RootSelection, packages: Packages, available: Available) -> List[Root]:
    """(name, version) of every root, sorted by name, newest first; the version is "" for a name of which nothing is available
    and that was asked for by itself."""
    found: Dict[Root, None] = {}
    for text in selection["packages"]:
        if is_pattern(text):
            for name in packages.names():
                if fnmatchcase(name, text):
                    found.update(dict.fromkeys(_newest(selection, packages, available, name, [])))
            continue
        name, bounds = parse_requirement(text)
        exact = [version for operator, version in bounds if operator == "="]
        chosen = _exactly(packages, name, exact[0]) if len(bounds) == 1 and exact else []
        found.update(dict.fromkeys(chosen or _newest(selection, packages, available, name, bounds) or [(name, "")]))
    by_age = sorted(found, key=lambda root: version_key(root[1]), reverse=True)
    return sorted(by_age, key=lambda root: root[0])


def _exactly(packages: Packages, name: str, version: str) -> List[Root]:
    return [(name, one) for one in packages.versions(name) if compare_versions(one, version) == 0][:1]


def _newest(
    selection: RootSelection, packages: Packages, available: Available, name: str, bounds: Sequence[Bound]
) -> List[Root]:
    versions = _ordered(selection, packages, available, name)
    meeting = [
        version
        for version in versions
        if all(_COMPARISONS[operator](compare_versions(version, bound)) for operator, bound in bounds)
    ]
    return [(name, version) for version in meeting[: selection.get("latest", 1)]]


def _ordered(selection: RootSelection, packages: Packages, available: Available, name: str) -> List[str]:
    """A name's versions, newest first; those that are to be avoided only where there are no others."""
    known = available.universe.names.get(name)
    avoided = {known.versions[number] for number in known.avoided} if known else set()
    if selection.get("available", True):
        there = [known.versions[number] for number in available.universe.newest(name)] if known else []
        versions = [version for version in there if (name, version) in available.left]
    else:
        versions = sorted(packages.versions(name), key=version_key, reverse=True)
    return [version for version in versions if version not in avoided] or versions
