"""What all layer-making commands share: the merged view, the capture of what was written, layer.json, the timings.

`make_layer` runs inside the namespaces; the commands' own work is a function that changes the merged view.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Sequence, Tuple, TypeVar

from opam_sandbox import owned
from opam_sandbox.capture import Rules, Sink, capture
from opam_sandbox.compress import GZIP, PackedWriter, Packing, Written
from opam_sandbox.isolation import kill_stragglers
from opam_sandbox.keep import keep
from opam_sandbox.layer import Layer, write_json
from opam_sandbox.overlay import Overlay
from opam_sandbox.store import Store

BLOBS = Path("blobs/sha256")
LOG = "build.log"
TIMINGS = "timings.json"

T = TypeVar("T")


@dataclass
class Facts:
    """What a layer's description says of the layer's contents, for those that merge it with others."""

    opam: Dict[str, Any] = field(default_factory=dict)
    dpkg: Dict[str, Any] = field(default_factory=dict)


class Timer:
    """Seconds per step, by name; written to timings.json, which is no input of anything."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 4)

    def write(self) -> None:
        write_json(TIMINGS, self.seconds)


@dataclass
class View:
    """What a command's own work gets: the merged view, the unpacked layers (bottom first), the log and the timer."""

    overlay: Overlay
    layers: Sequence[Layer]
    log: BinaryIO
    timer: Timer
    rootless: bool


def make_layer(
    kind: str,
    name: str,
    version: str,
    layers: Sequence[Layer],
    store: Store,
    rootless: bool,
    work: Callable[[View], Facts],
    skip: Callable[[bytes, bool], bool] = owned.is_shared,
) -> None:
    """Merge `layers` (bottom first), let `work` change the view, and write the change as a layer into this directory."""
    timer = Timer()
    with timer.step("unpack"):
        lower = [store.get(layer) for layer in layers]
    scratch = Path("scratch")
    overlay = Overlay(lower, scratch, rootless)
    try:
        with open(LOG, "wb") as log:
            with timer.step("mount"):
                overlay.mount()
            facts = work(View(overlay, layers, log, timer, rootless))
        # Nobody is to write any more while the change is captured.
        kill_stragglers()
        with timer.step("unmount"):
            overlay.unmount()
        rules = Rules(skip=skip, owner=lambda path, _: owned.owner(path), lower=overlay.lower)
        with timer.step("capture"):
            written, captured = write_blob(lower[0], lambda sink: capture(overlay.upper, rules, sink))
        write_description(kind, name, version, written, captured.entries, facts)
        with timer.step("keep"):
            keep(store, written.diff_id, overlay.upper, captured.taken, rootless)
    finally:
        with timer.step("clean"):
            overlay.remove()
        timer.write()


def write_blob(root: Path, produce: Callable[[Sink], T], packing: Packing = GZIP) -> Tuple[Written, T]:
    """Write what `produce` sends as a blob named by its digest; returns what was written and what `produce` returns.

    `root`: the base, whose programs compress."""
    BLOBS.mkdir(parents=True, exist_ok=True)
    temporary = BLOBS / "partial"
    with open(temporary, "wb") as out:
        writer = PackedWriter(out, root, packing)
        result = produce(writer)
        written = writer.close()
    os.replace(temporary, BLOBS / written.digest)
    return written, result


def write_description(
    kind: str, name: str, version: str, written: Written, files: int, facts: Facts, packing: Packing = GZIP
) -> None:
    """Write layer.json."""
    write_json(
        "layer.json",
        {
            "kind": kind,
            "name": name,
            "version": version,
            "diff_id": f"sha256:{written.diff_id}",
            "digest": f"sha256:{written.digest}",
            "size": written.size,
            "media_type": packing.media_type,
            "files": files,
            "opam": facts.opam,
            "dpkg": facts.dpkg,
        },
    )


def installed_packages(layers: Sequence[Layer]) -> List[str]:
    """`name.version` of every opam package that the layers hold."""
    return sorted(layer.opam["package"] for layer in layers if layer.kind == "package")
