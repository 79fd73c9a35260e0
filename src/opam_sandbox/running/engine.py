"""`load`: an image into docker or podman, and `run` with one of them in place of a runtime of our own."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.request import read_request
from opam_sandbox.running.image_config import under
from opam_sandbox.running.requests import EngineRequest
from opam_sandbox.running.variables import variables, without_variables


def run(options: argparse.Namespace) -> int:
    """`load`: as `options.request`, a file, says. Returns the exit status; raises ToolError."""
    request: EngineRequest = read_request(options.request, EngineRequest)
    here = Path(os.path.abspath(options.request)).parent
    names = load(request, Path(under(here, request["image"])))
    for name in names:
        print(name)
    return 0


def run_in_engine(request: EngineRequest, layout: Path, arguments: Sequence[str]) -> int:
    """Load the image and run it there, with this process's terminal; does not return if it starts."""
    names = load(request, layout)
    engine = request["runtime"]
    argv = [engine, *request["engine_args"], "run", "--rm", "--interactive"]
    if sys.stdin.isatty() and sys.stdout.isatty():
        argv.append("--tty")
    if request["network"] == "none":
        argv.append("--network=none")
    env = without_variables()
    for name, value in variables(request["env"]).items():
        # By its name alone, as everybody on the machine may read arguments; but the engine is to keep what is its own.
        own = env.setdefault(name, value) != value
        argv.append(f"--env={name}={value}" if own else f"--env={name}")
    for volume in request["volumes"]:
        argv.append(f"--volume={volume['source']}:{volume['target']}")
    argv += [*request["run_args"], names[0], *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(engine, argv, env)
    except OSError as error:
        raise ToolError(f"{engine} does not start: {error.strerror}") from None


def load(request: EngineRequest, layout: Path) -> List[str]:
    """Put the image into the engine's storage under the request's `names`; returns them. Raises ToolError."""
    image, _ = oci.image_and_referrers(layout)
    engine, kind = request["runtime"], request["kind"]
    names = request["names"]
    command = [engine, *request["engine_args"]]
    if kind == "podman":
        # Takes a layout as it is, and leaves out the layers that it has. It names the image after the path, which must
        # therefore look like a name.
        with oci.lone_image(layout, image, parent="/tmp") as lone:
            printed = _output([*command, "pull", "--quiet", f"oci:{lone}"]).split()
            if not printed:
                raise ToolError(f"{engine} does not say which image it pulled")
            loaded = printed[-1]
        _output([*command, "tag", loaded, *names])
        _output([*command, "untag", loaded, f"localhost{lone}"])
    else:
        # Of the formats that `docker load` has always taken.
        with oci.lone_image(layout, image) as lone:
            archive = lone.with_name("image.tar")
            convert = [request["skopeo"], "--insecure-policy", "copy", "--quiet", f"oci:{lone}"]
            convert.append(f"docker-archive:{archive}:{names[0]}")
            convert += [f"--additional-tag={name}" for name in names[1:]]
            _output(convert)
            _output([*command, "load", "--quiet", "--input", str(archive)])
    print(f"Loaded {image['digest']} into {kind}.", file=sys.stderr)
    return names


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} does not start: {error.strerror}") from None
    if done.returncode != 0:
        raise ToolError(f"`{' '.join(argv)}` failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout
