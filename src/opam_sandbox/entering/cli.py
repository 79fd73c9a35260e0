"""The command line of the part `entering`: `python3 __tool enter request.json [-- WORD ...]`.

The request may lie anywhere, as Pants starts some of these processes in the build root: its relative paths are relative to its
own directory. The words are put behind those of the request's command.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import List, Optional

from opam_sandbox import inherited, machine_errors
from opam_sandbox.cli import Command, answered
from opam_sandbox.entering import enter
from opam_sandbox.entering.requests import EnterRequest
from opam_sandbox.request import read_request

COMMANDS = {
    "enter": Command("opam_sandbox.entering.enter", EnterRequest, "run a command over the layers of an image"),
}
_USAGE = "usage: enter request.json [-- WORD ...]\n\nRuns a command over the layers of opam packages."


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    own = list(sys.argv[1:] if arguments is None else arguments)
    if own and own[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if len(own) < 2 or own[0] not in COMMANDS or own[2:3] not in ([], ["--"]):
        print(_USAGE, file=sys.stderr)
        return 2
    inherited.settle()
    machine_errors.allow_usual_files()
    gc.enable()  # see `start`

    def answer() -> int:
        directory, name = os.path.split(os.path.abspath(own[1]))
        os.chdir(directory)
        return enter.run(read_request(name, EnterRequest), own[3:])

    return answered(answer)
