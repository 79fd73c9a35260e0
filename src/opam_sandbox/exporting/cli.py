"""The command line of the part `exporting`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.exporting.requests import ExportRequest

COMMANDS = {
    "export": Command(
        "opam_sandbox.exporting.export", ExportRequest, "write packages' files as a switch of this machine"
    ),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Writes switches for this machine's own programs.", COMMANDS, arguments)
