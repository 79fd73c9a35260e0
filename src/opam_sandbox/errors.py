"""The errors of the tool: messages for people, shown without a traceback."""

from __future__ import annotations

from typing import Sequence


class ToolError(Exception):
    """Something that the user can mend: the message says what is wrong, where, and what to do. Exit status 1."""


class RequestError(ToolError):
    """The request itself makes no sense (a caller's mistake). Exit status 2."""


class MemoryShort(ToolError):
    """The kernel has ended a part of a command because memory was short. Exit status 1."""


class BuildFailed(ToolError):
    """A package's own build failed; build.log holds what it printed. Exit status 1."""


class LimitReached(ToolError):
    """A build took more than it may. `limit`: "time", "memory", "processes" or "disk"; `value`: what it may take, in seconds,
    bytes or processes; `running`: the command lines that ran then, the build's own command first. Exit status 1."""

    def __init__(self, text: str, limit: str, value: float, running: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.limit = limit
        self.value = value
        self.running = list(running)
