"""The sandbox tool's files, as processes get them: of each command's part, what the tool's own table says."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

from pants.engine.fs import CreateDigest, Digest, FileContent
from pants.util.frozendict import FrozenDict

from opam_oci.pants_engine.calls import create_digest, executing_goals
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.subsystems.oci_verify import OciVerifySubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.rebuild import Rebuild

_TOOL = "opam_sandbox"
# The tool's table of what each of its parts consists of, and which commands it has: see `Part`.
_PARTS_FILE = f"{_TOOL}/parts.json"
# Of a package's files: its modules, and what they read.
_SUFFIXES = (".py", ".c", ".css", ".js", ".json", ".ml")


class MissingToolError(Exception):
    """A Python package that the sandbox tool consists of is not installed."""


@dataclass(frozen=True)
class SandboxTool:
    """The directory that processes run as `python3 __tool`: for each part of the tool, and for each command. rebuild: what is run
    in each run of Pants, whatever a cache has of it."""

    parts: FrozenDict[str, Digest]
    rebuild: Rebuild = Rebuild.none


# Puts the directory that is the first argument in front of all where Python looks for modules.
_START = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from opam_sandbox.publishing.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Part:
    """A part of the tool: what one process needs of it. A change of another part is no change of this one.

    `files` are paths below the tool's package, with `/` at the end for a whole directory; `main` is one of them.
    """

    name: str
    main: str
    commands: tuple[str, ...]
    files: tuple[str, ...]


def package_files(package: str) -> list[FileContent]:
    """The files of an installed Python package, without importing it. Raises MissingToolError."""
    top = package_directory(package)
    return [
        FileContent(f"{package}/{path.relative_to(top).as_posix()}", path.read_bytes())
        for path in sorted(top.rglob("*"))
        if path.suffix in _SUFFIXES and path.is_file()
    ]


def package_directory(package: str = _TOOL) -> Path:
    """Where an installed Python package is, without importing it. Raises MissingToolError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingToolError(
            f"The Python package `{package}` is not installed where Pants runs, but building image layers needs it. "
            "Start Pants with the `pants` script of this repository; with the official launcher, name the package in "
            "`PANTS_PLUGINS` (as .pants.bootstrap does) or in `[GLOBAL].plugins`."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def tool_command(*arguments: str) -> list[str]:
    """Arguments of a Python that runs the tool's part for publishing where it is installed, in no process of the engine's.

    Raises MissingToolError."""
    return ["-sSEB", "-c", _START, str(package_directory().parent), *arguments]


def read_parts(content: bytes) -> tuple[Part, ...]:
    """The parts that the tool's table lists."""
    return tuple(
        Part(name, part["main"], tuple(part["commands"]), tuple(part["files"]))
        for name, part in sorted(json.loads(content).items())
    )


def files_of_part(tool: Iterable[FileContent], part: Part) -> list[FileContent]:
    """The part's own of the tool's files, started by the part's own `__main__.py`. Raises MissingToolError."""
    by_path = {file.path: file for file in tool}
    mine: dict[str, FileContent] = {}
    for entry in part.files:
        path = f"{_TOOL}/{entry}"
        found = {
            name: file for name, file in by_path.items() if name == path or (path[-1] == "/" and name.startswith(path))
        }
        if not found:
            raise MissingToolError(
                f"The Python package `{_TOOL}` lacks {entry}, which {_PARTS_FILE} names: install it again."
            )
        mine.update(found)
    main = by_path[f"{_TOOL}/{part.main}"]
    return [*(mine[path] for path in sorted(mine)), FileContent("__main__.py", main.content)]


@rule
async def find_sandbox_tool(opam: OpamSubsystem, verify: OciVerifySubsystem) -> SandboxTool:
    """Reads the tool's files; Pants starts anew when they change, as they are on its `pythonpath`.

    The digests are by part and by command.
    """
    tool = package_files(_TOOL)
    libraries = package_files("filelock")
    digests: dict[str, Digest] = {}
    for part in read_parts(next(file.content for file in tool if file.path == _PARTS_FILE)):
        digest = await create_digest(CreateDigest([*files_of_part(tool, part), *libraries]))
        digests.update(dict.fromkeys((part.name, *part.commands), digest))
    rebuild = opam.rebuild
    if (await executing_goals()).is_running(verify.name):
        rebuild = rebuild.more_of(verify.rebuild)
    return SandboxTool(FrozenDict(digests), rebuild)


def rules() -> list[object]:
    return [*collect_rules()]
