"""Remote execution: every process runs in an empty container that has nothing but what its action declares."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.support.cache_server import RemoteCache, Worker
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the worker makes containers: needs root")


@dataclass
class Remote:
    """//images:hello built from nothing by remote execution alone, and what the worker ran for it. other: another machine
    that uses the same services, with nothing in its own caches."""

    layout: Layout
    actions: List[Dict[str, Any]]
    worker: Worker
    other: Pants


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    # Not pytest's directory, which is a tmpfs on some machines: an overlay's upper directory, and room, are needed.
    top = Path(tempfile.mkdtemp(prefix="opam-oci-worker-", dir="/var/tmp"))
    cache = RemoteCache(top / "cache")
    worker = Worker(cache, top / "work")
    try:
        cache.start()
        worker.start()
        pants = Pants(make_clone(top / "c" / "main"), caches=top / "caches", options=["--no-pantsd", *worker.options])
        pants.run("package", "//images:hello")
        other = replace(pants, caches=top / "other")
        yield Remote(Layout(pants.root / "dist/images/hello"), worker.actions(), worker, other)
    finally:
        worker.stop()
        cache.stop()
        shutil.rmtree(top, ignore_errors=True)


def test_actions_declare_all_they_need(hello: Layout, remote: Remote) -> None:
    """Every process of the image, the base's included, ran in an empty container, and none of them failed there."""
    commands = [action["argv"][action["argv"].index("__tool") + 1] for action in remote.actions]
    assert commands.count("build") == len(hello.layers) - 3
    assert {"rootfs", "opam-root", "build", "state"} == set(commands)
    assert all(action["exit_code"] == 0 for action in remote.actions)


def test_the_image_is_the_same(hello: Layout, remote: Remote) -> None:
    """Byte for byte what is built here without remote execution. The message names the first layer that differs."""
    made = [entry["created_by"] for entry in hello.config["history"]]
    pairs = zip(made, hello.layers, remote.layout.layers)
    different = [name for name, here, there in pairs if here["digest"] != there["digest"]]
    assert different == [], f"first: {different[0]}"
    assert (remote.layout.path / "index.json").read_bytes() == (hello.path / "index.json").read_bytes()


def test_a_dry_run_gives_workers_nothing_to_do(remote: Remote) -> None:
    """What the remote cache has is known, what it lacks would be built, and no action is run to find that out."""
    before = remote.worker.actions()
    said = remote.other.run("opam-health", "--dry-run", "3rdparty/opam:health").stdout
    # This one has no source: nothing is missing but its layer.
    assert "would build seq.base\n" in said
    assert "would build ocamlfind." not in said and "would build topkg." not in said
    assert remote.worker.actions() == before
