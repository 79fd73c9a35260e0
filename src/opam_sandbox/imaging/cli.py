"""`python3 __tool COMMAND request.json` for the commands that make images out of layers."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import List, Optional

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.request import Request

COMMANDS = {
    "state": "make an image's state layer",
    "repack": "compress a layer another way",
    "merge": "make one layer out of several",
    "runtime": "make the layer of a runtime image",
    "image": "write the manifest, config, index and SBOM of an image",
    "archive": "write an image layout as one file",
}


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="opam_sandbox",
        description="Makes images out of layers.",
        epilog="commands: " + "; ".join(f"{name}: {text}" for name, text in COMMANDS.items()),
    )
    parser.add_argument("command", choices=sorted(COMMANDS), metavar="COMMAND")
    parser.add_argument("request", help="a JSON file; its paths are relative to the current directory")
    options = parser.parse_args(arguments)
    module = importlib.import_module(f"opam_sandbox.imaging.{options.command}")
    try:
        result: int = module.run(Request.read(options.request), len(os.sched_getaffinity(0)))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return result
