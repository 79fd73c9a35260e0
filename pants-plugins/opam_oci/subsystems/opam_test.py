"""The options of opam packages' tests."""

from __future__ import annotations

from pants.option.option_types import SkipOption
from pants.option.subsystem import Subsystem


class OpamTestSubsystem(Subsystem):
    options_scope = "opam-test"
    name = "opam's tests"
    help = "The tests of opam packages, as their opam files have them."

    skip = SkipOption("test")
