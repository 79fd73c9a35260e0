"""Runs odoc in a view, many at a time, and says what went wrong."""

from __future__ import annotations

import re
import shlex
from typing import Dict, List, NamedTuple, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

# Where its commands work: below the view's /tmp, which is gone with the view.
_WORK = "odoc"
_LOWEST = (3, 0)


class Job(NamedTuple):
    """One call of odoc. title: what it is about, for messages. output: the file for what it prints, "" for messages only."""

    title: str
    argv: Tuple[str, ...]
    output: str = ""


class Odoc:
    """odoc in a view. env: the environment of its commands. jobs: how many may run at once."""

    def __init__(self, view: View, env: Dict[str, str], jobs: int) -> None:
        self._view, self._env, self._jobs = view, env, jobs
        # What is mounted in a view is not found from its root.
        self._top = view.overlay.scratch_files / "tmp"
        view_files.make_directories(self._top, _WORK, owner=view.overlay.opam)

    def write(self, files: Sequence[Tuple[str, str]]) -> None:
        """Files for commands to read: names below the working directory, and texts."""
        new = [(f"{_WORK}/{name}", text.encode("utf-8", "surrogateescape")) for name, text in files]
        view_files.write_all(self._top, new, self._view.overlay.opam)

    def read(self, name: str) -> bytes:
        """What a command wrote. Raises ToolError where it did not."""
        content = view_files.read(self._top, f"{_WORK}/{name}", links=False)
        if content is None:
            raise ToolError(f"odoc wrote no {name}, or something else than a regular file")
        return content

    def names(self, directory: str) -> List[str]:
        """The names below a directory of all that commands wrote there, sorted. Raises ToolError where there is none."""
        above = f"{_WORK}/{directory}"
        if not view_files.is_directory(self._top, above):
            raise ToolError(f"odoc wrote no directory {directory}")
        return sorted(name[len(above) + 1 :] for name in view_files.walk(self._top, above))

    def check_version(self) -> None:
        """Raise ToolError unless there is an odoc that this part knows how to use."""
        status = self._sh("odoc --version >version 2>/dev/null")
        said = self.read("version").decode(errors="replace").strip()
        if status == 127:
            raise ToolError(
                "there is no program odoc: the field `odoc` of the target should name the package that brings it"
            )
        found = re.match(r"v?([0-9]+)\.([0-9]+)", said)
        if status or not found:
            raise ToolError(f"odoc does not run (exit status {status}): it says {said!r:.200}")
        if (int(found[1]), int(found[2])) < _LOWEST:
            raise ToolError(f"odoc {said} is too old: {'.'.join(map(str, _LOWEST))} or newer is needed")

    def base_library(self) -> str:
        """Where the compiler has its own library, absolute; "" where there is no compiler."""
        status = self._sh("ocamlc -where >where 2>/dev/null")
        return "" if status else self.read("where").decode(errors="replace").strip()

    def run(self, step: str, jobs: Sequence[Job]) -> None:
        """Run odoc for each, in any order. Raises ToolError with what the first that failed has printed."""
        if not jobs:
            return
        lines = []
        for number, job in enumerate(jobs):
            log = f"log/{step}-{number}"
            into = f">{shlex.quote(job.output)} 2>{log}" if job.output else f">{log} 2>&1"
            # 255: xargs starts no other.
            lines.append(
                f"odoc {' '.join(map(shlex.quote, job.argv))} {into} || {{ echo {number} >>failed; exit 255; }}"
            )
        directories = sorted({job.output.rpartition("/")[0] for job in jobs if "/" in job.output} | {"log"})
        self.write([(f"{step}.sh", "".join(f"{line}\n" for line in lines))])
        made = "".join(f"mkdir -p {shlex.quote(name)} && " for name in directories)
        status = self._sh(f"{made}xargs -d '\\n' -n 1 -P {self._jobs} sh -c <{step}.sh")
        if status:
            raise self._failure(step, jobs, status)

    def _failure(self, step: str, jobs: Sequence[Job], status: int) -> ToolError:
        failed = view_files.read_text(self._top, f"{_WORK}/failed", links=False) or ""
        numbers = sorted(int(word) for word in failed.split() if word.isdigit() and int(word) < len(jobs))
        if not numbers:
            return ToolError(f"odoc could not be run ({step}, exit status {status})")
        said = view_files.read_text(self._top, f"{_WORK}/log/{step}-{numbers[0]}", links=False) or ""
        lines = said.encode("utf-8", "replace").decode().strip().splitlines()
        return ToolError(
            f"odoc fails for {jobs[numbers[0]].title} ({step}):\n" + "\n".join(f"  {line}" for line in lines[-20:])
        )

    def _sh(self, script: str) -> int:
        argv: List[str] = ["sh", "-c", script]
        overlay = self._view.overlay
        return overlay.run(argv, self._env, self._view.log, user=True, cwd=f"/tmp/{_WORK}").returncode
