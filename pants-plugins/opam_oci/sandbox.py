"""Runs the sandbox tool: the one place that makes processes of this backend."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

from pants.engine.fs import CreateDigest, Digest, FileContent
from pants.engine.process import Process, ProcessCacheScope
from pants.util.frozendict import FrozenDict

from opam_oci.engine import collect_rules, create_digest, rule
from opam_oci.host import TOOL_PATH
from opam_oci.products import Layer, SandboxTool


class MissingToolError(Exception):
    """A Python package that the sandbox tool consists of is not installed."""


@dataclass(frozen=True)
class Call:
    """One run of the tool. `layers` are the layer directories that the request names `in/0`, `in/1` ..."""

    command: str
    description: str
    request: Mapping[str, Any]
    layers: tuple[Layer, ...]
    output_files: tuple[str, ...]
    output_directories: tuple[str, ...] = ("blobs",)
    cache_scope: ProcessCacheScope = ProcessCacheScope.SUCCESSFUL


REQUEST_FILE = "request.json"

# How long a remote cache may take to answer before a process is run here as well. (0, Pants' default, starts it at once
# beside the question, which for want of sources fails at once.) One that is not reachable at all says so earlier.
_REMOTE_CACHE_PATIENCE_MS = 10_000


def request_file(request: Mapping[str, Any]) -> FileContent:
    """A request as a file: the same values always give the same bytes."""
    text = json.dumps(request, sort_keys=True, indent=1, ensure_ascii=True)
    return FileContent(REQUEST_FILE, text.encode())


def layer_paths(layers: Iterable[Layer]) -> list[str]:
    """What a request calls the layers that a process is given, in their order."""
    return [f"in/{index}" for index, _ in enumerate(layers)]


def tool_process(
    tool: SandboxTool, call: Call, input_digest: Digest, *, env: Mapping[str, str] | None = None
) -> Process:
    """The process for a call. `input_digest` holds the request file and what it names but the layers.

    Nothing of this machine enters: argv, environment and inputs are the same wherever the lockfiles and the tool are.
    How many jobs a build runs is decided inside, by the cores that it may use. (Pants' `concurrency_available` fixes a
    share when a process starts: a compiler that starts beside a small package would keep to one core to its end.)
    """
    argv = ["/usr/bin/env", "python3", "-sEB", "__tool", call.command, REQUEST_FILE]
    return Process(
        argv=argv,
        description=call.description,
        env={"PATH": TOOL_PATH, "LANG": "C.UTF-8", **(env or {})},
        input_digest=input_digest,
        immutable_input_digests={
            "__tool": tool.parts[call.command],
            **dict(zip(layer_paths(call.layers), (layer.digest for layer in call.layers))),
        },
        append_only_caches={"opam_oci_layers": "store"},
        output_files=call.output_files,
        output_directories=call.output_directories,
        cache_scope=call.cache_scope,
        remote_cache_speculation_delay_millis=_REMOTE_CACHE_PATIENCE_MS,
    )


_TOOL = "opam_sandbox"
# The tool's table of what each of its parts consists of, and which commands it has: see `Part`.
_PARTS_FILE = f"{_TOOL}/parts.json"
# Of a package's files: its modules, and what they read.
_SUFFIXES = (".py", ".c", ".json")


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
        for path in sorted(top.rglob("*"))
        if path.suffix in _SUFFIXES and path.is_file()
    ]


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
async def find_sandbox_tool() -> SandboxTool:
    """Reads the tool's files; Pants starts anew when they change, as they are on its `pythonpath`.

    The digests are by part and by command.
    """
    tool = package_files(_TOOL)
    libraries = package_files("filelock")
    digests: dict[str, Digest] = {}
    for part in read_parts(next(file.content for file in tool if file.path == _PARTS_FILE)):
        digest = await create_digest(CreateDigest([*files_of_part(tool, part), *libraries]))
        digests.update(dict.fromkeys((part.name, *part.commands), digest))
    return SandboxTool(FrozenDict(digests))


def rules() -> list[object]:
    return [*collect_rules()]
