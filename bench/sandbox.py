"""What a layer costs above opam's own time: a small package over 40 dependency layers.

Baseline: `opam install` of the same package in a chroot that holds the same base and the same 40 dependencies as plain
files, with no overlay and no capture. Both are taken in turn.
"""

from __future__ import annotations

import json
import shutil
from typing import List

from bench.figures import Row
from bench.process import DEPENDENCIES, GOAL, build, make_ground
from bench.session import Session, median


def run(session: Session) -> List[Row]:
    top = session.directory("sandbox")
    names = [f"small{number}" for number in range(session.repeat + 2)]
    ground = make_ground(session, top, names)
    build(ground.program, top / "warm", ground.layers, "warm", ground.store)
    ours, bares, steps = [], [], {}
    for name in names:
        ours.append(build(ground.program, top / "small", ground.layers, "small", ground.store))
        bares.append(ground.bare.install(f"{name}.1"))
        steps = json.loads((top / "small/timings.json").read_text())
    shutil.rmtree(top)
    details = {"samples": ours, "baseline_samples": bares, "steps": steps}
    subject = f"a package over {DEPENDENCIES} layers, whole process"
    return [
        Row("sandbox", subject, median(ours), "opam install in a chroot", median(bares), goal=GOAL, details=details)
    ]
