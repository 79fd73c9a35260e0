"""What confinement costs one small command in a view: all of it, to the same layers mounted by one overlay and a chroot.

The view is mounted and taken away for each command, as a package's build does. Both are taken in turn, in namespaces of this
process's own. The layers are those of the image, and 40 more.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

from bench.figures import Row
from bench.session import Session, median, say, timed
from opam_sandbox.layer import closed
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import Overlay
from opam_sandbox.sandbox.stack import Stack
from tests.support.layouts import layer_directories

MORE_LAYERS = 40
SAMPLES_EACH = 20
# Seconds that confinement may cost a build.
GOAL = 0.020
ENV = {"PATH": "/usr/bin:/bin"}


def run(session: Session) -> List[Row]:
    layout = session.built().layout
    top = session.directory("confinement")
    (top / "store").mkdir()
    directories = [str(directory) for directory in layer_directories(layout, top)]
    added = [_small_layer(top, number) for number in range(MORE_LAYERS)]
    samples = top / "samples"

    def inside() -> int:
        store = Store(top / "store", rootless=False)
        lower = [store.get(layer) for layer in read_layers(directories) if layer.kind != "state"] + added
        found: Dict[str, List[float]] = {"confined": [], "bare": []}
        for number in range(session.repeat * SAMPLES_EACH):
            scratch = top / f"scratch{number}"
            found["confined"].append(timed(lambda: _confined(lower, scratch)))
            found["bare"].append(timed(lambda: _bare(lower, scratch)))
        samples.write_bytes(pickle.dumps(found))
        return 0

    if run_isolated(inside):
        raise OSError("nothing was measured, see above")
    found = pickle.loads(samples.read_bytes())
    shutil.rmtree(top)
    ours, bare = median(found["confined"]), median(found["bare"])
    cost = ours - bare
    say(
        f"confinement costs {cost * 1000:.1f} ms (goal: at most {GOAL * 1000:.0f} ms, {'met' if cost <= GOAL else 'MISSED'})"
    )
    subject = "a small command in a view, confined"
    details = {"samples": found, "cost": cost, "goal": GOAL}
    return [Row("confinement", subject, ours, "overlay and chroot", bare, goal=(bare + GOAL) / bare, details=details)]


def _small_layer(top: Path, number: int) -> Path:
    """A layer as small packages have it; its files below /home/opam."""
    layer = top / "added" / str(number) / "root"
    directory = layer / "home/opam/.opam/default/lib" / f"p{number}"
    directory.mkdir(parents=True)
    (directory / "META").write_text(str(number))
    for path in (layer / "home/opam", *(layer / "home/opam").rglob("*")):
        os.chown(path, 1000, 1000)
    return layer


def _confined(lower: List[Path], scratch: Path) -> None:
    scratch.mkdir()
    overlay = Overlay(lower, scratch, rootless=False, closed_names=_closed_names)
    overlay.mount()
    with open(os.devnull, "wb") as log:
        done = overlay.run(["true"], ENV, log, user=True, cwd="/home/opam")
    overlay.unmount()
    overlay.remove()
    assert done.returncode == 0


def _closed_names(layer: Path) -> List[str]:
    # What was added is not the store's, and has no inventory.
    return closed.names(layer) if (layer.parent / "inventory").exists() else []


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
