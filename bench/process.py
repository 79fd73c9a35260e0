"""The sandbox tool as a process of its own, without Pants."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Sequence


def opam_file(name: str) -> str:
    """Of a package that installs one small file."""
    return f'opam-version: "2.0"\ninstall: [["sh" "-c" "echo {name} > %{{lib}}%/{name}.txt"]]\n'


def build(tool: Path, work: Path, layers: Sequence[Path], name: str, store: Path) -> float:
    """Build the package of `opam_file` with the tool in an empty directory; returns the wall time of the process."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "in").mkdir(parents=True)
    (work / "store").symlink_to(store)
    for number, layer in enumerate(layers):
        (work / "in" / str(number)).symlink_to(layer)
    request = {
        "store": "store",
        "layers": [f"in/{number}" for number in range(len(layers))],
        "package": {
            "name": name,
            "version": "1",
            "opam": opam_file(name),
            "files": [{"path": "readme", "content": base64.b64encode(b"x").decode()}],
            "sources": [],
            "debs": [],
        },
        "with_test": False,
    }
    (work / "request.json").write_text(json.dumps(request))
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(tool)}
    start = time.perf_counter()
    subprocess.run(
        ["python3", "-sB", "-m", "opam_sandbox.building", "build", "request.json"], cwd=work, env=env, check=True
    )
    return time.perf_counter() - start
