"""`opam install --deps-only` by the base's own opam, in directories with opam files.

    python -m tests.support.deps_by_hand DIRECTORY

`DIRECTORY/files.json` maps paths to texts: `repository/...`, an opam repository, and `NAME/...`, projects. Writes answers.json:
for each NAME the packages that opam would install, name -> version, and null where it would not. Needs root, and the base in
Pants' cache.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List

from bench.lock_roots import bases
from opam_sandbox.opam.switch import HOME, environment
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import Overlay

# What opam prints; it writes no JSON for --deps-only.
_INSTALLED = re.compile(r"(?m)^-> installed ([^.\s]+)\.(\S+)$")


# The end of names of projects whose tests' needs are asked for as well.
TESTED = "-tested"


def directories(project: str, files: Iterable[str]) -> List[str]:
    """The directories of a project that opam finds opam files in: its own, or some below it."""
    found = set()
    for path in files:
        parts = path.split("/")
        if parts[0] == project and parts[-1].endswith(("opam", ".locked")):
            # opam/opam and zed.opam/opam are of the directory above.
            inner = parts[1:-1]
            found.add("/".join([".", *(inner[:-1] if inner and inner[-1].endswith("opam") else inner)]))
    return sorted(found)


def answers(directory: Path) -> Dict[str, Any]:
    files = json.loads((directory / "files.json").read_text())
    overlay = Overlay(bases(), Path("scratch"), False)
    try:
        overlay.mount()
        top = overlay.root / "tmp/by-hand"
        for name, text in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in (top, *top.rglob("*")):
            overlay.chown_to_opam(path)
        env = {**environment(1), "OPAMROOT": "/tmp/root"}

        def opam(*arguments: str, cwd: str = f"/{HOME}") -> int:
            with open("log", "ab") as log:
                return overlay.run(["opam", *arguments], env, log, user=True, cwd=cwd).returncode

        opam("init", "--bare", "--no-setup", "--disable-sandboxing", "--kind=local", "o", "/tmp/by-hand/repository")
        opam("switch", "create", "default", "--empty")
        found: Dict[str, Any] = {}
        for name in sorted({name.partition("/")[0] for name in files} - {"repository"}):
            locked = ["--locked"] * any(path.startswith(f"{name}/") and path.endswith(".locked") for path in files)
            Path("log").write_bytes(b"")
            tested = ["--with-test"] * name.endswith(TESTED)
            arguments = [
                "--deps-only",
                "--dry-run",
                "--yes",
                "--no-depexts",
                *locked,
                *tested,
                *directories(name, files),
            ]
            status = opam("install", *arguments, cwd=f"/tmp/by-hand/{name}")
            found[name] = dict(_INSTALLED.findall(Path("log").read_text())) if status == 0 else None
        return found
    finally:
        overlay.remove()


def main(directory: Path) -> int:
    os.chdir(directory)

    def inside() -> int:
        Path("answers.json").write_text(json.dumps(answers(Path.cwd())))
        return 0

    return run_isolated(inside)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
