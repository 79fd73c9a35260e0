"""The command line of the part `linting`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.linting.requests import LintRequest

COMMANDS = {
    "lint": Command("opam_sandbox.linting.lint", LintRequest, "check opam files with the opam of a base"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Checks opam files.", COMMANDS, arguments)
