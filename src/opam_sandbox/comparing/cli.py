"""The command line of the part `comparing`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.comparing.requests import CompareFilesRequest, DescribeRequest, StatementsRequest

COMMANDS = {
    "compare-files": Command(
        "opam_sandbox.comparing.compare_files", CompareFilesRequest, "list in which paths layers of two images differ"
    ),
    "describe": Command(
        "opam_sandbox.comparing.describe", DescribeRequest, "read what an image says of itself, and none of its layers"
    ),
    "statements": Command(
        "opam_sandbox.comparing.statements", StatementsRequest, "read what in-toto's statements say about an image"
    ),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Compares OCI images.", COMMANDS, arguments)
