"""The command line: `python3 __tool COMMAND request.json`. docs/architecture.md describes the requests."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Dict, List, Optional

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.request import Request

# Imported when called for: the start of a small package's build is not to wait for the lock commands' modules.
COMMANDS = {
    "rootfs": "make a Debian base layer out of locked .debs",
    "opam-root": "make the layer with the user opam and an empty switch",
    "build": "build one opam package as a layer",
    "lock-debian": "resolve a base's packages to .debs (uses the network)",
    "lock-opam": "solve requirements and lock every byte they need (uses the network)",
}
_MODULES = {
    "opam-root": "prepare",
    "lock-debian": "locking.debian",
    "lock-opam": "locking.opam",
}


def main(arguments: Optional[List[str]] = None) -> int:
    return run("Makes OCI layers out of opam and Debian packages.", COMMANDS, "opam_sandbox.", _MODULES, arguments)


def run(
    description: str,
    commands: Dict[str, str],
    package: str,
    modules: Dict[str, str],
    arguments: Optional[List[str]] = None,
) -> int:
    """Call the `run` of a command's module in `package`; what is wrong with the request or the build is one message.

    commands: what each does. modules: of those that are not called like their module. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="opam_sandbox",
        description=description,
        epilog="commands: " + "; ".join(f"{name}: {text}" for name, text in commands.items()),
    )
    parser.add_argument("command", choices=sorted(commands), metavar="COMMAND")
    parser.add_argument("request", help="a JSON file; its paths are relative to the current directory")
    parser.add_argument("--jobs", type=int, default=0, help="parallel jobs of one build; default: the cores it may use")
    options = parser.parse_args(arguments)
    module = importlib.import_module(package + modules.get(options.command, options.command))
    try:
        result: int = module.run(Request.read(options.request), options.jobs or len(os.sched_getaffinity(0)))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return result
