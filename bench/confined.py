"""The measured part of `confinement`, in a process that has what a build's process has: the tool and nothing else.

Argument: a JSON file with `layers` (directories of unpacked layers, bottom first), `scratch` (a directory) and `samples`. Prints
{"confined": [seconds], "bare": [seconds]}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List

from opam_sandbox.layer import closed
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import Overlay
from opam_sandbox.sandbox.stack import Stack

ENV = {"PATH": "/usr/bin:/bin"}


def main() -> int:
    request = json.loads(Path(sys.argv[1]).read_text())
    lower = [Path(layer) for layer in request["layers"]]
    # What was added to the image's layers is not the store's, and has no inventory.
    kept = {layer for layer in lower if (layer.parent / "inventory").exists()}

    def closed_names(layer: Path) -> List[str]:
        return closed.names(layer) if layer in kept else []

    def inside() -> int:
        found: Dict[str, List[float]] = {"confined": [], "bare": []}
        for number in range(request["samples"]):
            scratch = Path(request["scratch"], str(number))
            found["confined"].append(_timed(lambda: _confined(lower, scratch, closed_names)))
            found["bare"].append(_timed(lambda: _bare(lower, scratch)))
        print(json.dumps(found))
        return 0

    return run_isolated(inside)


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _confined(lower: List[Path], scratch: Path, closed_names: Callable[[Path], List[str]]) -> None:
    scratch.mkdir()
    overlay = Overlay(lower, scratch, rootless=False, closed_names=closed_names)
    overlay.mount()
    with open(os.devnull, "wb") as log:
        done = overlay.run(["true"], ENV, log, user=True, cwd="/home/opam")
    overlay.unmount()
    overlay.remove()
    assert done.returncode == 0


def _bare(lower: List[Path], scratch: Path) -> None:
    scratch.mkdir()
    view = Stack(lower, scratch, rootless=False)
    view.mount()

    def enter() -> None:
        os.chroot(view.root)
        os.chdir("/home/opam")
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)

    subprocess.run(["true"], env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=enter, check=True)
    view.unmount()
    view.remove()


if __name__ == "__main__":
    sys.exit(main())
