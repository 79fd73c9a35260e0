"""Asks opam's own solver, inside the base, for the packages that meet a resolve's requirements.

The requirements are named to opam as a user would name them to `opam install` in an empty switch, so that its solution is
the one that the user would get. What a command line cannot say, such as bounds of packages that may or may not be chosen, is in
the opam file of one pinned package, which stands for the resolve.

Writes solution.json.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from opam_sandbox.debian_versions import compare_versions, version_key
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.check_by_opam import check_by_opam
from opam_sandbox.locking.pin_depends import pin_constraints
from opam_sandbox.locking.prepared import read_prepared, state_caches
from opam_sandbox.locking.project_files import ProjectFile, read_project_files
from opam_sandbox.locking.repositories import Packages, configure
from opam_sandbox.locking.requests import SolveRequest
from opam_sandbox.locking.solution import described_solution
from opam_sandbox.opam.strings import quote
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, environment
from opam_sandbox.request import safe_name
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG, View

ROOTS = "pants-requirements"
SOLUTION = "solution.json"
_BOUNDS = r"(?:\s*(?:[,&]\s*)?(?:=|!=|<=|>=|<|>)\s*[^\s<>=!,&]+)*"
_REQUIREMENT = re.compile(rf"([A-Za-z0-9_][A-Za-z0-9_+-]*)(?:\.([^\s<>=!,&]+)|({_BOUNDS}))\s*$")
_BOUND = re.compile(r"(=|!=|<=|>=|<|>)\s*([^\s<>=!,&]+)")
_SWITCH = f"{OPAM_ROOT}/default/.opam-switch"
_LISTED_VERSIONS = 12


def parse_requirement(text: str) -> Tuple[str, List[Tuple[str, str]]]:
    """`lwt`, `lwt.5.6.1`, `lwt=5.6.1`, `lwt>=5.6,<6` -> the name and its (operator, version) bounds."""
    match = _REQUIREMENT.match(text.strip())
    if not match:
        raise ToolError(
            f"{text!r} is not an opam requirement: write NAME, NAME.VERSION, NAME=VERSION or NAME>=VERSION,<VERSION"
        )
    name, exact, bounds = match.groups()
    return name, [("=", exact)] if exact else _BOUND.findall(bounds or "")


_NEGATED = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def roots_opam(requirements: Sequence[str], constraints: Sequence[str]) -> str:
    """The opam file of the package that stands for the request; "" where the command line says all of it."""

    def atom(name: str, bounds: Sequence[Tuple[str, str]], joint: str) -> str:
        return f"  {quote(name)} {{{joint.join(f'{op} {quote(version)}' for op, version in bounds)}}}\n"

    depends = "".join(
        atom(name, bounds, " & ") for name, bounds in map(parse_requirement, requirements) if len(bounds) > 1
    )
    conflicts = ""
    for text in constraints:
        name, bounds = parse_requirement(text)
        if not bounds:
            raise ToolError(f"the constraint {text!r} bounds nothing: write {name}=VERSION or {name}>=VERSION")
        conflicts += atom(name, [(_NEGATED[op], version) for op, version in bounds], " | ")
    if not depends and not conflicts:
        return ""
    return f'opam-version: "2.0"\nname: "{ROOTS}"\nversion: "1"\ndepends: [\n{depends}]\nconflicts: [\n{conflicts}]\n'


def atoms(requirements: Sequence[str]) -> List[str]:
    """The requirements as `opam install` takes them; of several bounds none, as it takes but one."""
    result = []
    for text in requirements:
        name, bounds = parse_requirement(text)
        result.append(f"{name}{bounds[0][0]}{bounds[0][1]}" if len(bounds) == 1 else name)
    return list(dict.fromkeys(result))


def solve(request: SolveRequest) -> int:
    """The step `solve`. Raises ToolError with opam's explanation where there is no solution."""
    _, packages, base = read_prepared(request["prepared"])
    own = read_project_files(request.get("local", []), packages, base["variables"])
    built = {file.name: file.version for file in own if file.build}
    check_known(request["requirements"], packages, request["repositories"], built)
    constraints = [*request["constraints"], *pin_constraints(own, packages, request.get("root", ""))]
    roots = {parse_requirement(text)[0] for text in request["requirements"]}
    asked = ["test"] * request.get("with_test", False) + ["doc"] * request.get("with_doc", False)
    layers = read_layers(request["layers"])
    rootless = is_rootless()

    def inside() -> int:
        with mounted(Store(Path(request["store"]), rootless), layers) as view:
            solution = ask_opam(view, request, base["variables"], own, constraints)
            described = described_solution(solution, packages, base["variables"], roots, asked, own)
            check_by_opam(view, described["packages"])
        Path(SOLUTION).write_text(json.dumps(described, indent=1))
        return 0

    return run_isolated(inside)


