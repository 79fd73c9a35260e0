"""What lockfiles say, as frozen values."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterable, Iterator, Mapping

from pants.util.docutil import bin_name
from pants.util.frozendict import FrozenDict

from opam_oci.resolves.dependency_order import cycles, reachable, ready_order

# The package that stands for a compiler of the base's Debian: the switch has none of its own.
DEBIANS_OCAML = "ocaml-system"


class LockfileError(Exception):
    """A lockfile that cannot be used; the message names the file and what is wrong in it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"The lockfile {path}: {problem}")
        self.path = path
        self.problem = problem


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
        """The file's name."""
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
    executable: bool = False


@dataclass(frozen=True)
class LockedPackage:
    """One opam package of a solution.

    `depends` are the edges of the build graph; `post_depends` belong into an image but not below the build. What only
    the package's tests or documentation need is in neither. `out_of_reach` and `depexts_out_of_reach` (why, or "") are what
    could not be locked: the package cannot be built. `local`: of a package of this repository, the path of its opam file; it has
    no archive, and is built from the sources of its `opam_project`.
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
    local: str = ""

    @property
    def full_name(self) -> str:
        """As in "lwt.5.6.1"."""
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

    def debs_of(self, name: str) -> tuple[Deb, ...]:
        """The .debs that a package's layer unpacks."""
        return tuple(self.debs[deb] for deb in self.packages[name].debs)

    def build_closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The packages that must stand below a build that needs `names`, dependencies first, `names` included."""
        return self.in_build_order(reachable(names, lambda name: self.packages[name].depends))

    def later(self, name: str) -> tuple[str, ...]:
        """`name.version` of the post-dependencies of a package, and of all below it, that do not stand below its build."""
        below = self.build_closure([name])
        post = {post for one in below for post in self.packages[one].post_depends}
        return tuple(self.packages[one].full_name for one in sorted(post.difference(below)))

    def image_closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The packages of an image that holds `names`, dependencies first: post-dependencies come along."""
        return self.in_build_order(reachable(names, self.all_depends))

    def all_depends(self, name: str) -> tuple[str, ...]:
        """Build edges and post-dependencies of a package."""
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
        # A post-dependency leads back to whom it is on a cycle with.
        number = cycles({name: self.all_depends(name) for name in self.packages})
        return {
            name: tuple(post for post in package.post_depends if number[post] != number[name])
            for name, package in self.packages.items()
        }

    def reached_by_targets(self, names: Iterable[str]) -> set[str]:
        """`names` and what is reached from them along build edges and acyclic post-dependencies."""
        post_depends = self.acyclic_post_depends()
        return reachable(names, lambda name: (*self.packages[name].depends, *post_depends[name]))


def regenerate_command(resolve: str) -> str:
    """The command that writes the lockfile of a resolve anew."""
    return f"{bin_name()} generate-lockfiles --resolve={resolve}"


@contextmanager
def naming_remedy(resolve: str) -> Iterator[None]:
    """Adds to a LockfileError of this context how to get a good lockfile, where it does not say so already."""
    try:
        yield
    except LockfileError as error:
        if f"--resolve={resolve}" in error.problem:
            raise
        problem = f"{error.problem}\nRestore it, or make it anew with `{regenerate_command(resolve)}`."
        raise LockfileError(error.path, problem) from None
