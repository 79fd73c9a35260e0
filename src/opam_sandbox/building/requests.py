"""The requests of this part. Paths are relative to the current directory; `layers` are layer directories, bottom first."""

from typing import List, TypedDict

from opam_sandbox.opam.package import PackageFields


class Deb(TypedDict):
    """A Debian binary package: `sha256` in hex, `size` in bytes, `file` its path."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    file: str


class Source(TypedDict):
    """An archive or an extra source: `name` is "" for the archive, else the file name that the opam file gives it."""

    name: str
    sha256: str
    size: int
    file: str


class RootfsRequest(TypedDict):
    """`rootfs`: `packages` are those asked for, `debs` they and all that they need; `epoch`: no file is younger (seconds)."""

    store: str
    name: str
    suite: str
    architecture: str
    epoch: int
    packages: List[str]
    debs: List[Deb]


class OpamRootRequest(TypedDict):
    """`opam-root`: the layers are the base alone."""

    store: str
    layers: List[str]


class PackageToBuild(PackageFields):
    """`opam`: of its opam file, what a build sees: no comments, and no fields that opam only shows to people. `debs`: what its
    depexts resolve to, and what no layer below has."""

    sources: List[Source]
    debs: List[Deb]


class TreeFile(TypedDict):
    """A file of a project in the monorepo: `path` below the project's directory, which is `tree/` here."""

    path: str
    sha256: str
    executable: bool


class _BuildRequest(TypedDict):
    store: str
    layers: List[str]
    package: PackageToBuild


class BuildRequest(_BuildRequest, total=False):
    """`build`: the layers are the base, opam's root and all transitive dependencies, dependencies first.

    twice: install the .debs two times, and compare. left_out: patterns of further files that no layer has, as
    `beside/machine_files` has them. later: `name.version` of what the package and those below need beside them (`post`), and
    no layer has. overlapping_files: patterns of paths that two of the layers may hold differently, see `beside.overlaps`.
    tree: the package's sources, where they are files of the monorepo and no archive.
    """

    overlapping_files: List[str]
    with_test: bool
    twice: bool
    left_out: List[str]
    later: List[str]
    tree: List[TreeFile]


class TestRequest(BuildRequest, total=False):
    """`test`: as `build`, with what the package's tests need among the layers. live: the tests' output is this process's."""

    live: bool


class _Shell(BuildRequest):
    command: List[str]


class ShellRequest(_Shell, total=False):
    """`shell`: as `build`. command: its words, none for a shell. after_build: the build's commands run before. network: the
    machine's is to be had. keep: an absolute path, of an empty directory that is to hold the build's directory, "" for none."""

    after_build: bool
    network: bool
    keep: str
