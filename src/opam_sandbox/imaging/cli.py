"""The command line of the part `imaging`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.imaging.requests import (
    ArchiveRequest,
    MergeRequest,
    RepackRequest,
    RuntimeRequest,
    StateRequest,
)

COMMANDS = {
    "state": Command("opam_sandbox.imaging.state", StateRequest, "make an image's state layer"),
    "repack": Command("opam_sandbox.imaging.repack", RepackRequest, "compress a layer another way"),
    "merge": Command("opam_sandbox.imaging.merge", MergeRequest, "make one layer out of several"),
    "runtime": Command("opam_sandbox.imaging.runtime", RuntimeRequest, "make the layer of a runtime image"),
    "archive": Command("opam_sandbox.imaging.archive", ArchiveRequest, "write an image layout as one file"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Makes images out of layers.", COMMANDS, arguments)
