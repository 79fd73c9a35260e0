"""Reads lockfiles: TOML text to frozen values, every mistake in them named.

No engine calls here. docs/architecture.md describes the two formats. Whatever is wrong with a lockfile is a
`LockfileError`, whose message begins with the lockfile's path.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from typing import Iterable

from pants.util.frozendict import FrozenDict

from opam_oci.downloads.credentials import holds_password
from opam_oci.resolves.lock_table import LockTable, read_top
from opam_oci.resolves.lockfile import (
    Deb,
    DebianLock,
    LockedPackage,
    LockfileError,
    OpamLock,
    PackageFile,
    Source,
    SourceOutOfReach,
    naming_remedy,
)

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

OPAM_NAME = re.compile(r"[A-Za-z0-9_+-]*[A-Za-z][A-Za-z0-9_+-]*\Z")

OPAM_VERSION = re.compile(r"[A-Za-z0-9_+.~-]+\Z")

DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")

_DEBIAN_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+\Z")

_DEBIAN_ARCHITECTURE = re.compile(r"[a-z0-9-]+\Z")

_PACKAGE_KEYS = (
    *("name", "version", "depends", "post_depends", "test_depends", "doc_depends", "depexts", "debs"),
    *("depexts_out_of_reach", "local"),
    *("opam", "opam_base64", "source", "source_out_of_reach", "file"),
)

# NAME.VERSION is the name of a directory wherever opam keeps packages.
_LONGEST_TITLE = 200

# Names of a long cycle that its error shows, from each of its ends.
_LISTED = 6

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|debian:)[^\s]+\Z")


def read_debian_lock(path: str, resolve: str, content: bytes) -> DebianLock:
    """Read the lockfile of a `debian_rootfs`. Raises LockfileError."""
    with naming_remedy(resolve):
        return _read_debian_lock(path, resolve, content)


def _read_debian_lock(path: str, resolve: str, content: bytes) -> DebianLock:
    top = read_top(path, resolve, content, kind="debian")
    metadata = top.table("metadata")
    top.refuse_unknown("metadata", "deb")
    metadata.refuse_unknown("lock_version", "kind", "resolve", "suite", "architecture", "packages", "tables")
    return DebianLock(
        path=path,
        resolve=resolve,
        suite=metadata.text("suite"),
        architecture=metadata.text("architecture", _DEBIAN_ARCHITECTURE),
        packages=metadata.texts("packages", DEBIAN_NAME),
        debs=read_debs(top),
    )


def read_opam_lock(path: str, resolve: str, content: bytes) -> OpamLock:
    """Read the lockfile of an opam resolve. Raises LockfileError."""
    with naming_remedy(resolve):
        return _read_opam_lock(path, resolve, content)


def _read_opam_lock(path: str, resolve: str, content: bytes) -> OpamLock:
    top = read_top(path, resolve, content, kind="opam")
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
    debs = read_debs(top)
    packages: dict[str, LockedPackage] = {}
    for table in top.tables("package"):
        package = read_package(table)
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


def read_package(table: LockTable) -> LockedPackage:
    """A table `package` of a lockfile. Raises LockfileError."""
    name, version = table.text("name", OPAM_NAME), table.text("version", OPAM_VERSION)
    if len(name) + len(version) > _LONGEST_TITLE:
        raise table.error(f"`name` and `version` have more than {_LONGEST_TITLE} characters")
    table = LockTable(table.path, f"[[package]] {name}", table.values)
    sources = tuple(_source(source) for source in table.tables("source"))
    files = tuple(_file(file) for file in table.tables("file"))
    out_of_reach = tuple(_source_out_of_reach(source) for source in table.tables("source_out_of_reach"))
    table.refuse_unknown(*_PACKAGE_KEYS)
    table.refuse_duplicates("source", [*(s.name for s in sources), *(s.name for s in out_of_reach)])
    table.refuse_duplicates("file", [file.path for file in files])
    local = table.path_text("local") if "local" in table.values else ""
    archives = [*(s.name for s in sources), *(s.name for s in out_of_reach)].count("")
    if local and (files or archives):
        raise table.error("it is built from `local`, but has an archive or files as well")
    return LockedPackage(
        name=name,
        version=version,
        local=local,
        depends=table.names("depends", OPAM_NAME),
        post_depends=table.names("post_depends", OPAM_NAME),
        depexts=table.names("depexts"),
        debs=table.names("debs", DEBIAN_NAME),
        opam=_text_or_base64(table, "opam").decode("utf-8", "surrogateescape"),
        sources=sources,
        files=files,
        out_of_reach=out_of_reach,
        depexts_out_of_reach=table.text("depexts_out_of_reach") if "depexts_out_of_reach" in table.values else "",
        test_depends=table.optional_names("test_depends", OPAM_NAME),
        doc_depends=table.optional_names("doc_depends", OPAM_NAME),
    )


def _text_or_base64(table: LockTable, key: str) -> bytes:
    """The bytes of `key`, or of `key_base64`, which stands there instead where they are not UTF-8 text."""
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


def _refuse_passwords(table: LockTable, urls: Iterable[str]) -> None:
    if any(map(holds_password, urls)):
        # The opam file has it as well, and is in the image.
        raise table.error(
            "`urls` holds a user or a password, which everybody would read who has the lockfile or the image; put the file "
            "into a mirror of `[opam].archive_mirrors`, and take the user out of the opam file's URL"
        )


def _source_out_of_reach(table: LockTable) -> SourceOutOfReach:
    table.refuse_unknown("name", "urls", "checksums")
    urls = table.texts("urls")
    _refuse_passwords(table, urls)
    return SourceOutOfReach(
        name=table.path_text("name") if table.text("name") else "",
        urls=urls,
        checksums=table.texts("checksums"),
    )


def _source(table: LockTable) -> Source:
    table.refuse_unknown("name", "urls", "sha256", "size")
    urls = table.texts("urls", _URL)
    if not urls:
        raise table.error("`urls` is empty")
    _refuse_passwords(table, urls)
    for url in urls:
        if url.startswith("debian:"):
            table.check_path("urls", url[len("debian:") :])
    return Source(
        name=table.path_text("name") if table.text("name") else "",
        urls=urls,
        sha256=table.text("sha256", _SHA256),
        size=table.size("size"),
    )


def _file(table: LockTable) -> PackageFile:
    table.refuse_unknown("path", "content", "content_base64", "executable")
    return PackageFile(
        path=table.path_text("path"),
        content=_text_or_base64(table, "content"),
        executable=table.flag("executable"),
    )


def read_debs(top: LockTable) -> FrozenDict[str, Deb]:
    """The tables `deb` of a lockfile by name. Raises LockfileError."""
    debs: dict[str, Deb] = {}
    basenames: set[str] = set()
    for table in top.tables("deb"):
        table.refuse_unknown("name", "version", "architecture", "path", "sha256", "size")
        deb = Deb(
            name=table.text("name", DEBIAN_NAME),
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
    walk: dict[str, None] = {}
    name = min(left)
    while name not in walk:
        walk[name] = None
        name = min(d for d in lock.packages[name].depends if d in left)
    cycle = [*itertools.dropwhile(lambda one: one != name, walk), name]
    if len(cycle) > 2 * _LISTED:
        cycle[_LISTED:-_LISTED] = [f"({len(cycle) - 1 - 2 * _LISTED} more)"]
    raise LockfileError(lock.path, f"the packages depend on each other in a cycle: {' -> '.join(cycle)}.")
