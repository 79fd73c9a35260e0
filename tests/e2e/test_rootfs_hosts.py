"""The base is the same whatever Debian release, apt, mmdebstrap and accounts the machine has that makes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.e2e.conftest import tool
from tests.support import base_job
from tests.support.sandbox_tool import copy_tool

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="another machine is a root directory to chroot into: needs root"
)


@pytest.fixture(scope="module")
def job() -> Iterator[Path]:
    """A directory as a process of Pants finds it: the tool, the request, the .debs."""
    top = Path(tempfile.mkdtemp(prefix="opam-oci-hosts-", dir="/var/tmp"))
    base_job.download(top)
    copy_tool(top / "tool")
    yield top
    shutil.rmtree(top, ignore_errors=True)


def make_base(work: Path, prefix: List[str], inside: str) -> Dict[str, Any]:
    """layer.json of the base that is made in `work`, which is `inside` for the command."""
    command = f"cd {inside} && PYTHONPATH=tool exec python3 -sB -m opam_sandbox.building rootfs request.json"
    done = subprocess.run([*prefix, "sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    layer: Dict[str, Any] = json.loads((work / "layer.json").read_text())
    return layer


def test_another_release_makes_the_same_base(job: Path) -> None:
    """Debian 13's tools, with other accounts than this machine's, against this machine's own."""
    host = Path(f"{job}-trixie")
    here = Path(f"{job}-here")
    try:
        include = "--include=mmdebstrap,python3,python3-filelock,mount,apt-utils"
        tool("mmdebstrap", "--variant=apt", include, "trixie", str(host), apt_mirrors(Path("/etc/apt"))[0])
        passwd = host / "etc/passwd"
        passwd.write_text(passwd.read_text().replace("_apt:x:42:", "_apt:x:142:"))
        shutil.copytree(job, here)
        shutil.copytree(job, host / "job")
        enter = f"mount --bind {host} {host} && mount -t proc proc {host}/proc && mount --rbind /dev {host}/dev"
        script = f'{enter} && unset TMPDIR && exec chroot {host} "$@"'
        there = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
        made = make_base(host / "job", there, "/job")
        assert (host / "job/build.log").exists()
        assert make_base(here, [], str(here)) == made
    finally:
        shutil.rmtree(host, ignore_errors=True)
        shutil.rmtree(here, ignore_errors=True)
