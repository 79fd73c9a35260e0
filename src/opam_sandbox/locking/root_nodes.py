"""Many solutions as one graph: each package over its own dependencies is one node, whoever asked for it.

A root is solved on its own, so a package may be in several solutions with other dependencies (a version that another root does
not allow, an optional dependency that another root brings along). It is built once for each set of dependencies, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.package_files import PackageFiles, check_extra_files, opam_text
from opam_sandbox.locking.repositories import Packages, Variables
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.opam.opamfile import Value

_FILTERED_OUT = ("with-test", "with-doc", "with-dev-setup", "with-tools", "dev")


class CycleError(Exception):
    """The packages of a solution depend on each other in a circle; the message names it."""


@dataclass(frozen=True)
class Node:
    """A package over its dependencies. `title`: "lwt.5.6.1"; `depends`, `post`: numbers of nodes and titles of what opam only
    wants beside it; `asked`: "test" and "doc", where it is built with those."""

    title: str
    depends: Tuple[int, ...]
    post: Tuple[str, ...]
    asked: Tuple[str, ...] = ()


@dataclass(frozen=True)
class RootNodes:
    """`node`: the root's own; `later`: what its solution has besides, and is not below it."""

    node: int
    later: Tuple[int, ...]


class Described:
    """What a package of the repositories says, read once."""

    def __init__(self, packages: Packages, variables: Variables) -> None:
        self._packages = packages
        self._variables: Variables = {**variables, "build": True, **{name: False for name in _FILTERED_OUT}}
        self._known: Dict[str, _Facts] = {}
        self._dependencies: Dict[Tuple[str, Tuple[str, ...], Tuple[str, ...]], formulas.Dependencies] = {}

    def facts(self, title: str) -> _Facts:
        """Of a package, "lwt.5.6.1". Raises ToolError for one that cannot be used."""
        if title not in self._known:
            self._known[title] = self._read(title)
        return self._known[title]

    def _read(self, title: str) -> _Facts:
        name, _, version = title.partition(".")
        found = self._packages.package(name, version)
        text, notes = opam_text(found, title)
        items = opamfile.parse(text, f"{title}: opam file")
        notes += check_extra_files(items, found.files, title, self._variables)
        fields = {item.name: item.value for item in items}
        values = [value for value in (fields.get("depends"), fields.get("depopts")) if value is not None]
        depexts = fields.get("depexts")
        return _Facts(
            text,
            found,
            values,
            tuple(sorted({one for value in values for one, _ in formulas.atoms(value)})),
            formulas.depexts(depexts, self._variables) if depexts is not None else [],
            notes,
            self._platform() in formulas.strings(fields.get("x-ci-accept-failures")),
        )

    def _platform(self) -> str:
        """As opam files name the base in `x-ci-accept-failures`: "debian-13"."""
        return f"{self._variables.get('os-distribution', '')}-{self._variables.get('os-version', '')}"

    def dependencies(self, title: str, solution: Mapping[str, str], asked: Tuple[str, ...]) -> formulas.Dependencies:
        """What a package needs of a solution (name -> version). `asked`: "test", "doc", whose dependencies count."""
        facts = self.facts(title)
        # Only what the formulas name has a say, and most solutions agree about it.
        key = (title, tuple(f"{name}.{solution[name]}" for name in facts.named if name in solution), asked)
        if key not in self._dependencies:
            name, _, version = title.partition(".")
            variables = {**self._variables, **{f"with-{kind}": True for kind in asked}}
            self._dependencies[key] = formulas.dependencies(facts.formulas, name, version, solution, variables)
        return self._dependencies[key]


@dataclass(frozen=True)
class _Facts:
    text: str
    files: PackageFiles
    formulas: Sequence[Value]
    named: Tuple[str, ...]
    depexts: Sequence[str]
    notes: Sequence[str]
    accept_failures: bool


