"""The command line of the part `importing`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.importing.requests import FetchImageRequest, JoinImageRequest

COMMANDS = {
    "fetch-image": Command("opam_sandbox.importing.fetch_image", FetchImageRequest, "get the layers of an image"),
    "join-image": Command("opam_sandbox.importing.join_image", JoinImageRequest, "make one base layer of them"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Takes images that others made as bases.", COMMANDS, arguments)
