"""Reads lockfiles: TOML text to frozen values, every mistake in them named.

No engine calls here. docs/architecture.md describes the two formats. Whatever is wrong with a lockfile is a
`LockfileError`, whose message begins with the lockfile's path.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import re
import sys
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

from pants.util.frozendict import FrozenDict

# The `toml` that Pants itself uses cannot read `'''...'''` strings which hold quotes and escapes, as opam files do.
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_OPAM_NAME = re.compile(r"[A-Za-z0-9_+-]*[A-Za-z][A-Za-z0-9_+-]*\Z")
_OPAM_VERSION = re.compile(r"[A-Za-z0-9_+.~-]+\Z")
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
_DEBIAN_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+\Z")
_DEBIAN_ARCHITECTURE = re.compile(r"[a-z0-9-]+\Z")
_PACKAGE_KEYS = (
    *("name", "version", "depends", "post_depends", "test_depends", "doc_depends", "depexts", "debs"),
    "depexts_out_of_reach",
    *("opam", "opam_base64", "source", "source_out_of_reach", "file"),
)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|debian:)[^\s]+\Z")


class LockfileError(Exception):
    """A lockfile that cannot be used; the message names the file and what is wrong in it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"The lockfile {path}: {problem}")
        self.path = path


@dataclass(frozen=True)
class Deb:
    """A binary package of a Debian archive. `path` is below the archive's root, `size` in bytes."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    size: int

    @property
    def basename(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """An archive (name "") or extra-source (its file name) of an opam package. `size` in bytes."""

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True)
class SourceOutOfReach:
    """A source that no place gave when the lockfile was made: what the opam file says of it ("sha512=...")."""

    name: str
    urls: tuple[str, ...]
    checksums: tuple[str, ...]


@dataclass(frozen=True)
class PackageFile:
    """A file that stands beside an opam file, in `files/`."""

    path: str
    content: bytes


@dataclass(frozen=True)
class LockedPackage:
    """One opam package of a solution.

    `depends` are the edges of the build graph; `post_depends` belong into an image but not below the build. What only
    the package's tests or documentation need is in neither. `out_of_reach` and `depexts_out_of_reach` (why, or "") are what
    could not be locked: the package cannot be built.
    """

    name: str
    version: str
    depends: tuple[str, ...]
    post_depends: tuple[str, ...]
    depexts: tuple[str, ...]
    debs: tuple[str, ...]
    opam: str
    sources: tuple[Source, ...]
    files: tuple[PackageFile, ...]
    out_of_reach: tuple[SourceOutOfReach, ...] = ()
    depexts_out_of_reach: str = ""
    test_depends: tuple[str, ...] = ()
    doc_depends: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.name}.{self.version}"


@dataclass(frozen=True)
class DebianLock:
    """The contents of a `[debian].resolves` lockfile."""

    path: str
    resolve: str
    suite: str
    architecture: str
    packages: tuple[str, ...]
    debs: FrozenDict[str, Deb]


def build_order(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """As `ready_order`, but what is on a cycle comes last, by name; a dependency on itself counts for nothing."""
    order = ready_order({name: [d for d in below if d != name] for name, below in depends.items()})
    return [*order, *sorted(set(depends) - set(order))]


def ready_order(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """The names sorted so that dependencies come first, and by name among those that are ready at the same time.

    Dependencies that are no keys count for nothing; what is on a cycle, or above one, is left out.
    """
    waiting = {name: {d for d in below if d in depends} for name, below in depends.items()}
    dependents: dict[str, list[str]] = {name: [] for name in waiting}
    for name, below in waiting.items():
        for dependency in below:
            dependents[dependency].append(name)
    ready = sorted(name for name, below in waiting.items() if not below)
    order: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        for dependent in dependents[name]:
            waiting[dependent].discard(name)
            if not waiting[dependent]:
                heapq.heappush(ready, dependent)
    return order


@dataclass(frozen=True)
class OpamLock:
    """The contents of an `[opam].resolves` lockfile. The build graph in it has no cycle.

    `repositories`: what it was solved against; None in lockfiles that do not say.
    """

    path: str
    resolve: str
    base: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    packages: FrozenDict[str, LockedPackage]
    debs: FrozenDict[str, Deb]
    options: tuple[str, ...] = ()
    opam_files: tuple[str, ...] = ()
    repositories: tuple[str, ...] | None = None

    def build_closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The packages that must stand below a build that needs `names`, dependencies first, `names` included."""
        return self.in_build_order(_reachable(names, lambda name: self.packages[name].depends))

    def image_closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The packages of an image that holds `names`, dependencies first: post-dependencies come along."""
        return self.in_build_order(_reachable(names, self.all_depends))

    def all_depends(self, name: str) -> tuple[str, ...]:
        package = self.packages[name]
        return (*package.depends, *package.post_depends)

    def in_build_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """`names` sorted so that dependencies come first, and by name among those that are ready at the same time."""
        return tuple(ready_order({name: self.packages[name].depends for name in names}))

    def acyclic_post_depends(self) -> Mapping[str, tuple[str, ...]]:
        """Per package, those post-dependencies that do not lead back to it.

        Post-dependencies may form cycles (a compiler names the virtual package that depends on it), which a graph of
        targets may not.
        """
        return {
            name: tuple(post for post in package.post_depends if name not in _reachable([post], self.all_depends))
            for name, package in self.packages.items()
        }

    def reached_by_targets(self, names: Iterable[str]) -> set[str]:
        """`names` and what is reached from them along build edges and acyclic post-dependencies."""
        post_depends = self.acyclic_post_depends()
        return _reachable(names, lambda name: (*self.packages[name].depends, *post_depends[name]))


def _reachable(names: Iterable[str], edges: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(edges(name))
    return found


def read_debian_lock(path: str, resolve: str, content: bytes) -> DebianLock:
    """Read the lockfile of a `debian_rootfs`. Raises LockfileError."""
    top = _top(path, resolve, content, kind="debian")
    metadata = top.table("metadata")
    top.refuse_unknown("metadata", "deb")
    metadata.refuse_unknown("lock_version", "kind", "resolve", "suite", "architecture", "packages", "tables")
    return DebianLock(
        path=path,
        resolve=resolve,
        suite=metadata.text("suite"),
        architecture=metadata.text("architecture", _DEBIAN_ARCHITECTURE),
        packages=metadata.texts("packages", _DEBIAN_NAME),
        debs=_debs(top),
    )


def read_opam_lock(path: str, resolve: str, content: bytes) -> OpamLock:
    """Read the lockfile of an opam resolve. Raises LockfileError."""
    top = _top(path, resolve, content, kind="opam")
    metadata = top.table("metadata")
    top.refuse_unknown("metadata", "package", "deb")
    metadata.refuse_unknown(
        "lock_version",
        "kind",
        "resolve",
        "base",
        "requirements",
        "constraints",
        "repositories",
        "options",
        "opam_files",
        "tables",
    )
    debs = _debs(top)
    packages: dict[str, LockedPackage] = {}
    for table in top.tables("package"):
        package = _package(table)
        if package.name in packages:
            raise table.error(f"the package {package.name} is there twice")
        packages[package.name] = package
    lock = OpamLock(
        path=path,
        resolve=resolve,
        base=metadata.text("base"),
        requirements=metadata.texts("requirements"),
        constraints=metadata.texts("constraints"),
        packages=FrozenDict(packages),
        debs=debs,
        options=metadata.optional_texts("options"),
        opam_files=metadata.optional_texts("opam_files"),
        repositories=metadata.texts("repositories") if "repositories" in metadata.values else None,
    )
    _check_references(lock)
    _check_cycles(lock)
    return lock


def _package(table: _Table) -> LockedPackage:
    name = table.text("name", _OPAM_NAME)
    table = _Table(table.path, f"[[package]] {name}", table.values)
    sources = tuple(_source(source) for source in table.tables("source"))
    files = tuple(_file(file) for file in table.tables("file"))
    out_of_reach = tuple(_source_out_of_reach(source) for source in table.tables("source_out_of_reach"))
    table.refuse_unknown(*_PACKAGE_KEYS)
    table.refuse_duplicates("source", [*(s.name for s in sources), *(s.name for s in out_of_reach)])
    table.refuse_duplicates("file", [file.path for file in files])
    return LockedPackage(
        name=name,
        version=table.text("version", _OPAM_VERSION),
        depends=table.names("depends", _OPAM_NAME),
        post_depends=table.names("post_depends", _OPAM_NAME),
        depexts=table.names("depexts"),
        debs=table.names("debs", _DEBIAN_NAME),
        opam=_text_or_base64(table, "opam").decode("utf-8", "surrogateescape"),
        sources=sources,
        files=files,
        out_of_reach=out_of_reach,
        depexts_out_of_reach=table.text("depexts_out_of_reach") if "depexts_out_of_reach" in table.values else "",
        test_depends=table.optional_names("test_depends", _OPAM_NAME),
        doc_depends=table.optional_names("doc_depends", _OPAM_NAME),
    )


def _text_or_base64(table: _Table, key: str) -> bytes:
    """The bytes of `key`, or of `key_base64`, which is there instead where they are no UTF-8 text."""
    encoded = f"{key}_base64"
    if encoded not in table.values:
        try:
            return table.text(key).encode()
        except UnicodeEncodeError:
            raise table.error(f"`{key}` is not text") from None
    if key in table.values:
        raise table.error(f"`{key}` and `{encoded}` are both there")
    try:
        return base64.b64decode(table.text(encoded), validate=True)
    except (binascii.Error, ValueError):
        raise table.error(f"`{encoded}` is not base64") from None


def _source_out_of_reach(table: _Table) -> SourceOutOfReach:
    table.refuse_unknown("name", "urls", "checksums")
    return SourceOutOfReach(
        name=table.path_text("name") if table.text("name") else "",
        urls=table.texts("urls"),
        checksums=table.texts("checksums"),
    )


def _source(table: _Table) -> Source:
    table.refuse_unknown("name", "urls", "sha256", "size")
    urls = table.texts("urls", _URL)
    if not urls:
        raise table.error("`urls` is empty")
    for url in urls:
        if url.startswith("debian:"):
            table.check_path("urls", url[len("debian:") :])
    return Source(
        name=table.path_text("name") if table.text("name") else "",
        urls=urls,
        sha256=table.text("sha256", _SHA256),
        size=table.size("size"),
    )


def _file(table: _Table) -> PackageFile:
    table.refuse_unknown("path", "content", "content_base64")
    return PackageFile(path=table.path_text("path"), content=_text_or_base64(table, "content"))


def _debs(top: _Table) -> FrozenDict[str, Deb]:
    debs: dict[str, Deb] = {}
    basenames: set[str] = set()
    for table in top.tables("deb"):
        table.refuse_unknown("name", "version", "architecture", "path", "sha256", "size")
        deb = Deb(
            name=table.text("name", _DEBIAN_NAME),
            version=table.text("version", _DEBIAN_VERSION),
            architecture=table.text("architecture", _DEBIAN_ARCHITECTURE),
            path=table.path_text("path"),
            sha256=table.text("sha256", _SHA256),
            size=table.size("size"),
        )
        if deb.name in debs or deb.basename in basenames:
            raise table.error(f"the Debian package {deb.name} is there twice")
        basenames.add(deb.basename)
        debs[deb.name] = deb
    return FrozenDict(debs)


def _check_references(lock: OpamLock) -> None:
    for package in lock.packages.values():
        for key in ("depends", "post_depends", "test_depends", "doc_depends"):
            for name in getattr(package, key):
                if name not in lock.packages:
                    raise LockfileError(
                        lock.path,
                        f"{package.name} names {name} in `{key}`, which is not a package of this lockfile.",
                    )
        for name in package.debs:
            if name not in lock.debs:
                raise LockfileError(lock.path, f"{package.name} names {name} in `debs`, for which there is no [[deb]].")


def _check_cycles(lock: OpamLock) -> None:
    left = set(lock.packages) - set(lock.in_build_order(lock.packages))
    if not left:
        return
    # Whoever is left waits for somebody who is left: following such edges ends in a cycle.
    walk: list[str] = []
    name = min(left)
    while name not in walk:
        walk.append(name)
        name = min(d for d in lock.packages[name].depends if d in left)
    cycle = walk[walk.index(name) :]
    raise LockfileError(lock.path, f"the packages depend on each other in a cycle: {' -> '.join([*cycle, name])}.")


def _top(path: str, resolve: str, content: bytes, *, kind: str) -> _Table:
    try:
        values = tomllib.loads(content.decode())
    except ValueError as e:  # what is no UTF-8 or no TOML, and numbers of thousands of digits
        raise LockfileError(path, f"not valid TOML: {e}") from None
    except RecursionError:
        raise LockfileError(path, "not valid TOML: it is nested too deeply") from None
    top = _Table(path, "", values)
    metadata = top.table("metadata")
    version = metadata.integer("lock_version")
    if version > LOCK_VERSION:
        raise LockfileError(
            path,
            f"its lock_version {version} was written by a newer version of this backend, which reads up to "
            f"{LOCK_VERSION}. Use that newer version, or regenerate the lockfile with "
            f"`pants generate-lockfiles --resolve={resolve}`.",
        )
    if version != LOCK_VERSION:
        raise LockfileError(path, f"there is no lock_version {version}.")
    if metadata.text("kind") != kind:
        raise LockfileError(path, f"it is of kind {metadata.text('kind')!r}, where {kind!r} is needed.")
    if metadata.text("resolve") != resolve:
        raise LockfileError(path, f"it was written for the resolve {metadata.text('resolve')!r}, not for {resolve!r}.")
    _check_whole(top, content)
    return top


def _check_whole(top: _Table, content: bytes) -> None:
    """A file that is cut off between two tables is TOML as well, and would be the lockfile of another build.

    Lockfiles that do not state the number of their tables, as those written by hand, are taken as they are.
    """
    metadata = top.table("metadata")
    if "tables" not in metadata.values:
        return
    stated, found = metadata.size("tables"), _count_tables(top.values)
    if found != stated or not content.endswith(b"\n"):
        raise LockfileError(
            top.path,
            f"it is cut off, or was edited or merged by hand: it should have {stated} tables after [metadata], and has "
            f"{found}. Restore it, or regenerate it with `pants generate-lockfiles --resolve={metadata.text('resolve')}`.",
        )


def _count_tables(values: Mapping[str, Any]) -> int:
    """How many `[[...]]` there are, at all depths."""
    tables = [item for value in values.values() if isinstance(value, list) for item in value if isinstance(item, dict)]
    return len(tables) + sum(map(_count_tables, tables))


@dataclass(frozen=True)
class _Table:
    """A TOML table and where it stands, to read it with checks."""

    path: str
    where: str
    values: Mapping[str, Any]

    def error(self, problem: str) -> LockfileError:
        return LockfileError(self.path, f"in {self.where}: {problem}." if self.where else f"{problem}.")

    def _get(self, key: str, kind: type, called: str) -> Any:
        if key not in self.values:
            raise self.error(f"`{key}` is missing")
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"`{key}` is not {called}")
        return value

    def table(self, key: str) -> _Table:
        return _Table(self.path, f"[{key}]", self._get(key, dict, "a table"))

    def tables(self, key: str) -> Iterable[_Table]:
        """The tables of an array; none where there is no such key, as TOML cannot write an empty one."""
        values = self._get(key, list, "an array of tables") if key in self.values else []
        for value in values:
            if not isinstance(value, dict):
                raise self.error(f"`{key}` is not an array of tables")
            name = value.get("name", value.get("path", ""))
            where = f"[[{key}]] {name}".rstrip()
            yield _Table(self.path, f"{self.where}, {where}" if self.where else where, value)

    def integer(self, key: str) -> int:
        value = self._get(key, int, "an integer")
        assert isinstance(value, int)
        return value

    def size(self, key: str) -> int:
        value = self.integer(key)
        if value < 0:
            raise self.error(f"`{key}` is negative")
        return value

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self._get(key, str, "a string")
        assert isinstance(value, str)
        self._match(key, value, pattern)
        return value

    def texts(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        values = self._get(key, list, "an array of strings")
        for value in values:
            if not isinstance(value, str):
                raise self.error(f"`{key}` is not an array of strings")
            self._match(key, value, pattern)
        return tuple(values)

    def names(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """An array of strings in which nothing is there twice."""
        values = self.texts(key, pattern)
        self.refuse_duplicates(key, values)
        return values

    def optional_texts(self, key: str) -> tuple[str, ...]:
        return self.texts(key) if key in self.values else ()

    def optional_names(self, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        return self.names(key, pattern) if key in self.values else ()

    def refuse_unknown(self, *known: str) -> None:
        """What is not known here may decide about a build, so it cannot be passed over."""
        unknown = sorted(key for key in self.values if key not in known)
        if unknown:
            raise self.error(
                f"{', '.join(f'`{key}`' for key in unknown)} is not known to this version of the backend; a newer one may "
                "have written the lockfile, or it was edited by hand"
            )

    def path_text(self, key: str) -> str:
        value = self.text(key)
        self.check_path(key, value)
        return value

    def check_path(self, key: str, value: str) -> None:
        """Refuse what would leave the directory that it is put in."""
        parts = value.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in value or "\\" in value:
            raise self.error(f"`{key}` is not a safe relative path: {value!r}")

    def refuse_duplicates(self, key: str, values: Iterable[str]) -> None:
        seen: set[str] = set()
        for value in values:
            if value in seen:
                raise self.error(f"{value!r} is there twice in `{key}`")
            seen.add(value)

    def _match(self, key: str, value: str, pattern: re.Pattern[str] | None) -> None:
        if pattern is not None and not pattern.match(value):
            raise self.error(f"`{key}` holds {value!r}, which it cannot")
