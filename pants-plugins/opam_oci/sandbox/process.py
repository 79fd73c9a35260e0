"""Makes all processes of this backend: those of the sandbox tool, and those of the host's programs."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from pants.base.build_environment import get_buildroot
from pants.core.goals.run import RunRequest
from pants.engine.fs import EMPTY_DIGEST, Digest, FileContent
from pants.engine.process import InteractiveProcess, Process, ProcessCacheScope
from pants.option.global_options import GlobalOptions
from pants.util.logging import LogLevel

from opam_oci.host.checks import TOOL_PATH
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.tool import SandboxTool
from opam_oci.subsystems.rebuild import Rebuild

REQUEST_FILE = "request.json"

# Where processes find the unpacked layers: Pants' name of the cache, and the directory's name in a process.
STORE = "store"
STORE_CACHE = "opam_oci_layers"
_STORE_CACHE = {STORE_CACHE: STORE}

# Commands that make what images consist of.
_OF_PACKAGES = frozenset(("build", "state", "repack", "merge", "runtime", "archive"))
_REBUILT = {
    Rebuild.none: frozenset[str](),
    Rebuild.packages: _OF_PACKAGES,
    Rebuild.all: _OF_PACKAGES | {"rootfs", "opam-root", "join-image"},
}

# How long a remote cache may take to answer before a process is run here as well. (0, Pants' default, starts it at once
# beside the question, which for want of sources fails at once.) One that is not reachable at all says so earlier.
_REMOTE_CACHE_PATIENCE_MS = 10_000


@dataclass(frozen=True)
class Call:
    """One run of the tool. `layers` are the layer directories that the request names `in/0`, `in/1` ...; `image` is the layout
    that it names `image`, None for none."""

    command: str
    description: str
    request: Mapping[str, object]
    layers: tuple[Layer, ...]
    output_files: tuple[str, ...]
    output_directories: tuple[str, ...] = ("blobs",)
    cache_scope: ProcessCacheScope = ProcessCacheScope.SUCCESSFUL
    timeout_seconds: int | None = None
    image: Digest | None = None


def store_directory(options: GlobalOptions) -> str:
    """Where this machine's processes have the store: an absolute path, of something that may not be there yet."""
    return os.path.join(get_buildroot(), options.named_caches_dir, STORE_CACHE)


def request_file(request: Mapping[str, object], layers: tuple[Layer, ...] = ()) -> FileContent:
    """A request as a file: the same values always give the same bytes. It says what the layers' descriptions are, as those say
    what their blobs are: the engine compares nothing of what it takes out of its store."""
    inputs = {f"{path}/layer.json": layer.description for path, layer in zip(layer_paths(layers), layers)}
    values = {**request, "inputs": inputs} if inputs else request
    return FileContent(REQUEST_FILE, json.dumps(values, sort_keys=True, indent=1, ensure_ascii=True).encode())


def layer_paths(layers: Iterable[Layer]) -> list[str]:
    """What a request calls the layers that a process is given, in their order."""
    return [f"in/{index}" for index, _ in enumerate(layers)]


def tool_process(
    tool: SandboxTool, call: Call, input_digest: Digest, *, env: Mapping[str, str] | None = None
) -> Process:
    """The process for a call. `input_digest` holds the request file, of the same layers, and what it names but the layers.

    Nothing of this machine enters: argv, environment and inputs are the same wherever the lockfiles and the tool are.
    How many jobs a build runs is decided inside, by the cores that it may use. (Pants' `concurrency_available` fixes a
    share when a process starts: a compiler that starts beside a small package would keep to one core to its end.)
    """
    sha256 = hashlib.sha256(request_file(call.request, call.layers).content).hexdigest()
    anew = call.command in _REBUILT[tool.rebuild]
    # -S: what this machine's Python has in its site-packages has no say, and is not waited for.
    argv = ["/usr/bin/env", "python3", "-sSEB", "__tool", call.command, REQUEST_FILE, "--sha256", sha256]
    return Process(
        argv=argv,
        description=call.description,
        env={"PATH": TOOL_PATH, "LANG": "C.UTF-8", **(env or {})},
        input_digest=input_digest,
        immutable_input_digests={
            "__tool": tool.parts[call.command],
            **dict(zip(layer_paths(call.layers), (layer.digest for layer in call.layers))),
            **({} if call.image is None else {"image": call.image}),
        },
        append_only_caches=_STORE_CACHE,
        output_files=call.output_files,
        output_directories=call.output_directories,
        # Of this scope the engine asks no cache, local or remote, and tells none.
        cache_scope=ProcessCacheScope.PER_SESSION if anew else call.cache_scope,
        timeout_seconds=call.timeout_seconds,
        remote_cache_speculation_delay_millis=_REMOTE_CACHE_PATIENCE_MS,
    )


