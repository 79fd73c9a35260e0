"""docker's own engine, and podman, with storage of their own that goes with the test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.checkout import tool


@contextmanager
def docker_engine() -> Iterator[List[str]]:
    """A docker engine on overlay2: the command that talks to it. Skips the test where none can be started."""
    if shutil.which("dockerd") is None:
        pytest.skip("no dockerd on this machine (Debian: docker.io)")
    with tempfile.TemporaryDirectory(prefix="dockerd", dir="/var/tmp") as name:
        directory = Path(name)
        socket = f"unix://{directory}/s"
        command = ["dockerd", "--data-root", f"{directory}/d", "--exec-root", f"{directory}/e", "-H", socket]
        command += ["--pidfile", f"{directory}/pid", "--storage-driver=overlay2"]
        command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        with open(directory / "log", "wb") as log:
            engine = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while tool("docker", "-H", socket, "version", check=False).returncode != 0:
                if engine.poll() is not None or time.monotonic() > deadline:
                    pytest.skip("dockerd does not start here: " + (directory / "log").read_text()[-300:])
                time.sleep(0.3)
            yield ["docker", "-H", socket]
        finally:
            engine.terminate()
            engine.wait(30)
            # It leaves the network namespace of containers that have none mounted.
            for mount in directory.glob("e/netns/*"):
                tool("umount", str(mount), check=False)


@contextmanager
def podman_storage() -> Iterator[List[str]]:
    """podman with empty storage: its command. Not in pytest's directory: podman wants a short path."""
    with tempfile.TemporaryDirectory(prefix="podman", dir="/var/tmp") as directory:
        command = ["podman", "--root", f"{directory}/s", "--runroot", f"{directory}/r", "--cgroup-manager=cgroupfs"]
        try:
            yield command
        finally:
            tool(*command, "system", "reset", "--force", check=False)
            # It leaves its storage mounted on itself.
            tool("umount", f"{directory}/s/overlay", check=False)