class Graph:
    """The nodes of all solutions that were added, dependencies first."""

    def __init__(self, described: Described) -> None:
        self._described = described
        self.nodes: List[Node] = []
        self._numbers: Dict[Node, int] = {}
        self._below: List[FrozenSet[int]] = []
        self._post: List[FrozenSet[str]] = []

    def add(self, root: str, solution: Mapping[str, str], asked: Tuple[str, ...]) -> RootNodes:
        """Add a root's solution (name -> version). `asked`: what the root is built with. Raises CycleError, ToolError."""
        found = _Solution(self, self._described, solution, root, asked)
        node = found.number(root)
        below = self.below(node)
        later: Set[int] = set()
        waiting = self._post[node]
        seen: Set[str] = set()
        while waiting:
            seen.update(waiting)
            numbers = {found.number(name_of(title)) for title in waiting}
            later.update(numbers, *(self._below[number] for number in numbers))
            waiting = frozenset(title for number in numbers for title in self._post[number]) - seen
        return RootNodes(node, tuple(sorted(later - below)))

    def accepts_failures(self, title: str) -> bool:
        """Whether a package's opam file says that it may fail on the base."""
        return self._described.facts(title).accept_failures

    def below(self, number: int) -> FrozenSet[int]:
        """A node and all that is below it."""
        return self._below[number]

    def later(self, number: int) -> Tuple[str, ...]:
        """Titles of the post-dependencies of a node and of all below it that are not below it themselves."""
        found = self._post[number] - {self.nodes[below].title for below in self._below[number]}
        return tuple(sorted(found, key=name_of))

    def intern(self, node: Node) -> int:
        """The number of a node."""
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            self._below.append(frozenset([len(self.nodes) - 1]).union(*(self._below[one] for one in node.depends)))
            self._post.append(frozenset(node.post).union(*(self._post[one] for one in node.depends)))
        return self._numbers[node]


class _Solution:
    """The nodes of one solution, by name."""

    def __init__(
        self, graph: Graph, described: Described, solution: Mapping[str, str], root: str, asked: Tuple[str, ...]
    ) -> None:
        self._graph = graph
        self._described = described
        self._solution = solution
        self._asked = {root: asked}
        self._numbers: Dict[str, int] = {}

    def number(self, start: str) -> int:
        """Of a package's node; those below it are made first, without recursion."""
        path: List[Tuple[str, formulas.Dependencies]] = []
        waiting = [start]
        while waiting:
            name = waiting[-1]
            if name in self._numbers:
                waiting.pop()
                continue
            if not path or path[-1][0] != name:
                if any(name == one for one, _ in path):
                    circle = [one for one, _ in path]
                    raise CycleError(" -> ".join([*circle[circle.index(name) :], name]))
                path.append((name, self._needs(name)))
            needs = path[-1][1]
            missing = [one for one in needs.build if one not in self._numbers]
            if missing:
                waiting.append(missing[0])
                continue
            path.pop()
            waiting.pop()
            self._numbers[name] = self._intern(name, needs)
        return self._numbers[start]

    def _title(self, name: str) -> str:
        return f"{name}.{self._solution[name]}"

    def _needs(self, name: str) -> formulas.Dependencies:
        return self._described.dependencies(self._title(name), self._solution, self._asked.get(name, ()))

    def _intern(self, name: str, needs: formulas.Dependencies) -> int:
        depends = tuple(sorted(self._numbers[one] for one in needs.build))
        post = tuple(sorted(map(self._title, needs.post)))
        return self._graph.intern(Node(self._title(name), depends, post, self._asked.get(name, ())))


def name_of(title: str) -> str:
    """The name in "lwt.5.6.1"."""
    return title.partition(".")[0]


def titles(nodes: Iterable[Node]) -> List[str]:
    """The packages of nodes, each once, sorted."""
    return sorted({node.title for node in nodes})


def unusable(described: Described, solution: Mapping[str, str]) -> str:
    """Why a solution has a package that cannot be used; "" where all can."""
    for name, version in solution.items():
        try:
            described.facts(f"{name}.{version}")
        except ToolError as error:
            return str(error)
    return ""
