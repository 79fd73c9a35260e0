"""The options of `opam lint`."""

from __future__ import annotations

from pants.option.option_types import ArgsListOption, SkipOption
from pants.option.subsystem import Subsystem


class OpamLintSubsystem(Subsystem):
    options_scope = "opam-lint"
    name = "`opam lint`"
    help = "opam's check of opam files, by the opam of a resolve's base."

    skip = SkipOption("lint")
    args = ArgsListOption(example="--warnings=-25 --strict")
