"""Options for what a build may take."""

from __future__ import annotations

import re

from pants.option.option_types import IntOption, StrOption
from pants.util.strutil import softwrap

_TIME = re.compile(r"(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12})s?)?")
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?|\d{1,18})(?:([kmgt])i?)?b?")
_UNITS = {None: 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# What the tool takes.
_MOST = 1 << 62
# Of all limits: why a change builds nothing.
_NOT_IN_KEY = """
            A build that passes it fails, and the error names this option. A change builds nothing anew, and nothing of it is in a
            layer; remote workers do not know it.
            """


class BadLimitError(Exception):
    """An option for what a build may take makes no sense."""


def read_seconds(option: str, text: str) -> int:
    """Of `30m`, `1h30m`, `90s` or a number; 0 of "". Raises BadLimitError."""
    match = _TIME.fullmatch("".join(text.lower().split()))
    if match is None:
        raise BadLimitError(
            f"`[opam].{option}` is {text!r:.60}; it takes `30m`, `1h30m`, `90s` or a number of seconds."
        )
    hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def read_bytes(option: str, text: str) -> int:
    """Of `4GiB`, `512MiB` or a number; 0 of "". Units are powers of 1,024, however they are written. Raises BadLimitError."""
    given = "".join(text.lower().split())
    match = _SIZE.fullmatch(given or "0")
    if match is None:
        raise BadLimitError(
            f"`[opam].{option}` is {text!r:.60}; it takes a number and a unit, such as `4GiB` or `512MiB`, or a number of bytes."
        )
    number, unit = match.groups()
    return read_number(option, int((float if "." in number else int)(number) * _UNITS[unit]))


def read_number(option: str, value: int) -> int:
    """A number that is a limit, or 0. Raises BadLimitError."""
    if not 0 <= value < _MOST:
        raise BadLimitError(f"`[opam].{option}` is {value}; it takes a number from 0 to {_MOST - 1}.")
    return value


class BuildLimitOptions:
    """A part of `[opam]`."""

    build_timeout = StrOption(
        default="",
        help=softwrap(
            f"""
            How long the commands of one package's build may run, all together: `30m`, `1h30m`, `90s` or a number of seconds.

            Default: as long as they like: what is long depends on the machine. {_NOT_IN_KEY}
            """
        ),
    )
    build_memory_limit = StrOption(
        default="",
        help=softwrap(
            f"""
            How much memory one package's build may have, such as `4GiB`. Its scratch files count where they are in memory, but
            a build that has too little is tried once more with these on disk.

            Default: no limit of this kind; where root builds, 15/16 of the machine's, and builds are ended first when memory
            is short. {_NOT_IN_KEY} Without a control group (as a user, mostly) it is looked at four times a second.
            """
        ),
    )
    build_processes_limit = IntOption(
        default=0,
        help=softwrap(
            f"""
            How many processes and threads one package's build may have at once.

            Default: 0, no limit of this kind; 4,096, or 64 for each core where that is more, hold for every build. {_NOT_IN_KEY}
            """
        ),
    )
    build_disk_limit = StrOption(
        default="",
        help=softwrap(
            f"""
            How much one package's build may write, such as `10GiB`: what it installs, and its scratch files, on disk or in
            memory.

            Default: no limit. {_NOT_IN_KEY}
            """
        ),
    )

    def build_limits(self) -> dict[str, float]:
        """What a build may take, by the names that the tool knows (seconds, bytes, processes); without those that are not set.
        Raises BadLimitError."""
        limits = {
            "time": read_seconds("build_timeout", self.build_timeout),
            "memory": read_bytes("build_memory_limit", self.build_memory_limit),
            "processes": read_number("build_processes_limit", self.build_processes_limit),
            "disk": read_bytes("build_disk_limit", self.build_disk_limit),
        }
        return {name: value for name, value in limits.items() if value}
