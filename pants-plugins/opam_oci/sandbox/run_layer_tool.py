"""Runs a command of the sandbox tool that makes one layer out of others."""

from __future__ import annotations

from typing import Any

from pants.engine.fs import CreateDigest

from opam_oci.pants_engine.calls import create_digest, run_process
from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.layer import Layer, LayerError, build_log, failure_text, layer_of
from opam_oci.sandbox.process import Call, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool


async def run_layer_tool(command: str, description: str, values: dict[str, Any], layers: tuple[Layer, ...]) -> Layer:
    """Run a command that makes one layer. Raises LayerError."""
    tool = await find_sandbox_tool(**implicitly())
    call = Call(command, description, values, layers, ("layer.json", "build.log", "timings.json"))
    result = await run_process(tool_process(tool, call, await create_digest(CreateDigest([request_file(values)]))))
    if result.exit_code != 0:
        log = await build_log(result)
        raise LayerError(f"{description} failed.\n{failure_text(result, log, whole_log=False)}")
    return await layer_of(result, description)
