"""The start of Pants without a daemon, with this backend and with none: what loading the backend costs each such run.

The command is `list` of one generic target of an otherwise empty project, so that a backend's modules are imported and its rules
are solved, and none of it is run. Baseline: the same with `backend_packages = []`. Both are taken in turn.

What is compared is processor time (user and system), which other work on the machine changes less than wall time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

from bench.figures import Row
from bench.session import Session, median
from tests.support.checkout import ROOT, CommandFailed

_CONFIG = f"""[GLOBAL]
pants_version = "2.17.1"
pythonpath = ["{ROOT}/pants-plugins", "{ROOT}/src"]
pantsd = false

[anonymous-telemetry]
enabled = false
"""
_BACKENDS = {"ours": '["opam_oci"]', "none": "[]"}


def run(session: Session) -> List[Row]:
    project = session.directory("start")
    for name in ("pants", "3rdparty/python"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, project / name)
    for path in project.rglob("BUILD*"):
        path.unlink()
    (project / "pants.toml").write_text(_CONFIG)
    (project / "BUILD").write_text('target(name="one")\n')
    samples: Dict[str, List[float]] = {name: [] for name in _BACKENDS}
    for number in range(session.repeat + 1):
        for name, backends in _BACKENDS.items():
            seconds = _list(project, session.work, backends)
            if number:  # the first writes bytecode, and fills the cache
                samples[name].append(seconds)
    return [
        Row(
            "start",
            "list without a daemon, processor time",
            median(samples["ours"]),
            "the same without a backend",
            median(samples["none"]),
            goal=1.05,
            details={"samples": samples["ours"], "baseline_samples": samples["none"]},
        )
    ]


def _list(project: Path, work: Path, backends: str) -> float:
    """Seconds of processor time, of all processes of the command."""
    caches = {"PANTS_LOCAL_STORE_DIR": str(work / "start-store"), "PANTS_NAMED_CACHES_DIR": str(work / "start-caches")}
    env = {**os.environ, **caches, "PANTS_DYNAMIC_UI": "false", "PYTHONPYCACHEPREFIX": str(work / "start-bytecode")}
    # Some environments forbid it; then all modules, Pants' own among them, are compiled in each run.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    done = subprocess.run(
        ["./pants", f"--backend-packages={backends}", "list", "//:one"],
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    after = os.times()
    if done.returncode != 0 or done.stdout.split() != ["//:one"]:
        raise CommandFailed(f"./pants list ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-4000:]}")
    return after.children_user - before.children_user + after.children_system - before.children_system
