"""The project's own opam files: what they ask of a solution, as `opam install --deps-only` takes it.

A file gives the name and version of a package that is pinned while opam solves. A package that is to be built is in the lockfile
as others are. Of the others only what they need is: of their `depexts` a lockfile has a package of its own, named as opam names
what stands for a package's dependencies, `deps-of-NAME`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from opam_sandbox.debian_versions import version_key
from opam_sandbox.errors import ToolError
from opam_sandbox.locking.package_files import opam_text
from opam_sandbox.locking.repositories import Packages, Variables
from opam_sandbox.locking.requests import LocalPackage, SolvedPackage
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.opam.opamfile import Item, Str, Value
from opam_sandbox.opam.strings import quote

# What opam calls a pinned package that neither its file nor a repository gives a version.
DEV = "dev"
_NAME = re.compile(r"(?=[0-9_+-]*[A-Za-z])[A-Za-z0-9_+-]+\Z")
_VERSION = re.compile(r"[A-Za-z0-9_+.~-]+\Z")


@dataclass(frozen=True)
class ProjectFile:
    """An opam file of the project. `where`: its path and target, for messages. `build`: whether the package is to be built;
    `directory`: from where the file's relative paths count, in the build root."""

    name: str
    version: str
    where: str
    text: str
    items: Tuple[Item, ...]
    path: str = ""
    build: bool = False
    directory: str = ""

    def field(self, name: str) -> Optional[Value]:
        """A field's value; None where the file does not have it."""
        return next((item.value for item in self.items if item.name == name), None)

    def pinned(self) -> str:
        """The opam file as opam finds it, pinned."""
        rest = opamfile.without(self.text, self.items, ("opam-version", "name", "version", "url", "pin-depends"))
        return f'opam-version: "2.0"\nname: {quote(self.name)}\nversion: {quote(self.version)}\n{rest}'


def read_project_files(
    local: Sequence[LocalPackage], packages: Packages, variables: Mapping[str, str]
) -> List[ProjectFile]:
    """The files of a request. Raises ToolError for one that opam would not take, or would take only in part."""
    found: Dict[str, ProjectFile] = {}
    for entry in local:
        file = _read(entry, packages, variables)
        other = found.setdefault(file.name, file)
        if other is not file:
            raise ToolError(
                f"{file.where} and {other.where} are opam files of one package, {file.name}: a resolve takes one of them"
            )
    return list(found.values())


def _read(entry: LocalPackage, packages: Packages, variables: Mapping[str, str]) -> ProjectFile:
    path = entry.get("path", f"{entry['name']}.opam")
    build = entry.get("build", False)
    where = path
    if entry.get("target"):
        where = f"{path} (of {entry['target']})" if build else f"{path} (`source` of {entry['target']})"
    text = entry["opam"]
    items = opamfile.parse(text, where)
    _check_format(items, where)
    name = entry["name"] or _string(items, "name", where) or _of_directory(path)
    if not _NAME.match(name):
        raise ToolError(
            f"{where}: {name!r:.200} is no name of an opam package: opam's names are of letters, digits, `_`, `+` and `-`, with "
            "a letter in them. A file named NAME.opam, or the field `name` of a file named opam, gives the name"
        )
    version = _string(items, "version", where)
    if version and not _VERSION.match(version):
        raise ToolError(f"{where}: the field `version` holds {version!r:.200}, which opam does not take for a version")
    version = version or _default_version(name, packages, variables)
    directory = entry.get("directory", path.rpartition("/")[0])
    return ProjectFile(name, version, where, text, items, path, build, directory)


def _check_format(items: Sequence[Item], where: str) -> None:
    seen: Set[str] = set()
    for item in items:
        key = f"{item.name} {item.label}"
        if key in seen:
            raise ToolError(f"{where}: the field `{item.name}` is there twice, and opam would pass over one of them")
        seen.add(key)
    written = _string(items, "opam-version", where)
    if not items:
        raise ToolError(f'{where} is empty: an opam file begins with `opam-version: "2.0"`')
    if not written:
        raise ToolError(f'{where}: the field `opam-version` is missing, without which opam reads no file: add "2.0"')
    if written not in ("2", "2.0"):
        raise ToolError(
            f"{where}: the field `opam-version` is {written!r:.200}, and only files of version 2.0 are read here: write the "
            "file in that format"
        )


def _string(items: Sequence[Item], name: str, where: str) -> str:
    """A field that holds one string; "" where there is none."""
    for item in items:
        if item.name == name:
            if not isinstance(item.value, Str):
                raise ToolError(f"{where}: the field `{name}` does not hold one string")
            return item.value.value
    return ""


def _of_directory(path: str) -> str:
    """The name of the directory that a file named `opam`, or its directory `opam`, lies in."""
    directories = path.split("/")[:-1]
    if directories and directories[-1] == "opam":
        directories.pop()
    return directories[-1] if directories else ""


def _default_version(name: str, packages: Packages, variables: Mapping[str, str]) -> str:
    """What opam gives a pinned package without a version: the newest that is available in the repositories."""
    versions = sorted(packages.versions(name), key=version_key, reverse=True)
    for version in versions:
        items = opamfile.parse(text_in_repository(packages, name, version), f"{name}.{version}")
        available = next((item.value for item in items if item.name == "available"), None)
        if available is None or formulas.evaluate(available, dict(variables)) is True:
            return version
    return versions[0] if versions else DEV


def text_in_repository(packages: Packages, name: str, version: str) -> str:
    """The opam file of a version that a repository has."""
    return opam_text(packages.package(name, version), f"{name}.{version}")[0]


# `depexts`


def deps_packages(
    files: Sequence[ProjectFile], solution: Mapping[str, str], variables: Variables
) -> Tuple[List[SolvedPackage], List[str]]:
    """A package `deps-of-NAME` for each file with depexts for this base that is not built, and notes that name them.

    solution: all of opam's, also the project's own packages. Raises ToolError where a package has that name already.
    """
    own = {file.name for file in files if not file.build}
    found: List[SolvedPackage] = []
    notes: List[str] = []
    for file in files:
        value = file.field("depexts")
        depexts = formulas.depexts(value, {**variables, "version": file.version}) if value is not None else []
        if file.build or not depexts:
            continue
        name = f"deps-of-{file.name}"
        if name in solution:
            raise ToolError(
                f"{file.where}: its depexts need a package {name}, but the solution has another one of that name"
            )
        values = [one for one in map(file.field, ("depends", "depopts")) if one is not None]
        needed = formulas.dependencies(values, file.name, file.version, solution, variables)
        depends = sorted({*needed.build, *needed.post} - own)
        found.append(
            {
                "name": name,
                "version": file.version,
                "opam": _deps_opam(file, depends, depexts, solution),
                "files": [],
                "depends": depends,
                "post": [],
                "test": [],
                "doc": [],
                "depexts": depexts,
            }
        )
        notes.append(
            f"the depexts of {file.where}, {', '.join(depexts)}, are those of the package {name}, below which is what "
            f"{file.name} depends on: images that are to have them name it in `packages`."
        )
    return found, notes


def _deps_opam(file: ProjectFile, depends: Sequence[str], depexts: Sequence[str], solution: Mapping[str, str]) -> str:
    exact = "".join(f"  {quote(name)} {{= {quote(solution[name])}}}\n" for name in depends)
    system = " ".join(map(quote, depexts))
    return (
        f'opam-version: "2.0"\nsynopsis: "What {file.name} depends on"\n'
        f"depends: [\n{exact}]\ndepexts: [[{system}]]\nflags: [conf]\n"
    )
