"""A Pants project in a temporary directory that uses this checkout's backend: what the benchmarks of many targets run in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("3rdparty/python", "3rdparty/debian")


@dataclass
class Run:
    """One command: wall time in seconds, the whole output, exit status."""

    seconds: float
    output: str
    status: int


class ScratchProject:
    """`resolves`: names, each with the lockfile 3rdparty/opam/NAME.lock; `options`: lines of [opam] in pants.toml;
    `repositories`: name -> location, as in `[opam.repositories]`. By default one that lies in the project, at repository/.
    `base`: the target in 3rdparty/debian that all resolves stand on."""

    def __init__(
        self,
        directory: Path,
        resolves: Sequence[str],
        options: str = "",
        repositories: "Mapping[str, str] | None" = None,
        base: str = "trixie",
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        # Copies: Pants follows no link out of the build root.
        for name in _PARTS:
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("BUILD.python"))
        shutil.copy(ROOT / "pants", directory / "pants")
        repositories = repositories or {"own": "repository"}
        places = "\n".join(f"{json.dumps(name)} = {json.dumps(place)}" for name, place in repositories.items())
        listed = "\n".join(f'{json.dumps(name)} = "3rdparty/opam/{name}.lock"' for name in resolves)
        bases = "\n".join(f'{json.dumps(name)} = "//3rdparty/debian:{base}"' for name in resolves)
        (directory / "pants.toml").write_text(
            f"""[GLOBAL]
pants_version = "2.17.1"
backend_packages = ["opam_oci"]
pants_ignore.add = ["__pycache__/"]
pythonpath = ["{ROOT}/pants-plugins", "{ROOT}/src"]
pants_subprocessdir = "{directory}/.pids"

[anonymous-telemetry]
enabled = false

[opam]
default_resolve = {json.dumps(resolves[0])}
{options}

[opam.resolves]
{listed}

[opam.resolves_to_base]
{bases}

[opam.repositories]
{places}

[debian.resolves]
trixie = "3rdparty/debian/trixie.lock"
trixie-ocaml = "3rdparty/debian/trixie-ocaml.lock"
"""
        )

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def pants(self, *arguments: str, env: "Dict[str, str] | None" = None) -> Run:
        start = time.perf_counter()
        done = subprocess.run(
            ["./pants", *arguments],
            cwd=self.directory,
            env={**os.environ, "PANTS_DYNAMIC_UI": "false", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(time.perf_counter() - start, done.stdout, done.returncode)

    def must(self, *arguments: str) -> Run:
        run = self.pants(*arguments)
        if run.status != 0:
            sys.exit(f"./pants {' '.join(arguments)} ended with {run.status}:\n{run.output[-6000:]}")
        return run

    def stop_daemon(self) -> None:
        """End this project's pantsd, by its pid, and wait until it is gone."""
        for path in (self.directory / ".pids").rglob("pid"):
            try:
                pid = int(path.read_text())
                os.kill(pid, signal.SIGTERM)
                for _ in range(100):
                    os.kill(pid, 0)
                    time.sleep(0.1)
            except (OSError, ValueError):
                continue
