"""What a layer costs above opam's own time: a small package over 40 dependency layers.

Baseline: `opam install` of the same package in a chroot that holds the same base and the same 40 dependencies as plain
files, with no overlay and no capture. Both are taken in turn.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import List

from bench.bare import BareRoot
from bench.figures import Row
from bench.process import build, opam_file
from bench.session import Session, median, say
from tests.support.checkout import tool
from tests.support.layouts import layer_directories
from tests.support.sandbox_tool import copy_tool

DEPENDENCIES = 40


def run(session: Session) -> List[Row]:
    layout = session.built().layout
    top = session.directory("sandbox")
    store, program = top / "store", copy_tool(top / "tool")
    store.mkdir()
    layers = layer_directories(layout, top)
    say(f"{DEPENDENCIES} layers ...")
    for number in range(DEPENDENCIES):
        build(program, top / f"dep{number}", layers[:2], f"dep{number}", store)
        layers.append(top / f"dep{number}")

    bare = BareRoot(top / "bare", layout)
    for layer in layers[2:]:
        tool("tar", "-xzf", str(next((layer / "blobs/sha256").iterdir())), "-C", str(bare.root))
    installed = " ".join(f'"dep{number}.1"' for number in range(DEPENDENCIES))
    (bare.root / "home/opam/.opam/default/.opam-switch/switch-state").write_text(
        f'opam-version: "2.0"\ncompiler: []\nroots: []\ninstalled: [{installed}]\n'
    )
    runs = session.repeat + 2
    for number in range(runs):
        _add(bare.root, f"small{number}")
    bare.run("chown", "-R", "1000:1000", "/home/opam", user="0:0")
    bare.run("opam", "update", "default")

    build(program, top / "warm", layers, "warm", store)
    ours, bares, steps = [], [], {}
    for number in range(runs):
        ours.append(build(program, top / "small", layers, "small", store))
        bares.append(bare.install(f"small{number}.1"))
        steps = json.loads((top / "small/timings.json").read_text())
    shutil.rmtree(top)
    details = {"samples": ours, "baseline_samples": bares, "steps": steps}
    subject = f"a package over {DEPENDENCIES} layers, whole process"
    return [Row("sandbox", subject, median(ours), "opam install in a chroot", median(bares), details=details)]


def _add(root: Path, name: str) -> None:
    directory = root / "home/opam/opam-repository/packages" / name / f"{name}.1"
    directory.mkdir(parents=True)
    (directory / "opam").write_text(opam_file(name))
