"""The sandbox tool's files, as processes get them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

from pants.engine.fs import CreateDigest, Digest, FileContent
from pants.util.frozendict import FrozenDict

from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, rule


@dataclass(frozen=True)
class SandboxTool:
    """The directory that processes run as `python3 __tool`: for each part of the tool, what a command of it needs."""

    parts: FrozenDict[str, Digest]


# The tool's parts are its subpackages. A process gets the one that its command is of, and what all of them share: a
# change of how images or lockfiles are written builds no package anew.
_LAYERS = "layers"

PARTS = {
    "rootfs": _LAYERS,
    "opam-root": _LAYERS,
    "build": _LAYERS,
    **dict.fromkeys(("state", "repack", "merge", "runtime", "image", "archive"), "imaging"),
    "lock-debian": "locking",
    "lock-opam": "locking",
    "publish": "publishing",
}


class MissingToolError(Exception):
    """A Python package that the sandbox tool consists of is not installed."""


def python_files(package: str) -> list[FileContent]:
    """The source files of an installed Python package, without importing it. Raises MissingToolError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingToolError(
            f"The Python package `{package}` is not installed where Pants runs, but building image layers needs it. "
            "Start Pants with the `pants` script of this repository; with the official launcher, name the package in "
            "`PANTS_PLUGINS` (as .pants.bootstrap does) or in `[GLOBAL].plugins`."
        )
    top = Path(next(iter(spec.submodule_search_locations)))
    return [
        FileContent(f"{package}/{path.relative_to(top).as_posix()}", path.read_bytes())
        for path in sorted(top.rglob("*.py"))
    ]


def files_of_part(files: Iterable[FileContent], part: str) -> list[FileContent]:
    """What all parts share and the part's own, started by the part's own `__main__.py` where it has one."""
    others = tuple(f"opam_sandbox/{other}/" for other in set(PARTS.values()) if other != part)
    mine = [file for file in files if not file.path.startswith(others)]
    by_path = {file.path: file for file in mine}
    main = by_path.get(f"opam_sandbox/{part}/__main__.py") or by_path["opam_sandbox/__main__.py"]
    return [*mine, FileContent("__main__.py", main.content)]


@rule
async def find_sandbox_tool() -> SandboxTool:
    """Reads the tool's files; Pants starts anew when they change, as they are on its `pythonpath`."""
    files = [*python_files("opam_sandbox"), *python_files("filelock")]
    return SandboxTool(
        FrozenDict(
            {
                part: await create_digest(CreateDigest(files_of_part(files, part)))
                for part in sorted(set(PARTS.values()))
            }
        )
    )


def rules() -> list[object]:
    return [*collect_rules()]
