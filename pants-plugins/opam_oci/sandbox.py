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
            "__tool": tool.parts[PARTS[call.command]],
            **dict(zip(layer_paths(call.layers), (layer.digest for layer in call.layers))),
        },
        append_only_caches={"opam_oci_layers": "store"},
        output_files=call.output_files,
        output_directories=call.output_directories,
        cache_scope=call.cache_scope,
        remote_cache_speculation_delay_millis=_REMOTE_CACHE_PATIENCE_MS,
    )


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


def files_of_part(files: Iterable[FileContent], part: str) -> list[FileContent]:
    """What all parts share and the part's own, started by the part's own `__main__.py` where it has one."""
    others = tuple(f"opam_sandbox/{other}/" for other in set(PARTS.values()) if other != part)
    mine = [file for file in files if not file.path.startswith(others)]
    by_path = {file.path: file for file in mine}
    main = by_path.get(f"opam_sandbox/{part}/__main__.py") or by_path["opam_sandbox/__main__.py"]
    return [*mine, FileContent("__main__.py", main.content)]


def rules() -> list[object]:
    return [*collect_rules()]
