"""The command line of the part `checking`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.checking.requests import CheckImageRequest
from opam_sandbox.cli import Command

COMMANDS = {
    "check-image": Command(
        "opam_sandbox.checking.check_image", CheckImageRequest, "compare an image with what it should be"
    ),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Checks OCI images.", COMMANDS, arguments)
