"""What a command's own work gets of its sandbox: the merged view, the log and the timer."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, NamedTuple

from opam_sandbox.files import write_json
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.overlay import Overlay

LOG = "build.log"
TIMINGS = "timings.json"


class Timer:
    """Seconds per step, by name; written to timings.json, which is no input of anything."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the context's time to the step's."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 4)

    def write(self) -> None:
        """Write timings.json into the current directory."""
        write_json(TIMINGS, self.seconds)


class View(NamedTuple):
    """`log`: what commands print; `scratch`: this process's own directory, which the view does not show."""

    overlay: Overlay
    log: BinaryIO
    timer: Timer
    scratch: Path

    @property
    def root(self) -> Path:
        """Where the merged view is mounted."""
        return self.overlay.root

    def write_files(self, files: Iterable[view_files.NewFile]) -> None:
        """Write files (names relative to the view's root) that belong to opam, with the directories that they need.

        Raises ToolError where a link is on the way.
        """
        view_files.write_all(self.root, files, self.overlay.opam)

    def log_text(self) -> str:
        """What was printed until now."""
        self.log.flush()
        return Path(LOG).read_text(errors="replace")
