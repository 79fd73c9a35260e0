"""A child of the test's process that works as another user, with streams of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import syscalls


def start_child(work: Callable[[], int], directory: Path, streams: Sequence[int], user: Optional[int] = None) -> int:
    """The process that does `work` in a directory and ends with what that returns; with 1 and the message of a ToolError; with 99
    where another error is raised. streams: its input, output and errors. user: whom it becomes, None to stay who it is. What it
    imports as another user has to be imported before, as that one cannot read this Python's files."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        # What pytest has in these places is another file.
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        os.chdir(directory)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            syscalls.hide_from_others(False)
        try:
            status = work()
        except ToolError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 1
        sys.stderr.flush()
    finally:
        os._exit(status)
