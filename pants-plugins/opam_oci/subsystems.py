"""The options `[opam]` and `[debian]`."""

from __future__ import annotations

from pants.option.option_types import BoolOption, DictOption, StrListOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class UnknownResolveError(Exception):
    """A `resolve` that no option defines."""


def _lockfile_of(resolve: str, resolves: dict[str, str], option: str, origin: str) -> str:
    if resolve not in resolves:
        known = ", ".join(sorted(resolves)) or "none"
        raise UnknownResolveError(
            f"The resolve `{resolve}`, named by {origin}, is not defined. Defined in `{option}`: {known}."
        )
    return resolves[resolve]


class OpamSubsystem(Subsystem):
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
    repositories = DictOption[str](
        help=softwrap(
            """
            The opam repositories that lockfiles are solved against, by name. Where two have the same package, the
            one listed first wins.

            A location is a directory in the build root (`3rdparty/opam/overlay`), or the URL of an archive
            (`https://` or `file://`; .tar, .tar.gz, .tar.zst ...) with its checksum and size:
            `https://example.org/repo.tar.gz#sha256=<hex>&size=<bytes>`.

            Only `generate-lockfiles` uses them; builds need the lockfile alone.
            """
        ),
    )
    archive_mirrors = StrListOption(
        help=softwrap(
            """
            Mirrors of source archives that are asked before the places which the lockfile names, in this order.

            Each is a URL (`https://` or `file://`) below which archives stand as in opam's own cache:
            `sha256/ab/abcd...`. Default: none. A mirror that lacks a file costs one request for it per start of
            Pants' daemon; one with a wrong file is passed over with a warning.
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

    def lockfile_of(self, resolve: str, origin: str) -> str:
        """The path of a resolve's lockfile; `origin` says for an error what names the resolve."""
        return _lockfile_of(resolve, self.resolves, "[opam].resolves", origin)

    def base_of(self, resolve: str) -> str:
        """The address of a resolve's base as the option has it. Raises UnknownResolveError."""
        if resolve not in self.resolves_to_base:
            raise UnknownResolveError(
                f"The resolve `{resolve}` has no base. Set `[opam].resolves_to_base` to the address of a "
                f'`debian_rootfs`, such as `{{"{resolve}": "//3rdparty/debian:trixie"}}`.'
            )
        return self.resolves_to_base[resolve]


class DebianSubsystem(Subsystem):
    options_scope = "debian"
    help = "Options for the Debian archives that bases and external dependencies come from."

    resolves = DictOption[str](
        default={},
        help=softwrap(
            """
            Names of bases, each with the path of its lockfile.

            A `debian_rootfs` names one of them in its `resolve` field;
            `pants generate-lockfiles --resolve=<name>` looks up its packages and writes the lockfile. Names must
            differ from those in `[opam].resolves`.
            """
        ),
    )
    mirrors = StrListOption(
        help=softwrap(
            """
            Debian archives to fetch from, as URLs of the directory that holds `dists` and `pool` (`http://`,
            `https://` or `file://`), asked in this order.

            Default: those that apt on this machine uses, from /etc/apt/sources.list and /etc/apt/sources.list.d;
            archives for security updates only are left out.
            """
        ),
    )
    source_suites = StrListOption(
        default=["trixie", "sid", "bookworm"],
        advanced=True,
        help=softwrap(
            """
            Suites whose source packages are searched, when an opam lockfile is generated, for archives that are
            byte for byte those which opam packages ask for. Found ones are locked as a second place to fetch from.

            An empty list searches none: sources then come from their upstream places and
            `[opam].archive_mirrors` alone.
            """
        ),
    )

    def lockfile_of(self, resolve: str, origin: str) -> str:
        """The path of a base's lockfile; `origin` says for an error what names the resolve."""
        return _lockfile_of(resolve, self.resolves, "[debian].resolves", origin)
