"""Asks opam's own solver, inside the base, for the packages that meet a resolve's requirements.

The requirements become one package of a repository of their own, so that any number of roots, and constraints on packages
that may or may not be chosen, are one ordinary request to opam.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.maker import LOG, View
from opam_sandbox.opamfile import quote
from opam_sandbox.opamroot import HOME, OPAM_ROOT, REPO_FILE, environment, write_files

ROOTS = "pants-requirements"
_BOUNDS = r"(?:\s*[,&]?\s*(?:=|!=|<=|>=|<|>)\s*[^\s<>=!,&]+)*"
_REQUIREMENT = re.compile(rf"([A-Za-z0-9_][A-Za-z0-9_+-]*)(?:\.([^\s<>=!,&]+)|({_BOUNDS}))\s*$")
_BOUND = re.compile(r"(=|!=|<=|>=|<|>)\s*([^\s<>=!,&]+)")


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
    """The opam file of the package that stands for the request."""

    def atom(name: str, bounds: Sequence[Tuple[str, str]], joint: str) -> str:
        if not bounds:
            return f"  {quote(name)}\n"
        return f"  {quote(name)} {{{joint.join(f'{op} {quote(version)}' for op, version in bounds)}}}\n"

    depends = "".join(atom(*parse_requirement(text), " & ") for text in requirements)
    conflicts = ""
    for text in constraints:
        name, bounds = parse_requirement(text)
        if not bounds:
            raise ToolError(f"the constraint {text!r} bounds nothing: write {name}=VERSION or {name}>=VERSION")
        conflicts += atom(name, [(_NEGATED[op], version) for op, version in bounds], " | ")
    return f'opam-version: "2.0"\ndepends: [\n{depends}]\nconflicts: [\n{conflicts}]\n'


def solve(
    view: View, repositories: Sequence[Tuple[str, Path]], requirements: Sequence[str], constraints: Sequence[str]
) -> Dict[str, str]:
    """Name -> version of every package of opam's solution. `repositories`: name and directory, first wins.

    Raises ToolError with opam's own explanation where there is no solution.
    """
    directory = f"{ROOTS}/packages/{ROOTS}/{ROOTS}.1"
    own = Path("scratch/requirements")
    (own / directory).mkdir(parents=True)
    (own / ROOTS / "repo").write_text(REPO_FILE)
    (own / directory / "opam").write_text(roots_opam(requirements, constraints))
    shown = [(ROOTS, own / ROOTS), *repositories]
    base = f"{OPAM_ROOT}/repo"
    config = (view.overlay.root / OPAM_ROOT / "config").read_text()
    names = " ".join(quote(name) for name, _ in shown)
    urls = " ".join(f"{quote(name)} {{{quote('file:///nonexistent/' + name)}}}" for name, _ in shown)
    write_files(
        view.overlay,
        [
            (f"{OPAM_ROOT}/config", re.sub(r"(?m)^repositories:.*$", f"repositories: [{names}]", config).encode()),
            (f"{base}/repos-config", f'opam-version: "2.0"\nrepositories: [{urls}]\n'.encode()),
            *((f"{base}/{name}/.mount", b"") for name, _ in shown),
        ],
    )
    for name, path in shown:
        view.overlay.bind(path, f"{base}/{name}")
    argv = ["opam", "install", "--dry-run", "--yes", "--no-depexts", "--json=/tmp/solution.json", ROOTS]
    env = {**environment(1), "OPAMSOLVERTIMEOUT": "600", "OPAMERRLOGLEN": "100"}
    with view.timer.step("opam"):
        done = view.overlay.run(argv, env, view.log, user=True, cwd=f"/{HOME}")
    view.log.flush()
    if done.returncode != 0:
        raise ToolError(f"opam finds no solution for {', '.join(requirements)}:\n{_explanation(constraints)}")
    return _read(view.overlay.root / "tmp" / "solution.json")


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


def find_package(repositories: Sequence[Tuple[str, Path]], name: str, version: str) -> Path:
    """The directory of a package in the first repository that has it."""
    for _, repository in repositories:
        for relative in (f"packages/{name}/{name}.{version}", f"packages/{name}.{version}"):
            path = repository / relative
            if os.path.exists(path / "opam"):
                return path
    raise ToolError(f"no repository holds {name}.{version}, which opam chose")
