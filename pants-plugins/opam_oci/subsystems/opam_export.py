"""The options `[opam-export]`."""

from __future__ import annotations

from pants.option.option_types import BoolOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class OpamExportSubsystem(Subsystem):
    options_scope = "opam-export"
    help = "Options for `export --resolve=NAME` of a resolve in `[opam].resolves`: its packages as a switch of this machine."

    check_host = BoolOption(
        default=True,
        help=softwrap(
            """
            Whether a switch is written only where its programs run: on a machine of the base's architecture, with a C library
            that is not older than the base's, with the shared libraries that the switch needs, and with the OCaml of the base's
            Debian where the packages were built by that one. Turn it off to use the switch elsewhere than where Pants runs, such
            as in a container that has the build root at the same path.
            """
        ),
    )
