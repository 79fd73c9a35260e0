"""Lists what is available in a base, or goes with a compiler; or what can be installed together with a package.

Writes roots.json.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

from opam_sandbox.debian_versions import version_key
from opam_sandbox.files import write_json
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.prepared import read_prepared
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.reverse_dependencies import reverse_dependencies
from opam_sandbox.locking.root_requests import (
    CompilerRoots,
    ListedRoot,
    ListedRoots,
    ListRootsRequest,
    ReverseDependency,
)
from opam_sandbox.locking.root_selection import Available, select
from opam_sandbox.locking.run_root_solver import Answer, Group, Root, Solver
from opam_sandbox.locking.solve import check_known
from opam_sandbox.locking.solve_roots import compiler_group, described, left_of, pinned, wanted
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated

ROOTS = "roots.json"
NameVersion = Tuple[str, str]
# The value may stand in the next line.
_SYNOPSIS = re.compile(r'(?m)^synopsis\s*:\s*("{3}(?:[^"\\]|\\.|"(?!""))*"{3}|"(?:[^"\\]|\\.)*")', re.DOTALL)


class _Found(NamedTuple):
    """Reverse dependencies of one package, not yet solved, and the group to solve them in."""

    entries: List[ReverseDependency]
    group: Group


def list_roots(request: ListRootsRequest, jobs: int) -> int:
    """The step `list-roots`. Raises ToolError for packages and compilers that no repository has."""
    prepared = read_prepared(request["prepared"])
    packages = prepared.packages
    asked = request.get("revdeps_of", [])
    check_known([*asked, *(text for text in request["compilers"] if text)], packages, request["repositories"])
    bounds = [wanted(text) for text in request.get("constraints", [])]
    layers, program = read_layers(request["layers"]), read_layers([request["solver"]])
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        tests = {"with_test": bool(asked), "repositories": request["repositories"]}
        universe, text, more = described(store, layers, prepared, tests)
        groups = [compiler_group(one, bounds, False) for one in request["compilers"]]
        found: List[CompilerRoots] = []
        with mounted(store, [*layers, *program]) as view:
            # Tests count only for who depends, not for what is installed.
            solver = Solver(view, universe, text, b"", jobs)
            # What opam and a selection of roots take for available does not depend on what else there is.
            narrow = bool(asked) or request.get("installable", False)
            lefts = left_of(solver, groups) if narrow else iter([universe.available()] * len(groups))
            for compiler, group, left in zip(request["compilers"], groups, lefts):
                available = Available(universe, left)
                one: CompilerRoots = {
                    "compiler": compiler,
                    # Reading thousands of opam files takes longer than the question.
                    "packages": [] if asked else _listed(packages, available, request.get("all_versions", False)),
                    "revdeps": _revdeps(solver, packages, available, group, asked, more),
                }
                found.append(one)
        result: ListedRoots = {"compilers": found}
        write_json(ROOTS, result)
        return 0

    return run_isolated(inside)


def _listed(packages: Packages, available: Available, all_versions: bool) -> List[ListedRoot]:
    if all_versions:
        by_age = sorted(available.left, key=lambda root: version_key(root[1]), reverse=True)
        roots = sorted(by_age, key=lambda root: root[0])
    else:
        roots = select({"packages": ["*"]}, packages, available)
    return [_listed_root(packages, name, version) for name, version in roots]


def _listed_root(packages: Packages, name: str, version: str) -> ListedRoot:
    found: ListedRoot = {"name": name, "version": version}
    text = packages.package(name, version).opam.decode("utf-8", "replace")
    synopsis = synopsis_of(text)
    if synopsis:
        found["synopsis"] = synopsis
    return found


def synopsis_of(text: str) -> str:
    """What an opam file says of itself in one line, "" where it does not. Only this is read of the file: there are thousands."""
    literal = _SYNOPSIS.search(text)
    if literal is None:
        return ""
    return " ".join(" ".join(formulas.strings(opamfile.parse(f"synopsis: {literal[1]}", "synopsis")[0].value)).split())


def _revdeps(
    solver: Solver, packages: Packages, available: Available, group: Group, asked: Sequence[str], more: bytes
) -> List[ReverseDependency]:
    chosen = [root for text in asked for root in select({"packages": [text]}, packages, available)]
    targets = list(dict.fromkeys(root for root in chosen if root in available.left))
    together = [Group((*group.wanted, pinned(target)), group.bounds, group.oldest, ()) for target in targets]
    if not targets:
        return []
    found: List[_Found] = []
    for target, one, left in zip(targets, together, left_of(solver, together)):
        # The newest versions that go with this one.
        newest = select({"packages": ["*"]}, packages, Available(solver.universe, left))
        entries = reverse_dependencies(solver.universe, packages, newest, target, more)
        roots = [Root(pinned((entry["name"], entry["version"]))) for entry in entries]
        found.append(_Found(entries, one.with_roots(roots)))
    answers = solver.solve([item.group for item in found])
    return [entry for item, some in zip(found, answers) for entry in _solved(item.entries, some)]


def _solved(entries: Sequence[ReverseDependency], answers: Sequence[Answer]) -> List[ReverseDependency]:
    return [
        {**entry, "packages": dict(answer.packages)}
        for entry, answer in zip(entries, answers)
        if answer.packages is not None
    ]
