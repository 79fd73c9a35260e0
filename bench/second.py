"""A second image beside the first, which has all of its packages' layers but the last one's: time, and bytes written.

Time is the median of several such images, each with another root and so with a state of its own, all with pantsd running.

Baselines: the first image's packages and layout from nothing, in this run (not with --reuse); the time that the first image's
processes took when they ran, as Pants' cache remembers it; for bytes the compressed layers that the second image alone has.
Bytes are blocks that are allocated when the first command has ended: of Pants' store of blobs, of the unpacked layers, and
below dist/, where the first image's layout lies.
"""

from __future__ import annotations

import shutil
from typing import List

from bench.figures import Row
from bench.session import Session, caches_of, counters, disk_use, median, timed, wait_for_target
from tests.support.layouts import Layout

# `./pants` starts its Python backend for what lies below bench/, and nobody's images do.
DIRECTORY = "second-images"


def run(session: Session) -> List[Row]:
    built, example = session.built(), session.example
    directory = built.pants.root / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    # More roots of what is there anyway: the same layers below another state.
    closure = example.opam_lock(built.pants.root).image_closure(example.second)
    more = [[], *([name] for name in closure if name not in example.second)][: 1 + 3 * session.repeat]
    text = ""
    for number, names in enumerate(more):
        packages = ", ".join(f'"3rdparty/opam:{example.resolve}#{name}"' for name in (*example.second, *names))
        text += f'oci_package_image(name="second{number}", packages=[{packages}])\n'
    (directory / "BUILD").write_text(text)
    addresses = [f"{DIRECTORY}:second{number}" for number, _ in enumerate(more)]
    wait_for_target(built.pants, addresses[0])
    store, named = caches_of(built.pants)
    dist_dir = built.pants.root / "dist"
    before_store, before_named, before_dist = disk_use(store), disk_use(named), disk_use(dist_dir)
    seconds = [timed(lambda: built.pants.run("package", addresses[0]))]
    new_store, new_named = disk_use(store) - before_store, disk_use(named) - before_named
    second = Layout(dist_dir / DIRECTORY / "second0")
    first = {layer["digest"]: layer["size"] for layer in built.layout.layers}
    own = [layer["size"] for layer in second.layers if layer["digest"] not in first]
    dist = disk_use(dist_dir) - before_dist
    count = len(second.layers)
    seconds += [timed(lambda address=address: built.pants.run("package", address)) for address in addresses[1:]]  # type: ignore[misc]
    shutil.rmtree(second.path.parent)
    # A daemon without memory of it asks the cache for all of the first image's processes.
    saved = counters(built.pants.run("--no-pantsd", "--stats-log", "package", example.address).stderr)
    subject = f"{count} layers, {count - len(own)} of them shared"
    details = {"layers": count, "own": own, "samples": seconds}
    layers = f"its own {len(own)} layers, compressed"
    ran = saved.get("local_cache_total_time_saved_ms", 0) / 1000
    rows = [
        Row("second", subject, median(seconds), "the first image's processes", ran, goal=0.002, details=details),
        Row("second", f"{subject}: new in Pants' store", new_store, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new unpacked", new_named, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new below dist/", dist, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new in Pants' store", new_store, "the first image", sum(first.values()), "B"),
    ]
    if built.rest_seconds is not None:
        baseline = ("the first image on its base", built.rest_seconds)
        rows.append(Row("second", subject, median(seconds), *baseline, goal=0.002, details=details))
    return rows
