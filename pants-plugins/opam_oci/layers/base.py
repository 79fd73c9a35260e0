"""Makes the layer of a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import CreateDigest
from pants.engine.process import FallibleProcessResult
from pants.util.logging import LogLevel

from opam_oci.layers.requests import deb_entries, deb_json, deb_requests
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer, layer_of
from opam_oci.sandbox.look import look_up
from opam_oci.sandbox.on_demand import OnDemandRequest
from opam_oci.sandbox.process import STORE, Call, request_file, tool_process
from opam_oci.sandbox.run_tool import run_layer_on_demand
from opam_oci.sandbox.tool import find_sandbox_tool

if TYPE_CHECKING:
    from opam_sandbox.building.requests import RootfsRequest


@dataclass(frozen=True)
class BaseLayerRequest(EngineAwareParameter):
    """The base layer of a `debian_rootfs` as locked."""

    lock: DebianLock

    def debug_hint(self) -> str:
        return self.lock.resolve


@dataclass(frozen=True)
class BaseStart:
    """The process that makes a base, and its result if some cache has it."""

    request: OnDemandRequest
    found: FallibleProcessResult | None

    @property
    def cached(self) -> bool:
        """Whether some cache has its result."""
        return self.found is not None


# Of a base's creation: the oldest time that is not "no time" to anybody.
_BASE_EPOCH = 1


def base_description(lock: DebianLock) -> str:
    """How the process that makes a base is called in Pants' UI."""
    return f"Make Debian base {lock.resolve} ({len(lock.debs)} packages)"


@rule
async def start_base(request: BaseLayerRequest) -> BaseStart:
    """Look for the base in the caches, for those who would fetch what they need while it is made."""
    lock = request.lock
    description = base_description(lock)
    debs = tuple(lock.debs.values())
    tool = await find_sandbox_tool(**implicitly())
    values: RootfsRequest = {
        "store": STORE,
        "name": lock.resolve,
        "suite": lock.suite,
        "architecture": lock.architecture,
        "epoch": _BASE_EPOCH,
        "packages": sorted(lock.packages),
        "debs": [deb_json(deb) for deb in debs],
    }
    inputs = await create_digest(CreateDigest([request_file(values), *deb_entries(debs)]))
    process = tool_process(tool, Call("rootfs", description, values, (), LAYER_OUTPUTS), inputs)
    files = deb_requests(f"the base {lock.resolve}", debs, lock.resolve)
    return BaseStart(OnDemandRequest(process, files), await look_up(process))


@rule(desc="Make Debian base", level=LogLevel.DEBUG)
async def make_base_layer(request: BaseLayerRequest) -> Layer:
    """The layer of a base, from a cache or made. Raises FetchError, LayerError."""
    description = base_description(request.lock)
    start = await start_base(request, **implicitly())
    if start.found is not None:
        return await layer_of(start.found, description)
    return await run_layer_on_demand(start.request)


def rules() -> list[object]:
    return [*collect_rules()]
