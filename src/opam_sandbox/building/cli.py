"""The command line of the part `building`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.building.requests import BuildRequest, OpamRootRequest, RootfsRequest, ShellRequest, TestRequest
from opam_sandbox.cli import Command

COMMANDS = {
    "rootfs": Command(
        "opam_sandbox.building.debian_rootfs", RootfsRequest, "make a Debian base layer out of locked .debs"
    ),
    "opam-root": Command(
        "opam_sandbox.building.opam_root", OpamRootRequest, "make the layer with the user opam and an empty switch"
    ),
    "build": Command("opam_sandbox.building.build", BuildRequest, "build one opam package as a layer"),
    "test": Command("opam_sandbox.building.test", TestRequest, "build one opam package with its tests, and run them"),
    "shell": Command("opam_sandbox.building.shell", ShellRequest, "run a command where a package is built"),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Makes OCI layers out of opam and Debian packages.", COMMANDS, arguments)
