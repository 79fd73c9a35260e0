"""Solves many roots, each by itself as `opam install ROOT` in an empty switch would, over the packages that opam describes once.

Writes solutions.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.layer.description import Layer, read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.ask_universe import ask_universe, opam_view
from opam_sandbox.locking.prepared import Prepared, read_prepared
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.requests import SolveRequest
from opam_sandbox.locking.root_requests import RootSolution, RootSolutions, SolveRootsRequest
from opam_sandbox.locking.root_selection import Available, check_selection, select
from opam_sandbox.locking.run_root_solver import Answer, Group, Root, Solver, Wanted
from opam_sandbox.locking.solve import ask_opam, check_known, parse_requirement
from opam_sandbox.locking.universe import Universe
from opam_sandbox.opam import opamfile
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated

SOLUTIONS = "solutions.json"
NameVersion = Tuple[str, str]


def solve_roots(request: SolveRootsRequest, jobs: int) -> int:
    """The step `solve-roots`. Raises ToolError for a selection, a compiler or a constraint that means nothing."""
    prepared = read_prepared(request["prepared"])
    check_selection(request["selection"], prepared.packages, request["repositories"])
    check_known([text for text in request["compilers"] if text], prepared.packages, request["repositories"])
    bounds = tuple(wanted(text) for text in request["constraints"])
    for text, one in zip(request["constraints"], bounds):
        if not one.bounds:
            raise ToolError(f"the constraint {text!r} bounds nothing: write {one.name}=VERSION or {one.name}>=VERSION")
    layers = read_layers(request["layers"])
    program = read_layers([request["solver"]]) if request.get("solver") else []
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        universe, text, more = described(store, layers, prepared, request)
        groups = [compiler_group(one, bounds, request.get("prefer_oldest", False)) for one in request["compilers"]]
        # Also what has no solution: why is a part of the answer.
        everything = Available(universe, universe.available())
        chosen = [select(request["selection"], prepared.packages, everything) for _ in groups]
        if program:
            with mounted(store, [*layers, *program]) as view:
                found = _solved(Solver(view, universe, text, more, jobs), groups, chosen, bool(more))
        else:
            found = [_by_opam(store, layers, prepared, request, *pair) for pair in zip(request["compilers"], chosen)]
        roots = [
            _described(compiler, root, answer, universe, prepared)
            for compiler, roots, answers in zip(request["compilers"], chosen, found)
            for root, answer in zip(roots, answers)
        ]
        solutions: RootSolutions = {
            "roots": roots,
            "facts": {
                "names": sum(bool(name.available) for name in universe.names.values()),
                "versions": sum(len(name.available) for name in universe.names.values()),
                "solver": "solve_roots" if program else "opam",
            },
        }
        write_json(SOLUTIONS, solutions)
        return 0

    return run_isolated(inside)


def wanted(text: str) -> Wanted:
    """A requirement. Raises ToolError."""
    name, bounds = parse_requirement(text)
    return Wanted(name, tuple(bounds))


def compiler_group(compiler: str, bounds: Sequence[Wanted], oldest: bool) -> Group:
    """What all roots with a compiler have in common. compiler: a requirement, or ""."""
    return Group((wanted(compiler),) if compiler else (), tuple(bounds), oldest, ())


def described(
    store: Store, layers: Sequence[Layer], prepared: Prepared, request: Mapping[str, object]
) -> Tuple[Universe, bytes, bytes]:
    """The packages that are available, opam's text of them, and that with tests or documentation ("" if not asked)."""
    more = {"OPAMWITHTEST": "with_test", "OPAMWITHDOC": "with_doc"}
    asked = {variable: "1" for variable, option in more.items() if request.get(option)}
    names: List[str] = list(request["repositories"])  # type: ignore[call-overload]
    # Without the solver's layer, whose OCaml opam would take for the base's.
    with opam_view(store, layers, prepared, names) as view:
        text = ask_universe(view, {})
        return Universe(text), text, ask_universe(view, asked) if asked else b""


def left_of(solver: Solver, groups: Sequence[Group]) -> Iterator[Set[NameVersion]]:
    """(name, version) of what goes with each group's compiler."""
    for left in solver.left(groups):
        yield {
            (name, solver.universe.names[name].versions[number]) for name, numbers in left.items() for number in numbers
        }


def _solved(
    solver: Solver, groups: Sequence[Group], chosen: Sequence[Sequence[NameVersion]], more: bool
) -> List[List[Answer]]:
    return solver.solve(
        [group.with_roots([Root(pinned(root), more) for root in roots]) for group, roots in zip(groups, chosen)]
    )


def pinned(root: NameVersion) -> Wanted:
    name, version = root
    return Wanted(name, (("=", version),) if version else ())


def _by_opam(
    store: Store,
    layers: Sequence[Layer],
    prepared: Prepared,
    request: SolveRootsRequest,
    compiler: str,
    roots: Sequence[NameVersion],
) -> List[Answer]:
    """Each root by a run of opam."""
    answers = []
    for name, version in roots:
        values: SolveRequest = {
            "step": "solve",
            "store": request["store"],
            "layers": request["layers"],
            "prepared": request["prepared"],
            "repositories": request["repositories"],
            "constraints": request["constraints"],
            "requirements": [f"{name}={version}" if version else name, *([compiler] if compiler else [])],
            "with_test": request.get("with_test", False),
            "with_doc": request.get("with_doc", False),
            "prefer_oldest": request.get("prefer_oldest", False),
            "solver": "builtin-0install",
        }
        Path("build.log").unlink(missing_ok=True)  # a reason is what one run prints
        with mounted(store, layers) as view:
            try:
                found = ask_opam(view, values, prepared.base["variables"], [], request["constraints"])
                answers.append(Answer(dict(sorted(found.items()))))
            except ToolError as error:
                answers.append(Answer(None, str(error)))
    return answers


def _described(
    compiler: str, root: NameVersion, answer: Answer, universe: Universe, prepared: Prepared
) -> RootSolution:
    name, version = root
    found: RootSolution = {"name": name, "version": version, "compiler": compiler}
    if answer.packages is not None:
        return {**found, "packages": dict(answer.packages)}
    why = _unavailable(name, version, universe, prepared.packages)
    return {**found, "reason": why or answer.reason}


def _unavailable(name: str, version: str, universe: Universe, packages: Packages) -> Optional[str]:
    """Why opam does not even consider a root."""
    known = universe.names.get(name)
    if known and (version in known.available.values() if version else known.available):
        return None
    versions = [version] if version else sorted(packages.versions(name))[-1:]
    conditions: Dict[str, None] = {}
    for one in versions:
        text = packages.package(name, one).opam.decode("utf-8", "replace")
        for item in opamfile.parse(text, f"{name}.{one}: opam file"):
            if item.name == "available":
                conditions[text[text.find("available") :].split("\n")[0]] = None
    title = f"{name}.{version}" if version else f"no version of {name}"
    said = f": its opam file says `{'`, `'.join(conditions)}`" if conditions else ""
    return f"{title} is {'not ' if version else ''}available in the base{said}"
