"""The store of unpacked layers: a small package over the base and opam's root, whose layers are unpacked already or not.

Baselines: for a miss `tar -xzf` of the same two blobs, one after the other, which verifies nothing; for a hit the miss.
"""

from __future__ import annotations

import shutil
from typing import List

from bench.figures import Row
from bench.process import build, process_tool
from bench.session import Session, median, timed
from tests.support.checkout import tool
from tests.support.layouts import layer_directories


def run(session: Session) -> List[Row]:
    layout = session.built().layout
    top = session.directory("store")
    program = process_tool(top / "tool")
    layers = layer_directories(layout, top)
    blobs = [layout.blob(layer["digest"]) for layer in layout.layers[:2]]
    hits, misses, plain = [], [], []

    def untar(number: int) -> None:
        for blob in blobs:
            target = top / f"plain{number}-{blob.name}"
            target.mkdir()
            tool("tar", "--numeric-owner", "-xzf", str(blob), "-C", str(target))

    for number in range(session.repeat):
        store = top / f"store{number}"
        store.mkdir()
        misses.append(build(program, top / "work", layers, "small", store))
        hits.append(build(program, top / "work", layers, "small", store))
        plain.append(timed(lambda n=number: untar(n)))  # type: ignore[misc]
        for path in (store, *top.glob(f"plain{number}-*")):
            shutil.rmtree(path)
    shutil.rmtree(top)
    hit, miss = median(hits), median(misses)
    details = {"hits": hits, "misses": misses, "tar": plain}
    return [
        Row("store", "a small package, layers unpacked", hit, "the same, base not unpacked", miss, details=details),
        Row("store", "unpack and verify base and opam root", miss - hit, "tar -xzf", median(plain), details=details),
    ]
