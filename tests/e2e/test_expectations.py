"""What programs expect of a machine holds in builds: for root and for a user, by one package that looks at all of it."""

from __future__ import annotations

import base64
import os
import re
import resource
from pathlib import Path
from typing import List, Sequence

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.test_sandbox import AS_USER, build
from tests.e2e.test_sandbox import layers as layers
from tests.e2e.test_sandbox import readable as readable
from tests.e2e.test_sandbox import tool_path as tool_path

SCRIPT = ROOT / "tests/support/expectations.sh"
# Its names, but for those of a loop.
NAMES = re.findall(r'^expect "([^"$]+)"', SCRIPT.read_text(), re.MULTILINE)
SANITIZERS = [f"sanitizer: {kind}" for kind in ("address", "thread", "leak", "undefined")]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares root with a user: needs root")


def opam_file() -> str:
    script = base64.b64encode(SCRIPT.read_bytes()).decode()
    return f'opam-version: "2.0"\nbuild: [["sh" "-c" "echo {script} | base64 -d > script && sh ./script"]]\n'


def outcomes(work: Path) -> List[str]:
    """The lines of the script, without what a log has in front."""
    lines = [line.lstrip("- ") for line in (work / "build.log").read_text().splitlines()]
    return [line for line in lines if line.startswith(("ok ", "FAILED "))]


@pytest.mark.parametrize("prefix", [(), AS_USER], ids=["root", "user"])
def test_what_programs_expect(tool_path: Path, layers: List[Path], readable: Path, prefix: Sequence[str]) -> None:
    """Whatever soft limits the caller has."""
    soft = [(resource.RLIMIT_STACK, 1 << 20), (resource.RLIMIT_FSIZE, 1 << 30)]
    before = [resource.getrlimit(limit) for limit, _ in soft]
    try:
        for (limit, number), (_, hard) in zip(soft, before):
            resource.setrlimit(limit, (number, hard))
        done = build(tool_path, readable / "work", layers, opam_file(), prefix)
    finally:
        for (limit, _), old in zip(soft, before):
            resource.setrlimit(limit, old)
    assert done.returncode == 0, done.stderr
    found = outcomes(readable / "work")
    assert [line for line in found if not line.startswith("ok ")] == []
    assert len(NAMES) > 30 and {f"ok {name}" for name in (*NAMES, *SANITIZERS)} <= set(found)
