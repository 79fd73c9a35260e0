"""Remote execution: every process runs in an empty container that has nothing but what its action declares."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.cache_server import RemoteCache, Worker
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the worker makes containers: needs root")


@pytest.fixture
def worker() -> Iterator[Worker]:
    # Not pytest's directory, which is a tmpfs on some machines: an overlay's upper directory, and room, are needed.
    top = Path(tempfile.mkdtemp(prefix="opam-oci-worker-", dir="/var/tmp"))
    cache = RemoteCache(top / "cache")
    worker = Worker(cache, top / "work")
    try:
        cache.start()
        worker.start()
        yield worker
    finally:
        worker.stop()
        cache.stop()
        shutil.rmtree(top, ignore_errors=True)


def test_actions_declare_all_they_need(hello: Layout, worker: Worker) -> None:
    """The whole image, base included, is made by actions in empty containers, and is the same byte for byte."""
    top = worker.directory.parent
    pants = Pants(make_clone(top / "c" / "main"), caches=top / "caches", options=["--no-pantsd", *worker.options])
    try:
        pants.run("package", "//images:hello")
    finally:
        pants.stop()
    commands = [action["argv"][4] for action in worker.actions()]
    assert commands.count("build") == len(hello.layers) - 3
    assert {"rootfs", "opam-root", "build", "state", "image"} == set(commands)
    assert all(action["exit_code"] == 0 for action in worker.actions())
    assert (pants.root / "dist/images/hello/index.json").read_bytes() == (hello.path / "index.json").read_bytes()
