"""`pants publish` beside a warm remote cache: a fresh machine fetches those layers that the registry lacks, and no others."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List

from opam_sandbox.registry.manifests import fallback_tag
from tests.e2e.conftest import Cold, Pants, tool
from tests.e2e.test_push import push, pushed
from tests.e2e.test_remote_cache import NO_DOWNLOADS
from tests.support.registry import Registry

# Of a file, from where on Pants keeps it as a file of its own.
LARGE = 512 * 1024


@dataclass
class Meter:
    """Passes connections on to a port of this machine, and counts the bytes that come back."""

    port: int
    received: int = 0
    own_port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Meter":
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            for data in iter(lambda: source.recv(1 << 16), b""):
                if counts:
                    with self._lock:
                        self.received += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of the two has gone


def stored(machine: Pants, digests: List[str]) -> List[str]:
    """Which of these large files the machine has."""
    assert machine.caches is not None
    files = machine.caches / "lmdb_store/immutable/files"
    return [digest for digest in digests if (files / digest[7:9] / digest[7:]).exists()]


def test_a_fresh_machine(cold: Cold, machine: Pants, tmp_path: Path) -> None:
    layers = {layer["digest"]: layer["size"] for layer in cold.layout.layers}
    large = [digest for digest, size in layers.items() if size >= LARGE]
    assert len(large) >= 2
    image = json.loads((cold.layout.path / "index.json").read_text())["manifests"][0]["digest"]
    with Registry(tmp_path / "registry") as registry, Meter(cold.cache.port) as meter:
        reference = f"{registry.address}/ocaml/hello:latest"
        pushed(push(tmp_path, cold.layout.path, reference))
        assert fallback_tag(image) in registry.tags("ocaml/hello")
        remote = ["--remote-cache-read", f"--remote-store-address=grpc://127.0.0.1:{meter.own_port}"]
        options = [*remote, "--cache-content-behavior=defer", *NO_DOWNLOADS]
        registries = {"r": {"address": registry.address, "default": True, "repository": "ocaml/{name}"}}
        command = [*options, f"--oci-publish-registries={registries!r}", "publish", "//images:hello"]

        # All of it is there.
        registry.requests()
        done = machine.run(*command)
        assert f"{reference}: the registry has it already" in done.stderr, done.stderr
        assert {request.method for request in registry.requests()} <= {"GET", "HEAD"}
        assert stored(machine, large) == []
        assert meter.received < 1_000_000 < sum(layers.values())

        # Two layers are not.
        lost = sorted(large, key=lambda digest: layers[digest])[:1] + [min(layers, key=lambda digest: layers[digest])]
        for digest in lost:
            shutil.rmtree(registry.storage / f"docker/registry/v2/repositories/ocaml/hello/_layers/sha256/{digest[7:]}")
        done = machine.run(*command)
        size = sum(layers[digest] for digest in lost)
        assert f"{reference}: 2 of {len(layers) + 1} blobs sent ({size:,} bytes)" in done.stderr, done.stderr
        assert sum(request.is_upload for request in registry.requests()) == 2
        assert stored(machine, large) == lost[:1]
        target = f"oci:{tmp_path / 'pulled'}:x"
        tool(
            "skopeo", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests", f"docker://{reference}", target
        )
        assert json.loads((tmp_path / "pulled/index.json").read_text())["manifests"][0]["digest"] == image
