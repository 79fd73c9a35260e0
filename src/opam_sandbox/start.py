"""How processes of the tool start and end: with bytecode that is kept, and without work that nobody needs."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import NoReturn

from opam_sandbox import compiled


def run(command_line: str) -> NoReturn:
    """Run `main()` of a module, by its whole name, and end this process with what it returns."""
    prepare()
    code: int = importlib.import_module(command_line).main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Python would take all modules apart, one by one.
    os._exit(code)


def prepare() -> None:
    """Before other modules of the tool are imported."""
    gc.disable()  # they stay: `cli` turns it on again
    compiled.use()
