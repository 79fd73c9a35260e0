"""Requests of the sandbox tool that make packages' layers."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Iterable

from pants.engine.fs import FileDigest, FileEntry

from opam_oci.downloads.fetch import DEBIAN_SCHEME, FetchRequest
from opam_oci.resolves.lockfile import Deb, LockedPackage, PackageFile, Source, regenerate_command
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.process import layer_paths

if TYPE_CHECKING:
    from opam_sandbox.building import requests
    from opam_sandbox.opam.package import PackageFields
    from opam_sandbox.opam.package import PackageFile as PackageFileFields


def _file_json(file: PackageFile) -> PackageFileFields:
    fields: PackageFileFields = {"path": file.path, "content": base64.b64encode(file.content).decode()}
    return {**fields, "executable": True} if file.executable else fields


def package_json(package: LockedPackage, text: str) -> PackageFields:
    """A package as requests have it, but for what it is built from. text: of its opam file, all or a part."""
    return {
        "name": package.name,
        "version": package.version,
        "opam": text,
        "files": [_file_json(file) for file in package.files],
    }


def source_requests(package: LockedPackage, resolve: str) -> tuple[FetchRequest, ...]:
    """How to fetch a package's archives and extra sources."""
    return tuple(
        FetchRequest(
            owner=package.full_name,
            name=source.name or source.urls[0].rpartition("/")[2],
            urls=source.urls,
            sha256=source.sha256,
            size=source.size,
            resolve=resolve,
        )
        for source in package.sources
    )


def source_json(source: Source) -> requests.Source:
    """A source as requests have it: not where it comes from, which may change."""
    return {
        "name": source.name,
        "sha256": source.sha256,
        "size": source.size,
        "file": f"sources/{source.sha256}",
    }


def deb_json(deb: Deb) -> requests.Deb:
    """A .deb as requests have it."""
    return {
        "name": deb.name,
        "version": deb.version,
        "architecture": deb.architecture,
        "sha256": deb.sha256,
        "size": deb.size,
        "file": f"debs/{deb.basename}",
    }


def tree_json(entry: FileEntry) -> requests.TreeFile:
    """A file of a project as requests have it."""
    return {"path": entry.path, "sha256": entry.file_digest.fingerprint, "executable": entry.is_executable}


def tree_entries(tree: Iterable[FileEntry]) -> list[FileEntry]:
    """A project's files as inputs of a process."""
    return [dataclasses.replace(entry, path=f"tree/{entry.path}") for entry in tree]


def deb_entries(debs: Iterable[Deb]) -> list[FileEntry]:
    """The .debs as inputs of a process, named by what the lockfile says of them."""
    return [FileEntry(f"debs/{deb.basename}", FileDigest(deb.sha256, deb.size)) for deb in debs]


def out_of_reach(package: LockedPackage, resolve: str) -> list[str]:
    """One message for each thing that a lockfile made with `[opam].out_of_reach` lacks of a package."""
    messages = []
    for source in package.out_of_reach:
        what = f"the source {source.name}" if source.name else "the archive"
        messages.append(
            f"{package.full_name}: the lockfile has no sha256 and size of {what} ({', '.join(source.urls)}), as it was out "
            f"of reach when the lockfile was generated. Run `{regenerate_command(resolve)}` where it can be had, or with a "
            "mirror that has it in `[opam].archive_mirrors`."
        )
    if package.depexts_out_of_reach:
        messages.append(
            f"{package.full_name}: its depexts could not be locked ({package.depexts_out_of_reach}). Run "
            f"`{regenerate_command(resolve)}` with a base whose Debian release has them."
        )
    return messages


def build_request(
    package: LockedPackage,
    text: str,
    debs: Iterable[Deb],
    layers: Iterable[Layer],
    later: Iterable[str] = (),
    twice: bool = False,
    left_out: Iterable[str] = (),
    overlapping_files: Iterable[str] = (),
    with_test: bool = False,
    tree: Iterable[FileEntry] | None = None,
) -> requests.BuildRequest:
    """The request of the `build` command. text: what builds see of the opam file. later: see `OpamLock.later`.

    `twice`, `left_out`: of the .debs' install. overlapping_files: patterns from `[opam].overlapping_files`. tree: files of this
    repository that the package is built from; None where that is an archive."""
    allowed = list(overlapping_files)
    request: requests.BuildRequest = {
        "store": "store",
        "layers": layer_paths(layers),
        "package": {
            **package_json(package, text),
            "sources": [source_json(source) for source in package.sources],
            "debs": [deb_json(deb) for deb in debs],
        },
        "with_test": with_test,
        "later": list(later),
    }
    if tree is not None:
        request["tree"] = [tree_json(entry) for entry in tree]
    # Only where they count: another request is another build.
    if request["package"]["debs"] and twice:
        request["twice"] = True
    if request["package"]["debs"] and left_out:
        request["left_out"] = sorted(left_out)
    # A package with one dependency has no two that could differ, but with what that one was built over.
    if allowed and len(package.depends) > 1:
        request["overlapping_files"] = allowed
    return request


def deb_requests(owner: str, debs: Iterable[Deb], resolve: str) -> tuple[FetchRequest, ...]:
    """How to fetch .debs. `owner` says in messages what needs them, `resolve` whose lockfile names them."""
    return tuple(
        FetchRequest(
            owner=owner,
            name=deb.basename,
            urls=(f"{DEBIAN_SCHEME}{deb.path}",),
            sha256=deb.sha256,
            size=deb.size,
            resolve=resolve,
        )
        for deb in debs
    )
