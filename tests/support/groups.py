"""Which tests run in one process when there are several, in which order, and how long that took.

xdist gives each process the next group of tests when it has almost nothing left to do.
"""

from __future__ import annotations

from collections import defaultdict
from typing import AbstractSet, Any, Dict, Iterable, List, Sequence, Set, Tuple

Item = Any  # a test of pytest, whose fixtures its public interface does not tell


def _definitions(item: Item) -> Dict[str, Any]:
    """Name -> what a fixture of that name is to this test: files have fixtures of their own with the names of others."""
    info = getattr(item, "_fixtureinfo", None)
    return {name: found[-1] for name, found in info.name2fixturedefs.items()} if info else {}


def file_of(item: Item) -> str:
    return str(item.nodeid.partition("::")[0])


def one_process(items: Iterable[Item], fixtures: AbstractSet[str], directory: str) -> Set[str]:
    """The tests (node ids) that use one of the fixtures that `directory`/conftest.py defines, and those that share a fixture
    of their file with one of them, which would be set up twice otherwise."""
    found: Set[str] = set()
    uses: Dict[Tuple[str, str], List[str]] = defaultdict(list)  # (file, fixture of the file) -> tests
    shares: Dict[str, List[Tuple[str, str]]] = {}
    for item in items:
        definitions = _definitions(item)
        if any(name in fixtures and one.baseid == directory for name, one in definitions.items()):
            found.add(item.nodeid)
        shares[item.nodeid] = [(file_of(item), name) for name, one in definitions.items() if one.scope == "module"]
        for shared in shares[item.nodeid]:
            uses[shared].append(item.nodeid)
    waiting = list(found)
    while waiting:
        for shared in shares[waiting.pop()]:
            more = set(uses[shared]) - found
            found |= more
            waiting += more
    return found


def in_order(groups: Sequence[str], first: Sequence[str]) -> List[int]:
    """Where each test stands when groups are put in order: those of `first`, then the others as they are. `groups`: each
    test's. Tests of a group stay in their order."""
    rank = {name: number for number, name in enumerate(first)}
    return sorted(range(len(groups)), key=lambda place: rank.get(groups[place], len(first)))


class Times:
    """Seconds of each group in each process."""

    def __init__(self) -> None:
        self._seconds: Dict[str, Dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, process: str, nodeid: str, seconds: float) -> None:
        """nodeid: xdist's, which ends with `@` and the group."""
        self._seconds[process][nodeid.rpartition("@")[2]] += seconds

    def lines(self, least: float = 30) -> List[str]:
        """One for each process, and for each of its groups that took `least` seconds or more, longest first."""
        told = []
        for process, groups in sorted(self._seconds.items()):
            told.append(f"{sum(groups.values()):7.0f}s {process}")
            for group, seconds in sorted(groups.items(), key=lambda entry: -entry[1]):
                if seconds >= least:
                    told.append(f"{seconds:7.0f}s   {group}")
        return told
