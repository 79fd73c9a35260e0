"""Checkouts of this repository, and Pants in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, FrozenSet, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]


class CommandFailed(AssertionError):
    """A program that a test or a benchmark needs ended with an error; the message has what it printed."""


@dataclass
class Pants:
    """`./pants` in a checkout, with caches of its own if `caches` is given, else the user's.

    home: a home of its own, and nothing else in the environment but PATH. python: the Python to set Pants up with."""

    root: Path
    caches: Optional[Path] = None
    home: Optional[Path] = None
    python: str = ""
    options: Sequence[str] = ()
    prefix: Sequence[str] = ()

    def environment(self) -> Dict[str, str]:
        """What a command gets."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("PANTS_")}
        env["PANTS_DYNAMIC_UI"] = "false"
        if self.home:
            env = {"HOME": str(self.home), "PATH": env["PATH"], "PANTS_DYNAMIC_UI": "false"}
        if self.python:
            env["PANTS_PYTHON"] = self.python
        if self.caches:
            env["PANTS_LOCAL_STORE_DIR"] = str(self.caches / "lmdb_store")
            env["PANTS_NAMED_CACHES_DIR"] = str(self.caches / "named_caches")
        return env

    def start(self, *args: str, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        """A command that runs on; what it prints goes to `output`."""
        return subprocess.Popen(
            [*self.prefix, "./pants", *self.options, *args],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def run(self, *args: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*self.prefix, "./pants", *self.options, *args],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if check and done.returncode != 0:
            raise CommandFailed(
                f"./pants {' '.join(args)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-8000:]}"
            )
        return done

    def daemons(self) -> FrozenSet[int]:
        """The pids of this checkout's pantsd."""
        found = set()
        for path in (self.root / ".pids").rglob("pid"):
            try:
                os.kill(int(path.read_text()), 0)
                found.add(int(path.read_text()))
            except (OSError, ValueError):
                continue
        return frozenset(found)

    def stop(self, keep: FrozenSet[int] = frozenset()) -> None:
        """End this checkout's pantsd, by its pid, unless it is one to keep."""
        ending = self.daemons() - keep
        for pid in ending:
            os.kill(pid, signal.SIGTERM)
        # No later call is to meet a daemon that is about to end.
        deadline = time.monotonic() + 30
        while self.daemons() & ending and time.monotonic() < deadline:
            time.sleep(0.1)


def tool(*argv: str, check: bool = True, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run somebody else's program; its output is text."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)
    if check and done.returncode != 0:
        raise CommandFailed(
            f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done


def make_clone(target: Path) -> Path:
    """Another clone of this checkout at another path, with nothing beside it."""
    tool("git", "clone", "--quiet", str(ROOT), str(target))
    # What is not committed yet counts as well.
    changed = tool(
        "git", "-C", str(ROOT), "ls-files", "--modified", "--others", "--exclude-standard"
    ).stdout.splitlines()
    for name in changed:
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target
