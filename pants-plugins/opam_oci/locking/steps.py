"""The steps that make a lockfile: each is a run of the sandbox tool."""

from __future__ import annotations

import dataclasses
import json
from contextlib import ExitStack
from typing import Iterable, Mapping

from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import Digest
from pants.engine.process import ProcessCacheScope

from opam_oci.downloads.credentials import Place, holds_secret
from opam_oci.downloads.debian_mirrors import NO_MIRROR, Mirrors, find_mirrors
from opam_oci.downloads.fetch import FetchError
from opam_oci.pants_engine.calls import environment_vars
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import implicitly
from opam_oci.resolves.opam_repositories import NETWORK_VARIABLES
from opam_oci.sandbox.failure import tool_message
from opam_oci.sandbox.handover import handed_over
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.process import Call
from opam_oci.sandbox.run_tool import run_call

SECRETS_FILE = "secrets.json"


class LockError(Exception):
    """A lockfile that could not be made; the message has the tool's, or opam's, reason."""


async def run_step(call: Call, digests: Iterable[Digest], purpose: str, places: Iterable[Place] = ()) -> Digest:
    """What a step of the tool writes. Raises LockError: "Cannot `purpose`" and the tool's reason.

    places: those of the request's URLs that may need a password. A step whose results are cached does not use the network,
    and gets nothing of this machine's environment.
    """
    env = EnvironmentVars()
    if call.cache_scope == ProcessCacheScope.PER_SESSION:
        env = await environment_vars(EnvironmentVarsRequest(NETWORK_VARIABLES))
    secrets = secrets_of(env, places)
    with ExitStack() as stack:
        if secrets:
            directory = stack.enter_context(handed_over({SECRETS_FILE: json.dumps(secrets)}))
            call = dataclasses.replace(call, request={**call.request, "secrets": f"{directory}/{SECRETS_FILE}"})
        result = await run_call(call, digests, {name: value for name, value in env.items() if not holds_secret(value)})
    if result.exit_code != 0:
        raise LockError(f"Cannot {purpose}:\n{tool_message(result)}")
    return result.output_digest


def secrets_of(env: Mapping[str, str], places: Iterable[Place]) -> dict[str, dict[str, str]]:
    """What a process is handed besides its request: variables and URLs that hold passwords. Empty where none does."""
    found = {
        "env": {name: str(value) for name, value in env.items() if holds_secret(value)},
        "userinfo": {place.url: str(place.userinfo) for place in places if place.userinfo},
    }
    return found if any(found.values()) else {}


async def read_output(digest: Digest, name: str) -> bytes:
    """A file that a step wrote. Raises LockError where it did not."""
    contents = await read_files(digest, name)
    if name not in contents:
        raise LockError(f"The sandbox tool wrote no {name}.")
    return contents[name]


def lock_call(
    command: str,
    description: str,
    values: Mapping[str, object],
    outputs: tuple[str, ...],
    *,
    layers: tuple[Layer, ...] = (),
    output_directories: tuple[str, ...] = (),
    network: bool = False,
) -> Call:
    """A run of the tool. What uses the network is asked anew in every run, but only once in each."""
    return Call(
        command,
        description,
        values,
        layers,
        output_files=outputs,
        output_directories=output_directories,
        cache_scope=ProcessCacheScope.PER_SESSION if network else ProcessCacheScope.SUCCESSFUL,
    )


async def require_mirrors() -> Mirrors:
    """The Debian archives to lock from. Raises FetchError where none is known."""
    mirrors = await find_mirrors(**implicitly())
    if not mirrors.urls:
        raise FetchError(f"Cannot generate lockfiles: {NO_MIRROR}.")
    return mirrors