def publishing_process(
    tool: SandboxTool,
    python: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    image: Digest | None = None,
    input_digest: Digest = EMPTY_DIGEST,
) -> InteractiveProcess:
    """A run of the tool's part for publishing, in the foreground, by the host's `python`. `image`: a layout, as `image/`."""
    layouts = {} if image is None else {"image": image}
    return InteractiveProcess(
        argv=[python, "-sEB", "__tool", *arguments],
        env=env,
        input_digest=input_digest,
        immutable_input_digests={"__tool": tool.parts["publishing"], **layouts},
    )


def fetching_process(files: Digest, description: str) -> Process:
    """Does nothing with files of a layout, so that the engine must have them here: what a cache has lost meanwhile, the engine
    makes anew for a process, but not for one in the foreground (which finds the directory that is made for this one)."""
    return Process(
        argv=["/bin/true"],
        description=description,
        immutable_input_digests={"image": files},
        cache_scope=ProcessCacheScope.PER_SESSION,
        # The engine starts it twice a second while it makes what was lost.
        level=LogLevel.DEBUG,
    )


def comparing_process(
    tool: SandboxTool,
    python: str,
    command: str,
    input_digest: Digest,
    layouts: Mapping[str, Digest],
    *,
    env: Mapping[str, str],
) -> InteractiveProcess:
    """A run of the tool's part for comparing, in the foreground, by the host's `python`: it asks registries, as this user.
    layouts: blobs of images, by the directory that the request calls them."""
    return InteractiveProcess(
        argv=[python, "-sSEB", "__tool", command, REQUEST_FILE],
        env={"LANG": "C.UTF-8", **env},
        input_digest=input_digest,
        immutable_input_digests={"__tool": tool.parts[command], **layouts},
    )


def shell_process(
    tool: SandboxTool,
    python: str,
    command: str,
    layers: Sequence[Layer],
    input_digest: Digest,
    *,
    env: Mapping[str, str],
) -> InteractiveProcess:
    """A run of the tool's `command`, "shell" or "test", in the foreground, by the host's `python`. `input_digest`: as of a
    build's process."""
    return InteractiveProcess(
        argv=[python, "-sSEB", "__tool", command, REQUEST_FILE],
        env={"PATH": TOOL_PATH, "LANG": "C.UTF-8", **env},
        input_digest=input_digest,
        immutable_input_digests={
            "__tool": tool.parts[command],
            **dict(zip(layer_paths(layers), (layer.digest for layer in layers))),
        },
        append_only_caches=_STORE_CACHE,
    )


def running_request(
    tool: SandboxTool,
    python: str,
    command: str,
    arguments: Sequence[str],
    *,
    image: Digest,
    input_digest: Digest,
    env: Mapping[str, str],
) -> RunRequest:
    """A run of an image for Pants' `run`: the tool's `command`, by the host's `python`. `image`: a layout, as `image/`.

    env: variables on top of the user's."""
    return RunRequest(
        digest=input_digest,
        extra_env=env,
        args=(python, "-sEB", "{chroot}/__tool", command, f"{{chroot}}/{REQUEST_FILE}", *arguments),
        immutable_input_digests={"__tool": tool.parts["publishing"], "image": image},
        append_only_caches=_STORE_CACHE,
    )


def entering_request(tool: SandboxTool, python: str, layers: Sequence[Layer], input_digest: Digest) -> RunRequest:
    """A run of the tool's `enter` in the foreground, by the host's `python`, wherever it starts; words that are put behind its
    arguments are the command's. `input_digest`: the request, of these layers."""
    return RunRequest(
        digest=input_digest,
        args=(python, "-sSEB", "{chroot}/__tool", "enter", f"{{chroot}}/{REQUEST_FILE}", "--"),
        immutable_input_digests={
            "__tool": tool.parts["enter"],
            **dict(zip(layer_paths(layers), (layer.digest for layer in layers))),
        },
        append_only_caches=_STORE_CACHE,
    )


def interactive(request: RunRequest, words: Sequence[str], env: Mapping[str, str]) -> InteractiveProcess:
    """Such a run with words of a goal's own, in an environment of `env` and little else."""
    return InteractiveProcess(
        argv=(*request.args, *words),
        env={"PATH": TOOL_PATH, "LANG": "C.UTF-8", **env},
        input_digest=request.digest,
        immutable_input_digests=request.immutable_input_digests,
        append_only_caches=request.append_only_caches,
    )


def host_process(
    argv: Sequence[str], description: str, *, env: Mapping[str, str], output_files: tuple[str, ...]
) -> Process:
    """A program of the host, found on the tool's PATH. Its result is cached if it succeeds."""
    return Process(
        argv=argv,
        description=description,
        env={**env, "PATH": TOOL_PATH, "LANG": "C.UTF-8"},
        output_files=output_files,
    )
