"""Asks opam's own solver, inside the base, for the packages that meet a resolve's requirements.

The requirements are named to opam as a user would name them to `opam install` in an empty switch, so that its solution is
the one that he would get. What a command line cannot say, such as bounds of packages that may or may not be chosen, is in
the opam file of one pinned package, which stands for the resolve.

The request: {"store", "layers", "prepared": directory, "repositories": [names], "requirements": [...],
"constraints": [...], "local": [{"name", "opam": text}], "with_test", "with_doc", "prefer_oldest": booleans,
"solver": name or ""}. Writes solution.json:

    {"packages": [{"name", "version", "opam" (undecodable bytes as surrogates), "files": [[path, base64]], "depends", "post",
                   "test", "doc": [names], "depexts": [names]}], "notes": [sentences for the user]}
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from opam_sandbox import opamfile
from opam_sandbox.errors import ToolError
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.layer import read_layers
from opam_sandbox.locking import formulas
from opam_sandbox.locking.repositories import Packages, Variables, configure
from opam_sandbox.maker import LOG, Timer, View
from opam_sandbox.opamfile import quote
from opam_sandbox.opamroot import HOME, OPAM_ROOT, environment, write_files
from opam_sandbox.overlay import Overlay
from opam_sandbox.request import Request, safe_name
from opam_sandbox.store import Store

ROOTS = "pants-requirements"
SOLUTION = "solution.json"
_BOUNDS = r"(?:\s*[,&]?\s*(?:=|!=|<=|>=|<|>)\s*[^\s<>=!,&]+)*"
_REQUIREMENT = re.compile(rf"([A-Za-z0-9_][A-Za-z0-9_+-]*)(?:\.([^\s<>=!,&]+)|({_BOUNDS}))\s*$")
_BOUND = re.compile(r"(=|!=|<=|>=|<|>)\s*([^\s<>=!,&]+)")
_SWITCH = f"{OPAM_ROOT}/default/.opam-switch"
_FLAGS = {
    "avoid-version": "is flagged avoid-version: its maintainers advise against it unless it is asked for",
    "deprecated": "is flagged deprecated: its maintainers no longer support it",
}
_LISTED_VERSIONS = 12
_LOCAL = "dev"


def parse_requirement(text: str) -> Tuple[str, List[Tuple[str, str]]]:
    """`lwt`, `lwt.5.6.1`, `lwt=5.6.1`, `lwt>=5.6,<6` -> the name and its (operator, version) bounds."""
    match = _REQUIREMENT.match(text.strip())
    if not match:
        raise ToolError(
            f"{text!r} is no opam requirement: write NAME, NAME.VERSION, NAME=VERSION or NAME>=VERSION,<VERSION"
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


def local_packages(request: Request) -> List[Tuple[str, str]]:
    """The project's own packages, whose dependencies are roots: name and text of the opam file."""
    if not request.get_or("local", []):
        return []
    return [(safe_name(item.get("name", str)), item.get("opam", str)) for item in request.objects("local")]


def local_opam(name: str, text: str) -> str:
    """The opam file of a package of the project as it is pinned. Raises ToolError if it is none."""
    items = opamfile.parse(text, f"{name}.opam")
    rest = opamfile.without(text, items, ("opam-version", "name", "version", "url"))
    return f'opam-version: "2.0"\nname: {quote(name)}\nversion: {quote(_LOCAL)}\n{rest}'


def solve(request: Request) -> int:
    requirements = request.strings("requirements")
    prepared = Path(request.get("prepared", str))
    try:
        packages = Packages(prepared / "packages.zip")
        base = json.loads((prepared / "base.json").read_text())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ToolError(f"{prepared}: what was prepared of the repositories cannot be read: {error}") from None
    check_known(requirements, packages, request.strings("repositories"))
    layers = read_layers(request.strings("layers"))
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request.get("store", str)), rootless)
        overlay = Overlay([store.get(layer) for layer in layers], Path("scratch"), rootless)
        try:
            overlay.mount()
            with open(LOG, "wb") as log:
                view = View(overlay, layers, log, Timer(), rootless)
                solution = _ask_opam(view, request, base["variables"])
        finally:
            overlay.remove()
        Path(SOLUTION).write_text(json.dumps(_described(solution, packages, base["variables"], request), indent=1))
        return 0

    return run_isolated(inside)


def check_known(requirements: Sequence[str], packages: Packages, repositories: Sequence[str]) -> None:
    """Raise ToolError for requirements that no repository has, with names and versions that were perhaps meant."""
    problems = []
    for text in requirements:
        name, bounds = parse_requirement(text)
        versions = packages.versions(name)
        if not versions:
            close = difflib.get_close_matches(name, packages.names(), 3)
            meant = f" (did you mean {' or '.join(close)}?)" if close else ""
            problems.append(f"no package {name} in the opam repositories {', '.join(repositories)}{meant}")
        for op, version in bounds:
            if op == "=" and versions and not any(formulas.compare_versions(version, one) == 0 for one in versions):
                newest = sorted(versions, key=formulas.version_key, reverse=True)[:_LISTED_VERSIONS]
                problems.append(
                    f"no version {version} of {name} in the opam repositories {', '.join(repositories)}; they have "
                    f"{', '.join(newest)}{' and older ones' if len(versions) > len(newest) else ''}"
                )
    if problems:
        raise ToolError("\n".join(problems))


