"""results.json read back, as the baseline that a health check is compared with. What is not as it was written is an error."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Type, TypeVar

from pants.util.frozendict import FrozenDict

from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status
from opam_oci.health.results_json import SCHEMA
from opam_oci.sandbox.foreign_json import parse_object

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_REPORT = frozenset("schema target base repositories sha seconds counts roots packages".split())
_ROOT_NEEDED = frozenset(
    "name status sha solution package_name version compiler package later reason explanation kind stopped_by accepted".split()
)
_ROOT_MAY = frozenset(("layer", "log"))
_PACKAGE = frozenset(
    "name version status kind reason log_file layer size seconds started cached depends blocked_by accept_failures".split()
)


class ResultsError(Exception):
    """A file of results that cannot be used. The message names the file and the field."""


def read_results(text: str | bytes, file: str = "results.json") -> HealthReport:
    """The report that a results.json holds, without logs. Raises ResultsError."""
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    data = parse_object(content, file, ResultsError)
    schema = data.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise ResultsError(
            f"{file}: field `schema` is {schema!r:.40}, and this version reads {SCHEMA}. Write the file anew by a health check."
        )
    return _Reader(file).report(data)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def report(self, data: dict[str, Any]) -> HealthReport:
        self._fields(data, "", _REPORT)
        packages = FrozenDict(
            {id: self._package(id, value) for id, value in self._object(data["packages"], "packages").items()}
        )
        values = self._list(data["roots"], "roots", dict)
        roots = tuple(self._root(value, f"roots[{number}]", packages) for number, value in enumerate(values))
        found = set()
        for number, root in enumerate(roots):
            key = root.name, root.version, root.compiler
            if key in found:
                raise self._error(f"roots[{number}]", f"the root {root.full_name!r:.80} stands there twice")
            found.add(key)
        for id, package in packages.items():
            self._known(package.depends, packages, f"packages[{id!r:.80}].depends")
            self._known(package.blocked_by, packages, f"packages[{id!r:.80}].blocked_by")
        return HealthReport(
            target=self._string(data["target"], "target"),
            base=self._string(data["base"], "base"),
            repositories=tuple(self._list(data["repositories"], "repositories", str)),
            roots=roots,
            packages=packages,
            seconds=self._seconds(data["seconds"], "seconds"),
        )

    def _root(self, data: dict[str, Any], where: str, packages: FrozenDict[str, PackageResult]) -> RootResult:
        self._fields(data, where, _ROOT_NEEDED, _ROOT_MAY)
        root = RootResult(
            name=self._string(data["package_name"], f"{where}.package_name"),
            version=self._string(data["version"], f"{where}.version"),
            status=self._enum(Status, data["status"], f"{where}.status"),
            compiler=self._string(data["compiler"], f"{where}.compiler"),
            package=self._string(data["package"], f"{where}.package"),
            later=tuple(self._list(data["later"], f"{where}.later", str)),
            reason=self._string(data["reason"], f"{where}.reason"),
        )
        if self._string(data["name"], f"{where}.name") != root.full_name:
            raise self._error(f"{where}.name", "it is not the root's name and version")
        self._known((root.package,) if root.package else (), packages, f"{where}.package")
        self._known(root.later, packages, f"{where}.later")
        return root

    def _package(self, id: str, data: object) -> PackageResult:
        where = f"packages[{id!r:.80}]"
        value = self._object(data, where)
        self._fields(value, where, _PACKAGE)
        kind = value["kind"]
        size = value["size"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise self._error(f"{where}.size", f"{size!r:.40} is no number of bytes")
        return PackageResult(
            id=id,
            name=self._string(value["name"], f"{where}.name"),
            version=self._string(value["version"], f"{where}.version"),
            status=self._enum(Status, value["status"], f"{where}.status"),
            kind=None if kind is None else self._enum(FailureKind, kind, f"{where}.kind"),
            reason=self._string(value["reason"], f"{where}.reason"),
            layer=self._string(value["layer"], f"{where}.layer"),
            size=size,
            seconds=self._seconds(value["seconds"], f"{where}.seconds"),
            started=self._seconds(value["started"], f"{where}.started"),
            cached=self._bool(value["cached"], f"{where}.cached"),
            depends=tuple(self._list(value["depends"], f"{where}.depends", str)),
            blocked_by=tuple(self._list(value["blocked_by"], f"{where}.blocked_by", str)),
            accept_failures=self._bool(value["accept_failures"], f"{where}.accept_failures"),
        )

    def _error(self, where: str, what: str) -> ResultsError:
        return ResultsError(f"{self._file}: field `{where}`: {what}.")

    def _fields(
        self, data: dict[str, Any], where: str, needed: frozenset[str], may: frozenset[str] = frozenset()
    ) -> None:
        before = f"{where}." if where else ""
        for name in sorted(needed - set(data)):
            raise self._error(before + name, "it is missing")
        for name in sorted(set(data) - needed - may):
            raise self._error(f"{before}{name:.80}", "this version does not know it")

    def _object(self, value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, f"{value!r:.40} is no object")
        return value

    def _list(self, value: object, where: str, of: Type[T]) -> list[T]:
        if not isinstance(value, list):
            raise self._error(where, f"{value!r:.40} is no list")
        for number, item in enumerate(value):
            if not isinstance(item, of):
                raise self._error(f"{where}[{number}]", f"{item!r:.40} is no {'object' if of is dict else 'string'}")
        return value

    def _string(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            raise self._error(where, f"{value!r:.40} is no string")
        return value

    def _bool(self, value: object, where: str) -> bool:
        if not isinstance(value, bool):
            raise self._error(where, f"{value!r:.40} is neither true nor false")
        return value

    def _seconds(self, value: object, where: str) -> float | None:
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise self._error(where, f"{value!r:.40} is no number of seconds")
        return value

    def _enum(self, type: Type[E], value: object, where: str) -> E:
        known: dict[str, E] = {item.value: item for item in type}
        if not isinstance(value, str) or value not in known:
            raise self._error(where, f"{value!r:.40} is none of {', '.join(known)}")
        return known[value]

    def _known(self, ids: tuple[str, ...], packages: FrozenDict[str, PackageResult], where: str) -> None:
        for id in ids:
            if id not in packages:
                raise self._error(where, f"{id!r:.80} is not in `packages`")
