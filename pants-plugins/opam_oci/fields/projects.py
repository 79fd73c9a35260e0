"""Fields of `opam_project` and `opam_local_package`."""

from __future__ import annotations

from pants.engine.target import StringField
from pants.util.strutil import help_text


class OpamExecutableField(StringField):
    alias = "executable"
    help = help_text(
        """
        The program that `run` runs, by its name in the switch's `bin`.

        Default: the only program that the package installs, or the one that is called as the package is.
        """
    )
