"""What opam's solution means for each package: its opam file, and which packages of the solution it needs for what."""

from __future__ import annotations

import base64
from typing import Collection, List, Mapping, Sequence, Set, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.package_files import check_extra_files, opam_text
from opam_sandbox.locking.project_files import ProjectFile, deps_packages
from opam_sandbox.locking.repositories import Packages, Variables
from opam_sandbox.locking.requests import Solution, SolvedPackage
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.opam.opamfile import Item

_FLAGS = {
    "avoid-version": "is flagged avoid-version: its maintainers advise against it unless it is asked for",
    "deprecated": "is flagged deprecated: its maintainers no longer support it",
}


def described_solution(
    solution: Mapping[str, str],
    packages: Packages,
    variables: Mapping[str, str],
    roots: Collection[str],
    asked: Sequence[str],
    project: Sequence[ProjectFile],
) -> Solution:
    """The packages that a lockfile has of a solution (name -> version), by name.

    asked: "test" and "doc", which count for `roots` and for the project's own packages. Raises ToolError.
    """
    own = {file.name: file for file in project}
    known: Variables = {
        **variables,
        "build": True,
        "with-test": False,
        "with-doc": False,
        "with-dev-setup": False,
        "with-tools": False,
        "dev": False,
    }
    found: List[SolvedPackage] = []
    notes: List[str] = []
    for name, version in sorted(solution.items()):
        file = own.get(name)
        if file is not None:
            found += [describe_own(file, solution, known, asked)] if file.build else []
            continue
        kinds = [kind for kind in asked if name in roots]
        item, flags, said = describe(packages, name, version, solution, known, kinds)
        found.append(item)
        notes += said
        notes += [f"{name}.{version} {text}." for flag, text in _FLAGS.items() if flag in flags]
    for item in found:
        _check_built(item, own)
    asked_of_all = {f"with-{kind}": True for kind in asked}
    deps, said_of_deps = deps_packages(project, solution, {**known, **asked_of_all})
    return {"packages": sorted([*found, *deps], key=lambda item: item["name"]), "notes": [*notes, *said_of_deps]}


def _check_built(item: SolvedPackage, own: Mapping[str, ProjectFile]) -> None:
    """Raise ToolError for a package that is to be built and depends on one of the project's own that is not."""
    for name in (*item["depends"], *item["post"], *item["test"], *item["doc"]):
        if name in own and not own[name].build:
            raise ToolError(
                f"{item['name']}.{item['version']} depends on {name}, of which {own[name].where} is only the opam file of a "
                "requirement: it has no archive that a lockfile could name. To build it from its sources in this project, make "
                "its directory an `opam_project`"
            )


def describe_own(
    file: ProjectFile, solution: Mapping[str, str], variables: Variables, kinds: Sequence[str]
) -> SolvedPackage:
    """A package of the project that is to be built. Raises ToolError."""
    text = file.pinned()
    items = opamfile.parse(text, file.where)
    check_extra_files(items, (), file.where, variables)
    item = _solved(file.name, file.version, text, items, solution, variables, kinds)
    return {**item, "local": file.path}


def describe(
    packages: Packages,
    name: str,
    version: str,
    solution: Mapping[str, str],
    variables: Variables,
    kinds: Sequence[str],
) -> Tuple[SolvedPackage, Set[str], List[str]]:
    """A package as solution.json has it, its flags, and notes. `kinds`: "test" and "doc", where those dependencies count."""
    title = f"{name}.{version}"
    found = packages.package(name, version)
    text, notes = opam_text(found, title)
    parsed = opamfile.parse(text, f"{title}: opam file")
    notes += check_extra_files(parsed, found.files, title, variables)
    item = _solved(name, version, text, parsed, solution, variables, kinds)
    item["files"] = [
        [path, base64.b64encode(content).decode(), "x" if executable else ""]
        for path, content, executable in found.files
    ]
    flags = next((one.value for one in parsed if one.name == "flags"), None)
    return item, formulas.idents(flags), notes


def _solved(
    name: str,
    version: str,
    text: str,
    parsed: Sequence[Item],
    solution: Mapping[str, str],
    variables: Variables,
    kinds: Sequence[str],
) -> SolvedPackage:
    """A package without files, as its opam file describes it within a solution."""
    items = {item.name: item for item in parsed}
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
    return {
        "name": name,
        "version": version,
        "opam": text,
        "files": [],
        "depends": list(needed.build),
        "post": list(needed.post),
        "test": extra.get("test", []),
        "doc": extra.get("doc", []),
        "depexts": formulas.depexts(depexts, variables) if depexts is not None else [],
    }
