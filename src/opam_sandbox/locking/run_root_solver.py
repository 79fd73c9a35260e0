"""Runs the program that solves roots, and puts its answers into opam's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.root_solver import PROGRAM
from opam_sandbox.locking.universe import Bound, Universe, declared
from opam_sandbox.opam.switch import HOME, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

_NUMBERED = re.compile(r"\b([A-Za-z0-9%+@/()-]+)\.([0-9]+)\b")
_LONGEST_REASON = 40


class Wanted(NamedTuple):
    """A package that an answer must have, within bounds in opam's words."""

    name: str
    bounds: Tuple[Bound, ...]


@dataclass(frozen=True)
class Root:
    """A root and what is wanted with it. more: with what its tests or documentation need."""

    wanted: Wanted
    more: bool = False


@dataclass(frozen=True)
class Group:
    """Roots with what they have in common. bounds: of packages that an answer may have."""

    wanted: Tuple[Wanted, ...]
    bounds: Tuple[Wanted, ...]
    oldest: bool
    roots: Tuple[Root, ...]

    def with_roots(self, roots: Sequence[Root]) -> Group:
        """The group with these in the place of its roots."""
        return Group(self.wanted, self.bounds, self.oldest, tuple(roots))


@dataclass(frozen=True)
class Answer:
    """`packages` by name, or None and the `reason`."""

    packages: Optional[Mapping[str, str]]
    reason: str = ""


@dataclass(frozen=True)
class Solver:
    """The program in a view that has it, and the universes that opam described. more: with tests or documentation; "" if not."""

    view: View
    universe: Universe
    text: bytes
    more: bytes
    jobs: int

    def left(self, groups: Sequence[Group]) -> List[Dict[str, List[int]]]:
        """For each group what goes with what it wants, as far as is seen at once: name -> numbers of versions."""
        lines = []
        for number, group in enumerate(groups):
            lines += [self._group(group), f"left\t{number}"]
        answers = self._run(lines)
        found: List[Dict[str, List[int]]] = []
        for number in range(len(groups)):
            left: Dict[str, List[int]] = {}
            for name, version in _pairs(answers[number][1:]):
                left.setdefault(self.universe.own_name(name), []).append(version)
            found.append(left)
        return found

    def solve(self, groups: Sequence[Group]) -> List[List[Answer]]:
        """The answers for each group's roots."""
        lines: List[str] = []
        count = 0
        for group in groups:
            lines.append(self._group(group))
            for root in group.roots:
                bounds = self.universe.bounds(root.wanted.name, root.wanted.bounds)
                kind = "more" if root.more else "plain"
                lines.append("\t".join(["root", str(count), self._cudf(root.wanted.name), kind, *bounds]))
                count += 1
        answers = self._run(lines)
        if len(answers) != count:
            raise ToolError(f"the solver of roots gave {len(answers)} answers to {count} questions")
        found = iter(range(count))
        return [[self._answer(answers[next(found)]) for _ in group.roots] for group in groups]

    def _group(self, group: Group) -> str:
        names = [self._cudf(one.name) for one in group.wanted]
        bounds = [text for one in (*group.wanted, *group.bounds) for text in self.universe.bounds(one.name, one.bounds)]
        return "\t".join(["group", "oldest" if group.oldest else "newest", *names, ";", *bounds])

    def _cudf(self, name: str) -> str:
        known = self.universe.names.get(name)
        return known.cudf if known else name

    def _run(self, lines: Sequence[str]) -> Dict[int, List[str]]:
        """Number -> kind and the other fields."""
        top = f"{HOME}/roots"
        files = {"universe": declared(self.text), "roots": "".join(f"{line}\n" for line in lines).encode()}
        if self.more:
            files["more"] = declared(self.more)
        self.view.write_files([(f"{top}/{name}", content) for name, content in files.items()])
        more = f"/{top}/more" if self.more else ""
        argv = [f"/{PROGRAM}", f"/{top}/universe", more, f"/{top}/roots", str(self.jobs), "/tmp/answers"]
        env = {**environment(1), "OCAMLRUNPARAM": "o=120"}
        done = self.view.overlay.run(argv, env, self.view.log, user=True, cwd=f"/{HOME}")
        if done.returncode != 0:
            raise ToolError(f"the solver of roots failed:\n{self.view.log_text()[-4000:].rstrip()}")
        found: Dict[int, List[str]] = {}
        for job in range(self.jobs):
            text = view_files.read_text(self.view.root / "tmp", f"answers.{job}") or ""
            for line in text.splitlines():
                kind, number, *rest = line.split("\t")
                found[int(number)] = [kind, *rest]
        return found

    def _answer(self, fields: Sequence[str]) -> Answer:
        kind, *rest = fields
        if kind == "solved":
            versions = {}
            for cudf, number in _pairs(rest):
                name = self.universe.own_name(cudf)
                if name in self.universe.names:
                    versions[name] = self.universe.names[name].versions[number]
            return Answer(dict(sorted(versions.items())))
        if kind == "none":
            return Answer(None, "\n".join(rest))
        if kind == "late":
            return Answer(None, f"The solver found neither an answer nor a reason within {rest[0]} seconds.")
        return Answer(None, self.in_opams_words(rest))

    def in_opams_words(self, lines: Sequence[str]) -> str:
        """A reason of the library's: of all packages only those without a version, with versions in the place of numbers."""
        kept: List[str] = []
        problem = ""
        for line in lines:
            if line.startswith("- "):
                name, _, chosen = line[2:].partition(" -> ")
                problem = name if chosen == "(problem)" else ""
                if problem:
                    kept.append(f"no version of {self.universe.own_name(name)} goes with the others:")
            elif problem and line.strip() and line.strip() != "Rejected candidates:":
                kept.append(f"  {self._versions_in(line.strip(), problem)}")
        return "\n".join(kept[:_LONGEST_REASON]) or "The packages that it needs cannot be installed together."

    def _versions_in(self, line: str, role: str) -> str:
        line = _NUMBERED.sub(lambda found: self._title(found[1], found[2]) or found[0], line)
        # A name in front of a number, or of a bound with one, says whose version it is.
        found = re.match(r"(\S+) ([0-9]+) requires (.*)", line)
        if found:
            title = self._title(found[1], found[2]) or f"{found[1]}.{found[2]}"
            return f"{title} requires {self.universe.own_name(role)} {self._bounds_in(found[3], role)}"
        found = re.match(r"(.*: Requires )(\S+) (.*)", line)
        if found:
            return f"{found[1]}{self.universe.own_name(found[2])} {self._bounds_in(found[3], found[2])}"
        found = re.match(r"(.*(?:restriction:|User requested) )(.*)", line)
        return f"{found[1]}{self._bounds_in(found[2], role)}" if found else line

    def _title(self, cudf: str, number: str) -> Optional[str]:
        name = self.universe.own_name(cudf)
        version = self.universe.names[name].versions.get(int(number)) if name in self.universe.names else None
        return f"{name}.{version}" if version is not None else None

    def _bounds_in(self, text: str, cudf: str) -> str:
        known = self.universe.names.get(self.universe.own_name(cudf))
        if not known:
            return text
        return re.sub(r"(?<=[=<>] )[0-9]+", lambda found: known.versions.get(int(found[0]), found[0]), text)


def _pairs(fields: Sequence[str]) -> Iterator[Tuple[str, int]]:
    for field in fields:
        name, _, number = field.rpartition("=")
        yield name, int(number)
