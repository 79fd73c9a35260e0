"""`python3 __tool COMMAND request.json` for the commands that make images out of layers."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli

COMMANDS = {
    "state": "make an image's state layer",
    "repack": "compress a layer another way",
    "merge": "make one layer out of several",
    "runtime": "make the layer of a runtime image",
    "image": "write the manifest, config, index and SBOM of an image",
    "archive": "write an image layout as one file",
}


def main(arguments: Optional[List[str]] = None) -> int:
    return cli.run("Makes images out of layers.", COMMANDS, "opam_sandbox.imaging.", {}, arguments)