def _ask_opam(view: View, request: Request, variables: Variables) -> Dict[str, str]:
    """Name -> version of every package of opam's solution. Raises ToolError with opam's explanation if there is none."""
    requirements, constraints = request.strings("requirements"), request.strings("constraints")
    configure(view, request.strings("repositories"))
    prepared = Path(request.get("prepared", str))
    caches = [(f"{OPAM_ROOT}/repo/{path.name}", path.read_bytes()) for path in prepared.glob("state-*.cache")]
    pinned = {name: (_LOCAL, local_opam(name, text)) for name, text in local_packages(request)}
    own = roots_opam(requirements, constraints)
    if own:
        pinned[ROOTS] = ("1", own)
    listed = " ".join(quote(f"{name}.{version}") for name, (version, _) in pinned.items())
    write_files(
        view.overlay,
        [
            *caches,
            *(
                (f"{_SWITCH}/overlay/{name}/opam", text.encode("utf-8", "surrogateescape"))
                for name, (_, text) in pinned.items()
            ),
            (f"{_SWITCH}/switch-state", f'opam-version: "2.0"\npinned: [{listed}]\n'.encode()),
        ],
    )
    argv = ["opam", "install", "--dry-run", "--yes", "--no-depexts", f"--json=/tmp/{SOLUTION}"]
    argv += [f"--{option.replace('_', '-')}" for option in ("with_test", "with_doc") if request.get_or(option, False)]
    env = {**environment(1), "OPAMSOLVERTIMEOUT": "600", "OPAMERRLOGLEN": "100", **_solver(request)}
    done = view.overlay.run([*argv, *atoms(requirements), *pinned], env, view.log, user=True, cwd=f"/{HOME}")
    view.log.flush()
    if done.returncode != 0:
        where = ", ".join(
            f"{key}={variables[key]}" for key in ("os-distribution", "os-version", "arch") if key in variables
        )
        asked = ", ".join([*requirements, *(name for name in pinned if name != ROOTS)])
        raise ToolError(f"opam finds no solution for {asked} on {where}:\n{_explanation(constraints)}")
    return _read(view.overlay.root / "tmp" / SOLUTION)


def _solver(request: Request) -> Dict[str, str]:
    solver = request.get_or("solver", "")
    if request.get_or("prefer_oldest", False):
        # What opam's own tests of lower bounds use. mccs, with a criterion that maximises, takes a minute, and installs
        # packages that nobody asked for as they are old.
        return {
            "OPAMEXTERNALSOLVER": solver or "builtin-0install",
            "OPAMCRITERIA": "+removed,+count[version-lag,solution]",
        }
    return {"OPAMEXTERNALSOLVER": solver} if solver else {}


def _explanation(constraints: Sequence[str]) -> str:
    lines = Path(LOG).read_text(errors="replace").splitlines()
    kept = [line for line in lines if line.strip() and not line.startswith(("<><>", "[NOTE]"))]
    text = (
        "\n".join(f"  {line}" for line in kept[-40:]).replace(f"{ROOTS}.1", "the resolve").replace(ROOTS, "the resolve")
    )
    return text + (f"\n  (with the constraints {', '.join(constraints)})" if constraints else "")


def _read(path: Path) -> Dict[str, str]:
    try:
        answer = json.loads(path.read_text())
        solution = {
            action["install"]["name"]: action["install"]["version"]
            for action in answer["solution"]
            if "install" in action
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(f"opam's answer is not understood ({error!r}), see {LOG}") from None
    solution.pop(ROOTS, None)
    return solution


def _described(
    solution: Mapping[str, str], packages: Packages, variables: Mapping[str, str], request: Request
) -> Dict[str, Any]:
    roots = {parse_requirement(text)[0] for text in request.strings("requirements")}
    local = {name for name, _ in local_packages(request)}
    known: Variables = {
        **variables,
        "build": True,
        "with-test": False,
        "with-doc": False,
        "with-dev-setup": False,
        "with-tools": False,
        "dev": False,
    }
    found = []
    notes: List[str] = []
    for name, version in sorted(solution.items()):
        if name in local:
            continue
        kinds = [kind for kind in ("test", "doc") if name in roots and request.get_or(f"with_{kind}", False)]
        item, flags = describe(packages, name, version, solution, known, kinds)
        own = sorted(local.intersection(item["depends"], item["post"]))
        if own:
            raise ToolError(
                f"{name}.{version} depends on {', '.join(own)}, of which an opam_requirement names the project's own opam "
                "file: it has no archive that a lockfile could name"
            )
        found.append(item)
        notes += [f"{name}.{version} {text}." for flag, text in _FLAGS.items() if flag in flags]
    return {"packages": found, "notes": notes}


def describe(
    packages: Packages,
    name: str,
    version: str,
    solution: Mapping[str, str],
    variables: Variables,
    kinds: Sequence[str],
) -> Tuple[Dict[str, Any], Set[str]]:
    """A package as solution.json has it, and its flags. `kinds`: "test" and "doc", where those dependencies count."""
    text = packages.opam(name, version).decode("utf-8", "surrogateescape")
    items = {item.name: item for item in opamfile.parse(text, f"{name}.{version}: opam file")}
    formula = [items[field].value for field in ("depends", "depopts") if field in items]
    values = [value for value in formula if value is not None]
    needed = formulas.dependencies(values, name, version, solution, variables)
    extra = {
        kind: sorted(
            set(formulas.dependencies(values, name, version, solution, {**variables, f"with-{kind}": True}).build)
            - set(needed.build)
        )
        for kind in kinds
    }
    depexts = items["depexts"].value if "depexts" in items else None
    flags = items["flags"].value if "flags" in items else None
    return {
        "name": name,
        "version": version,
        "opam": text,
        "files": [[path, base64.b64encode(content).decode()] for path, content in packages.files(name, version)],
        "depends": needed.build,
        "post": needed.post,
        "test": extra.get("test", []),
        "doc": extra.get("doc", []),
        "depexts": formulas.depexts(depexts, variables) if depexts is not None else [],
    }, formulas.idents(flags)
