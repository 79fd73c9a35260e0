"""The sandbox tool as processes find it: its sources and filelock, in a directory of their own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.checkout import ROOT


def filelock_package() -> Path:
    """The directory of this Python's filelock."""
    return next(Path(path) / "filelock" for path in sys.path if (Path(path) / "filelock").is_dir())


def copy_tool(target: Path) -> Path:
    """The tool and filelock, and nothing else of this Python: they run under the system's, as in a process's sandbox."""
    for package in (ROOT / "src" / "opam_sandbox", filelock_package()):
        shutil.copytree(package, target / package.name)
    return target
