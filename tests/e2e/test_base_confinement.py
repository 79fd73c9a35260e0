"""A maintainer script of a base's package reaches nothing of the machine that makes the base."""

from __future__ import annotations

import os
import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.e2e.conftest import USER_ID, as_user, tool
from tests.support import base_job, probes
from tests.support.sandbox_tool import copy_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what is to be reached is root's")


@pytest.fixture(scope="module")
def debs() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="opam-oci-probe-", dir="/var/tmp"))
    base_job.download(top)
    copy_tool(top / "tool")
    top.chmod(0o755)
    yield top
    shutil.rmtree(top, ignore_errors=True)


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_a_maintainer_script_reaches_nothing(debs: Path, tmp_path: Path, user: bool) -> None:
    """The script finds a target on this machine; what it reaches, it writes into the base."""
    job = Path(f"{debs}-{'user' if user else 'root'}")
    shutil.copytree(debs, job)
    try:
        with probes.target(tmp_path) as target:
            words = " ".join(shlex.quote(word) for word in target.arguments)
            script = f"#!/bin/sh\nperl /usr/share/probe/probe.pl {words} > /usr/share/probe/outcome 2>&1\nexit 0\n"
            base_job.add_package(job, "probe", script, {"usr/share/probe/probe.pl": probes.PROBE.read_text()})
            command = "PYTHONPATH=tool exec python3 -sB -m opam_sandbox.building rootfs request.json"
            prefix: List[str] = []
            if user:
                (job / "home").mkdir()
                prefix = as_user(job / "home", "true")
                tool("chown", "-R", f"{USER_ID}:{USER_ID}", str(job))
            done = tool(
                *prefix, "sh", "-c", f"cd {job} && export PATH=/usr/bin:/bin:/usr/sbin:/sbin && {command}", check=False
            )
            assert done.returncode == 0, done.stderr[-4000:]
            with tarfile.open(job / "layer.tar") as base:
                outcome = base.extractfile("usr/share/probe/outcome")
                assert outcome is not None
                text = outcome.read().decode()
            held, reached = probes.outcomes(text)
            assert reached == [] and len(held) >= 42, text
            assert target.untouched()
    finally:
        shutil.rmtree(job, ignore_errors=True)
