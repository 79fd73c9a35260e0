"""`run`: a command in a container of an image, without a daemon and without unpacking what was unpacked before."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import List

from opam_sandbox.request import read_request
from opam_sandbox.running import engine
from opam_sandbox.running.container import Contained, run_contained
from opam_sandbox.running.image_config import read_image, under
from opam_sandbox.running.requests import RunRequest
from opam_sandbox.running.variables import variables


def run(options: argparse.Namespace) -> int:
    """Run as `options.request`, a file, and `options.arguments` say. Returns the command's exit status; raises ToolError."""
    request: RunRequest = read_request(options.request, RunRequest)
    here = Path(os.path.abspath(options.request)).parent
    layout = Path(under(here, request["image"]))
    arguments: List[str] = options.arguments
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if request["kind"] == "docker" or request["kind"] == "podman":
        return engine.run_in_engine(request, layout, arguments)
    image = read_image(layout)
    what = Contained(
        runtime=request["runtime"],
        kind=request["kind"],
        argv=image.argv(arguments),
        user=image.user,
        env=[f"{name}={value}" for name, value in variables(request["env"]).items()],
        hostname=request["hostname"],
        host_network=request["network"] == "host",
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        mounts=[(volume["source"], volume["target"]) for volume in request["volumes"]],
    )
    return run_contained(image, Path(under(here, request["store"])), what)
