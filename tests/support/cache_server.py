"""A remote cache on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from tests.support.checkout import ROOT, CommandFailed, tool


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def serve(argv: Sequence[str], port: int, log_file: Path) -> "subprocess.Popen[bytes]":
    """Start a server and wait until it listens. Raises CommandFailed, with what it printed."""
    with open(log_file, "ab") as log:
        process = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + 180  # the first start installs it
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.2)
    process.terminate()
    raise CommandFailed(f"{argv[0]} does not start:\n{log_file.read_text()[-4000:]}")


@dataclass
class RemoteCache:
    """build-support/cache-server on loopback, as somebody else would run it."""

    directory: Path
    port: int = 0
    process: Optional["subprocess.Popen[bytes]"] = None

    def start(self) -> None:
        self.port = self.port or free_port()
        self.directory.mkdir(exist_ok=True)
        argv = [str(ROOT / "build-support/cache-server"), str(self.directory), str(self.port)]
        self.process = serve(argv, self.port, self.directory / "server.log")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    @property
    def options(self) -> List[str]:
        return [
            f"--remote-store-address=grpc://127.0.0.1:{self.port}",
            "--remote-instance-name=",
            "--remote-cache-read",
            "--remote-cache-write",
        ]


@dataclass
class Worker:
    """An execution service beside a remote cache, which runs each action in an empty container (see worker.py).

    keeps_layers: unpacked layers outlive an action; else each action unpacks all that it stands on."""

    cache: RemoteCache
    directory: Path
    keeps_layers: bool = True
    port: int = 0
    process: Optional["subprocess.Popen[bytes]"] = None

    def start(self) -> None:
        self.port = self.port or free_port()
        self.directory.mkdir(parents=True)
        python = tool(str(ROOT / "build-support/cache-server"), "--print-python").stdout.strip()
        argv = [python, str(Path(__file__).with_name("worker.py"))]
        argv += [str(self.cache.directory / "cas/cas/objects"), str(self.port), str(self.directory)]
        self.process = serve(argv, self.port, self.directory / "worker.log")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def actions(self) -> List[Dict[str, Any]]:
        """What it ran: `argv`, `exit_code` and the end of `stderr` of each."""
        notes = self.directory / "actions.jsonl"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    @property
    def options(self) -> List[str]:
        return [
            *self.cache.options,
            "--remote-execution",
            f"--remote-execution-address=grpc://127.0.0.1:{self.port}",
            *(["--remote-execution-append-only-caches-base-path=/worker/caches"] if self.keeps_layers else []),
        ]
