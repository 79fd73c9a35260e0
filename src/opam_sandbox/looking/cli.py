"""The command line of the part `looking`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.looking.requests import ContentsRequest

COMMANDS = {
    "contents": Command("opam_sandbox.looking.contents", ContentsRequest, "list what a layer has and hides"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Looks into OCI layers.", COMMANDS, arguments)
