"""Runs the sandbox tool and looks at what became of it."""

from __future__ import annotations

from typing import Iterable, Mapping

from pants.engine.fs import CreateDigest, Digest, MergeDigests
from pants.engine.process import FallibleProcessResult, Process

from opam_oci.downloads.fetch import FetchError
from opam_oci.pants_engine.calls import create_digest, merge_digests, run_process
from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.failure import build_log, failure_text
from opam_oci.sandbox.layer import Layer, LayerError, layer_of
from opam_oci.sandbox.on_demand import OnDemandRequest, run_on_demand
from opam_oci.sandbox.process import Call, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.sandbox.warnings import pass_on_warnings


async def process_of(call: Call, digests: Iterable[Digest] = (), env: Mapping[str, str] | None = None) -> Process:
    """The process of a command whose inputs are at hand: its request, its layers and `digests`."""
    tool = await find_sandbox_tool(**implicitly())
    inputs = await merge_digests(
        MergeDigests([await create_digest(CreateDigest([request_file(call.request, call.layers)])), *digests])
    )
    return tool_process(tool, call, inputs, env=env)


async def run_call(
    call: Call, digests: Iterable[Digest] = (), env: Mapping[str, str] | None = None
) -> FallibleProcessResult:
    """Run such a command. A failure is a result."""
    result = await run_process(await process_of(call, digests, env))
    pass_on_warnings(result, call.description)
    return result


async def check_result(result: FallibleProcessResult, description: str) -> None:
    """Raise LayerError, with the tool's message and the end of the build's log, unless a process succeeded."""
    if result.exit_code != 0:
        raise LayerError(f"{description} failed.\n{failure_text(result, await build_log(result))}")


async def run_tool(call: Call, digests: Iterable[Digest] = ()) -> FallibleProcessResult:
    """As `run_call`, but a failure raises LayerError."""
    result = await run_call(call, digests)
    await check_result(result, call.description)
    return result


async def run_layer_tool(call: Call) -> Layer:
    """Run a command that makes a layer. Raises LayerError."""
    return await layer_of(await run_tool(call), call.description)


async def run_layer_on_demand(request: OnDemandRequest) -> Layer:
    """Run a process that makes a layer, out of files that are fetched if it really runs. Raises FetchError, LayerError."""
    made = await run_on_demand(request, **implicitly())
    if made.result is None:
        raise FetchError("\n\n".join(made.errors))
    description = request.process.description
    await check_result(made.result, description)
    return await layer_of(made.result, description)