def check_known(
    requirements: Sequence[str],
    packages: Packages,
    repositories: Sequence[str],
    built: Optional[Mapping[str, str]] = None,
) -> None:
    """Raise ToolError for requirements that no repository has, with names and versions that were perhaps meant.

    built: name -> version of the project's own packages, which stand in place of those of the repositories.
    """
    problems = []
    for text in requirements:
        name, bounds = parse_requirement(text)
        if built and name in built:
            continue
        versions = packages.versions(name)
        if not versions:
            close = difflib.get_close_matches(name, packages.names(), 3)
            meant = f" (did you mean {' or '.join(close)}?)" if close else ""
            problems.append(f"no package {name} in the opam repositories {', '.join(repositories)}{meant}")
        for op, version in bounds:
            if op == "=" and versions and not any(compare_versions(version, one) == 0 for one in versions):
                newest = sorted(versions, key=version_key, reverse=True)[:_LISTED_VERSIONS]
                problems.append(
                    f"no version {version} of {name} in the opam repositories {', '.join(repositories)}; they have "
                    f"{', '.join(newest)}{' and older ones' if len(versions) > len(newest) else ''}"
                )
    if problems:
        raise ToolError("\n".join(problems))


def ask_opam(
    view: View,
    request: SolveRequest,
    variables: Mapping[str, str],
    local: Sequence[ProjectFile],
    constraints: Sequence[str],
) -> Dict[str, str]:
    """Name -> version of every package of opam's solution. Raises ToolError with opam's explanation if there is none."""
    requirements = request["requirements"]
    configure(view, request["repositories"])
    pinned = {file.name: (file.version, file.pinned()) for file in local}
    own = roots_opam(requirements, constraints)
    if own:
        pinned[ROOTS] = ("1", own)
    listed = " ".join(quote(f"{name}.{version}") for name, (version, _) in pinned.items())
    view.write_files(
        [
            *state_caches(request["prepared"]),
            *(
                (f"{_SWITCH}/overlay/{name}/opam", text.encode("utf-8", "surrogateescape"))
                for name, (_, text) in pinned.items()
            ),
            (f"{_SWITCH}/switch-state", f'opam-version: "2.0"\npinned: [{listed}]\n'.encode()),
        ]
    )
    argv = ["opam", "install", "--dry-run", "--yes", "--no-depexts", f"--json=/tmp/{SOLUTION}"]
    argv += ["--with-test"] * request.get("with_test", False) + ["--with-doc"] * request.get("with_doc", False)
    env = {**environment(1), "OPAMSOLVERTIMEOUT": "600", "OPAMERRLOGLEN": "100", **_solver(request)}
    asked_for = list(dict.fromkeys([*atoms(requirements), *pinned]))
    done = view.overlay.run([*argv, *asked_for], env, view.log, user=True, cwd=f"/{HOME}")
    if done.returncode != 0:
        where = ", ".join(
            f"{key}={variables[key]}" for key in ("os-distribution", "os-version", "arch") if key in variables
        )
        asked = ", ".join([*requirements, *(name for name in pinned if name != ROOTS)])
        raise ToolError(f"opam finds no solution for {asked} on {where}:\n{_explanation(view.log_text(), constraints)}")
    return read_answer(view_files.read_text(view.root / "tmp", SOLUTION))


def _solver(request: SolveRequest) -> Dict[str, str]:
    solver = request.get("solver", "")
    if request.get("prefer_oldest", False):
        # What opam's own tests of lower bounds use. mccs, with a criterion that maximises, takes a minute, and installs
        # packages that nobody asked for as they are old.
        return {
            "OPAMEXTERNALSOLVER": solver or "builtin-0install",
            "OPAMCRITERIA": "+removed,+count[version-lag,solution]",
        }
    return {"OPAMEXTERNALSOLVER": solver} if solver else {}


def _explanation(printed: str, constraints: Sequence[str]) -> str:
    lines = printed.splitlines()
    kept = [line for line in lines if line.strip() and not line.startswith(("<><>", "[NOTE]"))]
    text = (
        "\n".join(f"  {line}" for line in kept[-40:]).replace(f"{ROOTS}.1", "the resolve").replace(ROOTS, "the resolve")
    )
    return text + (f"\n  (with the constraints {', '.join(constraints)})" if constraints else "")


def read_answer(text: Optional[str]) -> Dict[str, str]:
    """Name -> version of what opam's JSON says that it would install, without the roots' own package. Raises ToolError."""
    try:
        answer = json.loads(text or "")
        installed = [action["install"] for action in answer["solution"] if "install" in action]
        solution = {safe_name(action["name"]): safe_name(action["version"]) for action in installed}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RequestError) as error:
        raise ToolError(f"opam's answer is not understood ({error!r:.200}), see {LOG}") from None
    solution.pop(ROOTS, None)
    return solution
