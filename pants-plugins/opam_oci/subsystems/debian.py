"""The options `[debian]`."""

from __future__ import annotations

from pants.option.option_types import DictOption, StrListOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap

from opam_oci.subsystems.resolves import find_lockfile


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
            `https://` or `file://`), asked in this order. A URL may have a user and a password
            (`https://%(env.USER)s:%(env.PASSWORD)s@...`), which are neither shown nor kept.

            Default: those that apt on this machine uses, from /etc/apt/sources.list and /etc/apt/sources.list.d;
            archives for security updates only are left out.
            """
        ),
    )
    snapshot_mirrors = StrListOption(
        help=softwrap(
            """
            Archives of a day in the past, asked for locked Debian files that `[debian].mirrors` no longer have, such as
            `https://.../archive/debian/20260822T000000Z`. URLs as in `[debian].mirrors`; lockfiles are never generated
            from them.

            Default: none. A .deb that has left the mirror is then an error that asks for a new lockfile.
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
        return find_lockfile(resolve, self.resolves, "[debian].resolves", origin)
