"""The option `--opam-trace-file`."""

from __future__ import annotations

from pants.option.option_types import StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class TraceSubsystem(Subsystem):
    options_scope = "opam-trace"
    help = "Options for looking at what a run did when."

    file = StrOption(
        default=None,
        help=softwrap(
            """
            Write a trace of the run to this file: when which process ran; with `--streaming-workunits-level=trace` also
            when files were downloaded and caches asked. Open it in Perfetto or chrome://tracing; `bench/timeline.py`
            draws it as a picture.
            """
        ),
    )
