"""What confinement costs one small command in a view: all of it, to the same layers mounted by one overlay and a chroot.

The view is mounted and taken away for each command, as a package's build does. Both are taken in turn, in namespaces of one
process. The layers are those of the image, and 40 more.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import List

from bench.figures import Row
from bench.session import Session, median, say
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.store import Store
from tests.support.checkout import tool
from tests.support.layouts import layer_directories
from tests.support.sandbox_tool import copy_tool

MORE_LAYERS = 40
SAMPLES_EACH = 20
# Seconds that confinement may cost a build.
GOAL = 0.020


def run(session: Session) -> List[Row]:
    layout = session.built().layout
    top = session.directory("confinement")
    for name in ("store", "scratch"):
        (top / name).mkdir()
    store = Store(top / "store", rootless=False)
    layers = read_layers([str(directory) for directory in layer_directories(layout, top)])
    lower = [store.get(layer) for layer in layers if layer.kind != "state"]
    lower += [_small_layer(top, number) for number in range(MORE_LAYERS)]
    samples = session.repeat * SAMPLES_EACH
    request = {"layers": [str(layer) for layer in lower], "scratch": str(top / "scratch"), "samples": samples}
    (top / "request.json").write_text(json.dumps(request))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(copy_tool(top / "tool"))}
    program = str(Path(__file__).with_name("confined.py"))
    found = json.loads(tool("python3", "-sB", program, str(top / "request.json"), env=env).stdout)
    shutil.rmtree(top)
    ours, bare = median(found["confined"]), median(found["bare"])
    cost = ours - bare
    word = "met" if cost <= GOAL else "MISSED"
    say(f"confinement costs {cost * 1000:.1f} ms (goal: at most {GOAL * 1000:.0f} ms, {word})")
    details = {"samples": found, "cost": cost, "goal": GOAL}
    subject, goal = "a small command in a view, confined", (bare + GOAL) / bare
    return [Row("confinement", subject, ours, "overlay and chroot", bare, goal=goal, details=details)]


def _small_layer(top: Path, number: int) -> Path:
    """A layer as small packages have it; its files below /home/opam."""
    layer = top / "added" / str(number) / "root"
    directory = layer / "home/opam/.opam/default/lib" / f"p{number}"
    directory.mkdir(parents=True)
    (directory / "META").write_text(str(number))
    for path in (layer / "home/opam", *(layer / "home/opam").rglob("*")):
        os.chown(path, 1000, 1000)
    return layer
