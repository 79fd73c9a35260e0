"""The files of the program that tries to get out."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

PERL = Path(__file__).with_name("perl")


def probe_files() -> Dict[str, str]:
    """name -> text. They must lie in one directory; `perl probe.pl NAME=VALUE ...` is the program."""
    return {path.name: path.read_text() for path in sorted(PERL.iterdir())}


def copy_probes(directory: Path) -> None:
    """Write the files into a directory."""
    for name, text in probe_files().items():
        (directory / name).write_text(text)


def parameters() -> List[str]:
    """The paths, with `*` in some, that are to have the same content before and after."""
    lines = (PERL / "parameters.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
