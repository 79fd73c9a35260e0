"""The last step of an opam resolve's lockfile: finds every byte that building a solution needs, and writes the lockfile.

Writes `lockfile`, and notes.json: [sentences for the user].
"""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.locking import cache, lock_debs, secrets, toml_writer
from opam_sandbox.locking.apt import Apt, LockedDeb
from opam_sandbox.locking.apt_lists import Lists, update
from opam_sandbox.locking.indexes import read_source_index
from opam_sandbox.locking.lock_debian import deb_text
from opam_sandbox.locking.mirrors import DEBIAN
from opam_sandbox.locking.requests import BaseFacts, Indexes, LockRequest, Solution
from opam_sandbox.locking.root_requests import LockRootsRequest, SolverRequest
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.locking.sources import Locked, OutOfReach, SourceFinder
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import opamfile
from opam_sandbox.request import read_request

NOTES = "notes.json"
_DOWNLOADS = 8


@dataclass
class PackageToLock:
    """A package whose sources and depexts are looked for, and what was found. `local`: see `SolvedPackage`."""

    name: str
    version: str
    opam: str
    files: List[Tuple[str, bytes, bool]]
    depends: Tuple[str, ...]
    post: Tuple[str, ...]
    test: List[str]
    doc: List[str]
    depexts: List[str]
    local: str = ""
    sources: List[Locked] = field(default_factory=list)
    out_of_reach: List[Wanted] = field(default_factory=list)
    depexts_out_of_reach: str = ""
    debs: List[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.name}.{self.version}"


def lock(request: LockRequest) -> int:
    """The step `lock`. Raises ToolError where a source is out of reach, unless the request says to record that."""
    answer: Solution = read_request(request["solution"], Solution)
    indexes: Indexes = read_request(request["indexes"], Indexes)
    base: BaseFacts = read_request(request["base_json"], BaseFacts)
    known = secrets.take(request.get("secrets", ""))
    packages = _read_packages(answer)
    notes: List[str] = list(answer["notes"])
    record = request.get("record_out_of_reach", False)
    notes += lock_sources(packages, request, indexes["session"], known, record=record)
    debs = _lock_debs(packages, base["status"], request, indexes["lists"], known)
    unlocked = [package.title for package in packages if package.depexts_out_of_reach]
    if unlocked:
        notes.append(
            f"the depexts of {', '.join(unlocked)} cannot be installed from {request['suite']}: the lockfile says "
            "so, and these packages cannot be built from it."
        )
    with open("lockfile", "w", encoding="utf-8") as out:
        out.write(_text(request, packages, debs))
    write_json(NOTES, notes)
    return 0


def _read_packages(answer: Solution) -> List[PackageToLock]:
    return [
        PackageToLock(
            item["name"],
            item["version"],
            item["opam"],
            [(path, base64.b64decode(content), "x" in more) for path, content, *more in item["files"]],
            tuple(item["depends"]),
            tuple(item["post"]),
            item["test"],
            item["doc"],
            item["depexts"],
            item.get("local", ""),
        )
        for item in answer["packages"]
    ]


def lock_sources(
    packages: Sequence[PackageToLock],
    request: Union[LockRequest, LockRootsRequest],
    session: str,
    known: Secrets,
    *,
    record: bool,
) -> List[str]:
    """Find each package's sources. Returns notes for the user; raises ToolError where one is out of reach, unless that is to
    be recorded."""
    wanted = [
        (package, source)
        for package in packages
        for source in wanted_sources(opamfile.parse(package.opam, package.title), package.title)
    ]
    if not wanted:
        return []
    store = request["store"]
    finder = SourceFinder(
        read_source_index(
            Path(request["sources"]),
            {value for _, source in wanted for _, value in source.checksums},
            {url[len(DEBIAN) :] for _, source in wanted for url in source.urls if url.startswith(DEBIAN)},
            {package.version for package, _ in wanted},
        ),
        request["mirrors"],
        request["archive_mirrors"],
        cache.Memo(cache.directory(store, "archives")),
        cache.Memo(cache.directory(store, "sessions", session)),
        known,
    )
    errors: Dict[str, List[str]] = {}
    for (package, source), found in zip(wanted, _found(finder, wanted)):
        if isinstance(found, Locked):
            package.sources.append(found)
        else:
            package.out_of_reach.append(source)
            errors.setdefault(package.title, []).append(str(found))
    if not errors:
        return []
    if record:
        return [
            f"the sources of {', '.join(errors)} are out of reach: the lockfile says so, and these packages cannot be built "
            "until it is generated where they can be had."
        ]
    listed = "\n  ".join(text for texts in errors.values() for text in texts)
    raise ToolError(
        f"sources of {len(errors)} of {len(packages)} packages cannot be had, so they cannot be locked:\n  {listed}\n"
        "Name a mirror that has them in [opam].archive_mirrors, or put packages with other archives into an overlay "
        "repository. To write the lockfile all the same, for what needs no sources, set [opam].out_of_reach to "
        "'record': the packages named above then cannot be built from it."
    )


