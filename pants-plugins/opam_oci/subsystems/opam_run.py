"""The options `[opam-run]`."""

from __future__ import annotations

from pants.option.option_types import BoolOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class OpamRunSubsystem(Subsystem):
    options_scope = "opam-run"
    help = softwrap(
        """
        How `run` runs programs of opam packages, and `repl` OCaml's toplevels: over the packages' layers, as user opam, with the
        variables that opam gives there and none of your own.
        """
    )

    directory = StrOption(
        default=".",
        help=softwrap(
            """
            The directory of this machine that the program sees, at the same place, and starts in: below the build root unless it
            is absolute. Nothing that is mounted in it is seen. Empty: it sees none.
            """
        ),
    )
    writable = BoolOption(
        default=False,
        help="The program may write into the directory. Otherwise what it writes anywhere is refused, or gone at the end.",
    )
    network = BoolOption(default=False, help="Let the program use this machine's network.")
