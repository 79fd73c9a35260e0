"""Fields that say whether and how a package's tests are run."""

from __future__ import annotations

from pants.core.goals.test import TestTimeoutField
from pants.engine.target import BoolField
from pants.util.docutil import bin_name
from pants.util.strutil import help_text


class OpamSkipTestsField(BoolField):
    alias = "skip_tests"
    default = False
    help = help_text(
        f"""
        Whether `{bin_name()} test` leaves this package out.

        Tests are what the opam file has them to be: commands with the filter `{{with-test}}`, and `run-test`. What only they need
        is locked where the resolve is in `[opam].resolves_with_test`, and never gets into the package's layer.
        """
    )


class OpamSkipLockedTestsField(OpamSkipTestsField):
    default = True
    help = help_text(
        f"""
        Whether `{bin_name()} test` leaves this package out, as it does by default with packages of a lockfile: they are others'.

        Set it in the field `overrides` of `opam_packages`: `{{"lwt": {{"skip_tests": False}}}}`. What only the tests need is
        locked for the roots of a resolve in `[opam].resolves_with_test`.
        """
    )


class OpamTestTimeoutField(TestTimeoutField):
    help = help_text(
        """
        Seconds that building the package with its tests, and running them, may take.

        Default: `[test].timeout_default`; never more than `[test].timeout_maximum`, and only with `--test-timeouts`.
        `[opam].build_timeout` holds besides.
        """
    )
