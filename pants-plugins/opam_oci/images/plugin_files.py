"""The files that this plugin consists of, wherever it is installed: what images say that they were made by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.sandbox.tool import package_directory

PACKAGES = ("opam_oci", "opam_sandbox")
# What a wheel has of them. A checkout has BUILD files as well, and both have Python's bytecode.
SUFFIXES = (".py", ".json", ".c", ".css", ".js", ".ml", ".txt", ".typed")


@dataclass(frozen=True)
class PluginFiles:
    """(path, sha256 in hex) of each file, sorted."""

    files: tuple[tuple[str, str], ...]


def files_below(directory: Path) -> list[Path]:
    """The files of a Python package that count."""
    return [path for path in sorted(directory.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]


@rule
async def find_plugin_files() -> PluginFiles:
    """Reads them; as `find_sandbox_tool`, once in the life of a daemon."""
    files = []
    for package in PACKAGES:
        top = package_directory(package)
        for path in files_below(top):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            files.append((f"{package}/{path.relative_to(top).as_posix()}", sha256))
    return PluginFiles(tuple(sorted(files)))


def rules() -> list[object]:
    return [*collect_rules()]
