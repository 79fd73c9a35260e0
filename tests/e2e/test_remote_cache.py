"""A remote cache: what one machine built, another does not build; and nothing wrong ever comes out of it."""

from __future__ import annotations

import re
import socket
from typing import Dict, List
from uuid import uuid4

import pytest

from tests.e2e.conftest import Cold, Layout, Pants

# Wherever this machine would look for a source or a .deb, nobody answers.
NO_DOWNLOADS = ["--debian-mirrors=['http://127.0.0.1:9']", "--opam-archive-mirrors=[]"]


def counters(stderr: str) -> Dict[str, int]:
    """Pants' own counts, as --stats-log prints them."""
    return {name: int(value) for name, value in re.findall(r"^\s+(\w+): (\d+)$", stderr, re.MULTILINE)}


def image(pants: Pants) -> bytes:
    return (pants.root / "dist/images/hello/index.json").read_bytes()


def test_another_machine_builds_nothing(cold: Cold, machine: Pants) -> None:
    """Every process's result comes from the cache, and no source and no .deb is downloaded for it."""
    done = machine.run(*cold.cache.options, *NO_DOWNLOADS, "--stats-log", "package", "//images:hello")
    counted = counters(done.stderr)
    assert counted.get("remote_cache_requests_cached", 0) >= 16, done.stderr
    assert counted.get("remote_cache_requests_uncached", 0) == 0, done.stderr
    assert counted.get("local_execution_requests", 0) == 0, done.stderr
    assert image(machine) == (cold.layout.path / "index.json").read_bytes()


@pytest.fixture
def changed(hello: Layout, clone: Pants) -> Pants:
    """A clone in which one package has changed, so that something is built, read from a remote cache and written to it."""
    lock = clone.root / "3rdparty/opam/system.lock"
    text = lock.read_text()
    before, table, react = text.partition('[[package]]\nname = "react"\n')
    assert table and 'opam-version: "2.0"\n' in react
    # Never the same: no run of this test has built it before. (A comment would build nothing.)
    react = react.replace('opam-version: "2.0"\n', f'opam-version: "2.0"\npost-messages: "{uuid4()}"\n', 1)
    lock.write_text(before + table + react)
    return clone


def remote(port: int) -> List[str]:
    return [f"--remote-store-address=grpc://127.0.0.1:{port}", "--remote-cache-read", "--remote-cache-write"]


def test_a_cache_that_is_gone_is_only_slower(hello: Layout, changed: Pants) -> None:
    done = changed.run(*remote(9), "package", "//images:hello")
    assert "Build opam package react" in done.stderr and "Traceback" not in done.stderr
    assert image(changed) != (hello.path / "index.json").read_bytes()


def test_a_cache_that_never_answers_is_only_slower(changed: Pants) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        done = changed.run(*remote(silent.getsockname()[1]), "package", "//images:hello")
    assert "Failed to read from remote cache" in done.stderr and "Traceback" not in done.stderr
    assert (changed.root / "dist/images/hello/index.json").exists()


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_tampered_blob_is_never_part_of_an_image(cold: Cold, machine: Pants, damage: str) -> None:
    """A layer that the cache gives with other bytes: either the image is right all the same, or there is none."""
    layer = cold.layout.layers[3]["digest"].partition(":")[2]
    [stored] = (cold.cache.directory / "cas").rglob(layer[2:])
    whole = stored.read_bytes()
    wrong = whole[:-1] + bytes([whole[-1] ^ 1]) if damage == "flipped" else whole[:-1]
    stored.chmod(0o644)
    stored.write_bytes(wrong)
    try:
        done = machine.run(*cold.cache.options, "package", "//images:hello", check=False)
    finally:
        stored.write_bytes(whole)
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert image(machine) == (cold.layout.path / "index.json").read_bytes()
        blob = machine.root / "dist/images/hello/blobs/sha256" / layer
        assert blob.read_bytes() == whole
    else:
        assert layer in done.stderr or "digest" in done.stderr.lower(), done.stderr
        assert not (machine.root / "dist/images/hello/index.json").exists()
