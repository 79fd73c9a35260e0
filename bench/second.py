"""A second image beside the first, which has all of its packages' layers but the last one's: time, and bytes written.

Baselines: the first image's packages and layout from nothing (time; not with --reuse); the compressed bytes of the layers
that the second image alone has (bytes). Bytes are blocks that are allocated when the command has ended: of Pants' store of
blobs, of the unpacked layers, and below dist/, where the first image's layout lies.
"""

from __future__ import annotations

import shutil
from typing import List

from bench.figures import Row
from bench.session import Session, caches_of, disk_use, timed, wait_for_target
from tests.support.layouts import Layout


def run(session: Session) -> List[Row]:
    built, example = session.built(), session.example
    directory = built.pants.root / "bench/second"
    directory.mkdir(parents=True, exist_ok=True)
    packages = ", ".join(f'"3rdparty/opam:{example.resolve}#{name}"' for name in example.second)
    (directory / "BUILD").write_text(f'oci_package_image(name="second", packages=[{packages}])\n')
    wait_for_target(built.pants, "bench/second:second")
    store, named = caches_of(built.pants)
    dist_dir = built.pants.root / "dist"
    before_store, before_named, before_dist = disk_use(store), disk_use(named), disk_use(dist_dir)
    seconds = timed(lambda: built.pants.run("package", "bench/second:second"))
    new_store, new_named = disk_use(store) - before_store, disk_use(named) - before_named
    second = Layout(dist_dir / "bench.second/second")
    first = {layer["digest"]: layer["size"] for layer in built.layout.layers}
    own = [layer["size"] for layer in second.layers if layer["digest"] not in first]
    dist = disk_use(dist_dir) - before_dist
    count = len(second.layers)
    shutil.rmtree(second.path.parent)
    subject = f"{count} layers, {count - len(own)} of them shared"
    details = {"layers": count, "own": own}
    layers = f"its own {len(own)} layers, compressed"
    rows = [
        Row("second", f"{subject}: new in Pants' store", new_store, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new unpacked", new_named, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new below dist/", dist, layers, sum(own), "B", details=details),
        Row("second", f"{subject}: new in Pants' store", new_store, "the first image", sum(first.values()), "B"),
    ]
    if built.rest_seconds is not None:
        rows.append(Row("second", subject, seconds, "the first image on its base", built.rest_seconds, details=details))
    else:
        rows[0].details["seconds"] = seconds
    return rows