def _found(finder: SourceFinder, wanted: Sequence[Tuple[PackageToLock, Wanted]]) -> List[Union[Locked, OutOfReach]]:
    """What is found of each, or why nothing is, whatever the threads' order was."""

    def lock_one(package: PackageToLock, source: Wanted) -> Union[Locked, OutOfReach]:
        try:
            return finder.lock(package.title, source)
        except OutOfReach as error:
            return error

    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        found = list(pool.map(lock_one, *zip(*wanted)))
    # An archive may have been found for another package meanwhile, by a checksum that no index states.
    return [
        one if isinstance(one, Locked) else finder.found_since(source) or one for one, (_, source) in zip(found, wanted)
    ]


def _lock_debs(
    packages: Sequence[PackageToLock], status: str, request: LockRequest, snapshot: str, known: Secrets
) -> List[LockedDeb]:
    """Give each package the .debs that its depexts need and that neither the base nor its dependencies have."""
    wanted = {package.title: package.depexts for package in packages if package.depexts}
    if not wanted:
        return []
    with Apt(lists_of(request, snapshot, known), status) as apt:
        found = lock_debs.resolve(apt, wanted, request.get("record_out_of_reach", False))
    by_name = {package.name: package for package in packages}
    for package in packages:
        package.depexts_out_of_reach = found.out_of_reach.get(package.title, "")
        there: Set[str] = set()
        for name in _below(package.name, by_name):
            there |= found.own.get(by_name[name].title, set())
        package.debs = sorted(found.own.get(package.title, set()) - there)
    return found.debs


def lists_of(request: Union[LockRequest, LockRootsRequest, SolverRequest], snapshot: str, known: Secrets) -> Lists:
    """A mirror's lists, as they were read in this run."""
    apt = cache.directory(request["store"], "apt")
    architecture = request["architecture"]
    if (apt / snapshot).is_dir():
        return Lists(apt / snapshot, architecture)
    # Another machine than the one that downloaded them, or a cache that was emptied meanwhile.
    return update(apt, request["mirrors"], [request["suite"]], architecture, known)


def _below(name: str, packages: Mapping[str, PackageToLock]) -> Set[str]:
    """All transitive build dependencies of a package."""
    seen: Set[str] = set()
    todo = list(packages[name].depends)
    while todo:
        dependency = todo.pop()
        if dependency not in seen:
            seen.add(dependency)
            todo += packages[dependency].depends
    return seen


def _text(request: LockRequest, packages: Sequence[PackageToLock], debs: Sequence[LockedDeb]) -> str:
    resolve = request["resolve"]
    metadata = {
        "kind": "opam",
        "resolve": resolve,
        "base": request["base"],
        "requirements": sorted(request["requirements"]),
        "constraints": sorted(request["constraints"]),
        "repositories": request["repositories"],
        "options": request["options"],
        **({"opam_files": request["opam_files"]} if request.get("opam_files") else {}),
    }
    tables: List[str] = []
    for package in packages:
        try:
            tables += _package_tables(package)
        except ToolError as error:
            raise ToolError(f"{package.title}: {error}") from None
    return toml_writer.lockfile(resolve, metadata, [*tables, *map(deb_text, debs)])


def _package_tables(package: PackageToLock) -> Iterator[str]:
    yield toml_writer.table(
        "[[package]]",
        {
            "name": package.name,
            "version": package.version,
            **({"local": package.local} if package.local else {}),
            "depends": list(package.depends),
            "post_depends": list(package.post),
            **({"test_depends": package.test} if package.test else {}),
            **({"doc_depends": package.doc} if package.doc else {}),
            "depexts": package.depexts,
            **({"depexts_out_of_reach": package.depexts_out_of_reach} if package.depexts_out_of_reach else {}),
            "debs": package.debs,
            **content_of("opam", package.opam.encode("utf-8", "surrogateescape")),
        },
    )
    for source in package.sources:
        yield toml_writer.table(
            "[[package.source]]",
            {"name": source.name, "urls": list(source.urls), "sha256": source.sha256, "size": source.size},
        )
    for wanted in package.out_of_reach:
        yield toml_writer.table(
            "[[package.source_out_of_reach]]",
            {
                "name": wanted.name,
                "urls": list(wanted.urls),
                "checksums": [f"{kind}={value}" for kind, value in wanted.checksums],
            },
        )
    for path, content, executable in package.files:
        mode = {"executable": True} if executable else {}
        yield toml_writer.table("[[package.file]]", {"path": path, **mode, **content_of("content", content)})


def content_of(key: str, content: bytes) -> Dict[str, str]:
    """Bytes as a field of a lockfile: `key`, or `key_base64` for what is no text."""
    try:
        return {key: content.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(content).decode()}
