"""The command line of the part `documenting`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.documenting.requests import DocumentRequest

COMMANDS = {
    "document": Command("opam_sandbox.documenting.document", DocumentRequest, "make HTML of packages' documentation"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Makes HTML of the documentation of opam packages.", COMMANDS, arguments)
