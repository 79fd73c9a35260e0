"""The options `[opam]`."""

from __future__ import annotations

from enum import Enum
from typing import Any, Iterable

from pants.option.option_types import (
    BoolOption,
    DictOption,
    EnumOption,
    StrListOption,
    StrOption,
)
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap

from opam_oci.subsystems.build_limits import BuildLimitOptions
from opam_oci.subsystems.rebuild import Rebuild
from opam_oci.subsystems.resolves import UnknownResolveError, find_lockfile


class OutOfReach(Enum):
    """What locking does about bytes that no place gives."""

    ERROR = "error"
    RECORD = "record"


class RepositoryOrderError(Exception):
    """`[opam].repository_order` does not name each repository once."""


class OpamSubsystem(BuildLimitOptions, Subsystem):
    options_scope = "opam"
    help = "Options for building opam (OCaml) packages as image layers."

    resolves = DictOption[str](
        default={},
        help=softwrap(
            """
            Names of sets of opam packages that are solved together, each with the path of its lockfile.

            The `opam_requirement` targets of a resolve are its roots; `pants generate-lockfiles --resolve=<name>`
            solves them and writes the lockfile. Names must differ from those in `[debian].resolves`.
            """
        ),
    )
    default_resolve = StrOption(
        default="default",
        help="The resolve of targets that set no `resolve`. Must be one of `[opam].resolves`.",
    )
    resolves_to_base = DictOption[str](
        help=softwrap(
            """
            The base of each resolve: the address of a `debian_rootfs`, such as
            `{"default": "//3rdparty/debian:trixie"}`.

            Packages are solved and built in their base, so that it is a part of what is locked: another base here
            asks for a new lockfile. A resolve that is not named here cannot be locked or built.
            """
        ),
    )
    resolves_to_ocaml = DictOption[str](
        help=softwrap(
            """
            The OCaml of each resolve: a version (`"5.3.0"`), bounds (`">=5.2,<5.4"`), or a compiler package with its
            version (`"ocaml-variants=5.3.0+options"`), such as `{"default": "5.3.0"}`.

            It becomes one more root of the resolve; a version or bounds are those of the opam package `ocaml`.
            The key `__default__` stands for all resolves that are not named. Default: what the solver chooses.
            """
        ),
    )
    resolves_with_test = StrListOption(
        help=softwrap(
            """
            Names of resolves whose roots are solved with what their tests need, as `opam install --with-test` does.

            The lockfile then also holds those packages; they stay out of what the roots are built on.
            """
        ),
    )
    resolves_with_doc = StrListOption(
        help=softwrap(
            """
            Names of resolves whose roots are solved with what their documentation needs, as
            `opam install --with-doc` does.
            """
        ),
    )
    resolves_prefer_oldest = StrListOption(
        help=softwrap(
            """
            Names of resolves that take the oldest versions which fit instead of the newest, to test lower bounds.

            They are solved with opam's solver `builtin-0install`, unless `[opam].solver` names another one.
            """
        ),
    )
    solver = StrOption(
        default="",
        advanced=True,
        help=softwrap(
            """
            The solver that opam in the base uses, by the name that `opam install --solver` takes, such as
            `builtin-0install`, which is quicker and may find another solution than opam's default.

            Default: opam's own default. Lockfiles that another solver made are out of date after a change.
            """
        ),
    )
    out_of_reach = EnumOption(
        default=OutOfReach.ERROR,
        help=softwrap(
            """
            What `generate-lockfiles` does where no place gives a source, so that its sha256 and size cannot be locked, or
            where the base's Debian release lacks what a package's depexts name.

            `error`: say which, and write no lockfile. `record`: write the lockfile with what the opam file says of them,
            and warn. Its packages can then be listed, and others built; building those is an error until the lockfile is
            generated again where everything can be had.
            """
        ),
    )
    repositories = DictOption[str](
        help=softwrap(
            """
            The opam repositories that lockfiles are solved against, by name. Where two have the same package, the
            one that stands first in `[opam].repository_order` wins.

            A location is a directory in the build root (`3rdparty/opam/overlay`), a commit of a git repository
            (`git+https://example.org/repo.git#<40 hex digits>`; git must be installed), or the URL of an archive
            (`https://` or `file://`; .tar, .tar.gz, .tar.zst ...) with its checksum and size:
            `https://example.org/repo.tar.gz#sha256=<hex>&size=<bytes>`.

            Only `generate-lockfiles` fetches them; builds need the lockfile alone. It says which contents of them it is
            for: after a change here, or in a directory, it is out of date.
            """
        ),
    )
    repository_order = StrListOption(
        help=softwrap(
            """
            The names in `[opam].repositories`, the repository that wins first: `["overlay", "upstream"]`.

            Default: none, which is enough for one repository. With several, all of them must be named here, each once:
            Pants 2.30 and newer do not keep the order in which a table's entries are written.
            """
        ),
    )
    archive_mirrors = StrListOption(
        help=softwrap(
            """
            Mirrors of source archives that are asked before the places which the lockfile names, in this order.

            Each is a URL (`https://` or `file://`) below which archives stand as in opam's own cache:
            `sha256/ab/abcd...`. It may have a user and a password, which are neither shown nor kept. Default: none.
            A mirror that lacks a file costs one request for it per start of Pants' daemon; one with a wrong file is
            passed over with a warning.
            """
        ),
    )
    overlapping_files = StrListOption(
        help=softwrap(
            """
            Paths that two packages may hold differently although neither depends on the other, where a third one is built over
            both or where an image has both: glob patterns of absolute paths, in which `*` also stands for slashes, such as
            `/home/opam/.opam/default/share/*/index`. What the later layer has of such a path holds.

            Default: none, so that such a path is an error that names the packages. Images have the field
            `overlapping_files` for what only they bring together. A change builds packages with two or more dependencies anew.
            """
        ),
    )
    show_build_logs = BoolOption(
        default=False,
        help=softwrap(
            """
            Print the whole log of each package's build, also of those that succeed or come from a cache.

            By default only the end of the log of a package that fails is shown, with the error.
            """
        ),
    )
    check_depexts = BoolOption(
        default=False,
        help=softwrap(
            """
            Install the Debian packages of depexts twice in each build that has some, and fail where the two installs
            differ, with each path that does.

            What differs is random or of the time, made by a maintainer script: each machine would make another layer. It
            is for CI, as builds with depexts are made anew for it, and take longer.
            """
        ),
    )
    rebuild = EnumOption(
        default=Rebuild.none,
        help=softwrap(
            """
            What is made again, whatever a local or remote cache has of it; nothing of it is put into a cache. `packages`: the
            layers of packages, and what images have beside them. `all`: the base, and opam's root on it, as well.

            For the command line: each run of Pants makes everything again that it asks for. Sources and .debs, which lockfiles
            name by their sha256, are taken from where they are. Health checks and lockfiles have nothing to do with it.
            `oci-verify` has an option of its own.
            """
        ),
    )
    depext_files_left_out = StrListOption(
        help=softwrap(
            """
            Files that maintainer scripts of depexts make and that no layer is to have: paths of the image, in which `*`
            stands for anything but a `/` and `**/` for any number of directories, such as `["/etc/example/*.key"]`. A
            directory is left out with all that is in it; what a Debian package itself has, stays.

            Private keys and other files of a machine that are known are left out anyway; a private key that is not
            known is an error, for which this is the way out. Default: none.
            """
        ),
    )
    store_max_size = StrOption(
        default="",
        help=softwrap(
            """
            How large what builds keep on this machine may be when a run has ended: unpacked layers, package lists, bytecode. A
            number and a unit (`40GiB`), or a part of the disk (`20%`). What was not used for the longest time is removed then;
            what is needed again is made again, from Pants' own store or a cache. Nothing is removed that is in use.

            Default: no limit, as Pants has none for other caches: the next build would wait for what is unpacked again. Set it
            where disks fill up, such as on CI. `pants opam-cache` says how large all is, and prunes by hand.
            """
        ),
    )
    tailor_requirements = BoolOption(
        default=True,
        advanced=True,
        help=softwrap(
            """
            If true, `tailor` adds targets for files `*.opam` and `opam` that no target has: an `opam_project` where there is a
            `dune-project` or OCaml sources beside them, an `opam_requirement` for each elsewhere.
            """
        ),
    )
    tailor_packages = BoolOption(
        default=True,
        advanced=True,
        help="If true, `tailor` adds an `opam_packages` for each lockfile in `[opam].resolves` that none reads.",
    )
    check_host = BoolOption(
        default=True,
        advanced=True,
        help=softwrap(
            """
            Before a build, look for the tools and kernel features on this machine that building layers needs, and
            stop with the command that installs them if they are missing.

            Set to false where all layers come from a remote cache or are built by remote workers.
            """
        ),
    )

    def ordered_repositories(self) -> dict[str, str]:
        """`[opam].repositories`, the one that wins first. Raises RepositoryOrderError where the order is not said."""
        names = list(self.repository_order) or (list(self.repositories) if len(self.repositories) == 1 else [])
        if sorted(names) != sorted(self.repositories):
            asked = ", ".join(f'"{name}"' for name in sorted(self.repositories))
            given = ", ".join(f'"{name}"' for name in self.repository_order)
            raise RepositoryOrderError(
                f"`[opam].repositories` names the repositories {asked or '(none)'}, but `[opam].repository_order` is "
                f"[{given}]. Name each of them there once, the one that wins first."
            )
        return {name: self.repositories[name] for name in names}

    def lockfile_of(self, resolve: str, origin: str) -> str:
        """The path of a resolve's lockfile; `origin` says for an error what names the resolve."""
        return find_lockfile(resolve, self.resolves, "[opam].resolves", origin)

    def solver_options(self, resolve: str) -> dict[str, Any]:
        """The fields of `products.SolverOptions`. Raises UnknownResolveError for names that no resolve has."""
        for option in ("resolves_with_test", "resolves_with_doc", "resolves_prefer_oldest"):
            self._check_names(option, getattr(self, option))
        return {
            "with_test": resolve in self.resolves_with_test,
            "with_doc": resolve in self.resolves_with_doc,
            "prefer_oldest": resolve in self.resolves_prefer_oldest,
            "solver": self.solver,
        }

    def ocaml_of(self, resolve: str) -> str | None:
        """The requirement that `[opam].resolves_to_ocaml` makes, without spaces. Raises UnknownResolveError."""
        self._check_names("resolves_to_ocaml", (name for name in self.resolves_to_ocaml if name != "__default__"))
        value = self.resolves_to_ocaml.get(resolve, self.resolves_to_ocaml.get("__default__"))
        if value is None:
            return None
        text = "".join(value.split())
        if text[:1].isdigit():
            return f"ocaml={text}"
        return f"ocaml{text}" if text.startswith(("<", ">", "=", "!")) else text

    def _check_names(self, option: str, names: Iterable[str]) -> None:
        for name in names:
            find_lockfile(name, self.resolves, "[opam].resolves", f"`[opam].{option}`")

    def base_of(self, resolve: str) -> str:
        """The address of a resolve's base as the option has it. Raises UnknownResolveError."""
        if resolve not in self.resolves_to_base:
            raise UnknownResolveError(
                f"The resolve `{resolve}` has no base. Set `[opam].resolves_to_base` to the address of a "
                f'`debian_rootfs`, such as `{{"{resolve}": "//3rdparty/debian:trixie"}}`.'
            )
        return self.resolves_to_base[resolve]
