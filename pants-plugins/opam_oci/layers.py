"""Makes layers: the base, opam's root, and one per opam package, each in one cached process."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any, Iterable

from pants.engine.fs import (
    CreateDigest,
    DigestSubset,
    FileDigest,
    FileEntry,
    PathGlobs,
)
from pants.engine.process import FallibleProcessResult
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from opam_oci.engine import (
    base_layer,
    base_start,
    build_plan,
    collect_rules,
    concurrently,
    create_digest,
    debian_lock,
    debian_rootfs,
    digest_contents,
    digest_entries,
    digest_subset,
    fetch,
    foundation,
    host_check,
    on_demand,
    opam_lock,
    package_layer,
    repository_fingerprints,
    resolve_inputs,
    rule,
    run_process,
    sandbox_tool,
    show_build_log,
    uncacheable_rule,
)
from opam_oci.fetch import FetchError, deb_requests
from opam_oci.host import MissingHostToolsError
from opam_oci.lockfile import Deb, DebianLock, LockedPackage, OpamLock, Source
from opam_oci.locks import address_text, check_opam_lock_fresh, regenerate_command
from opam_oci.products import (
    BaseLayerRequest,
    BaseStart,
    BuildLogRequest,
    BuildLogShown,
    BuildPlan,
    BuildPlanRequest,
    DebianLockRequest,
    DebianRootfs,
    DebianRootfsRequest,
    Fetched,
    FetchRequest,
    Foundation,
    FoundationRequest,
    HostCheck,
    HostCheckRequest,
    Layer,
    OnDemandProcess,
    OnDemandRequest,
    OpamLockRequest,
    PackageLayerRequest,
    PackageOutcome,
    RepositoryFingerprints,
    ResolveInputs,
    ResolveInputsRequest,
    SandboxTool,
)
from opam_oci.sandbox import Call, layer_paths, request_file, tool_process
from opam_oci.subsystems import OpamSubsystem

logger = logging.getLogger(__name__)

# Of a base's creation: the oldest time that is not "no time" to anybody.
_BASE_EPOCH = 1

_LAYER_OUTPUTS = ("layer.json", "build.log", "timings.json")

# Lines of a failed build's log that go into the error.
_LOG_TAIL = 60


class LayerError(Exception):
    """A base, or another layer that everything needs, could not be made."""


# Results of the tool.


async def layer_of(result: FallibleProcessResult, description: str) -> Layer:
    """The layer that a successful process made, checked: its blob is what layer.json says.

    Only layer.json and the blob are in its digest. The log and the timings differ from run to run and would change
    the cache keys of all that is built above.
    """
    digest = await digest_subset(DigestSubset(result.output_digest, PathGlobs(["layer.json", "blobs/**"])))
    entries = await digest_entries(digest)
    contents = await digest_contents(await digest_subset(DigestSubset(result.output_digest, PathGlobs(["layer.json"]))))
    if not contents:
        raise LayerError(f"{description}: the sandbox tool wrote no layer.json.")
    values = json.loads(contents[0].content)
    blobs = {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith("blobs/")}
    check_blobs(blobs.values(), description)
    if list(blobs) != [blob_path(values["digest"])]:
        raise LayerError(
            f"{description}: layer.json names {values['digest']}, but the blobs are {', '.join(blobs) or 'none'}."
        )
    return Layer(
        kind=values["kind"],
        name=values["name"],
        version=values["version"],
        diff_id=values["diff_id"],
        blob=values["digest"],
        size=values["size"],
        digest=digest,
    )


def blob_path(digest: str) -> str:
    """Where an OCI image layout keeps the blob `sha256:...`."""
    return f"blobs/{digest.replace(':', '/')}"


def check_blobs(blobs: Iterable[FileEntry], description: str) -> None:
    """Raise LayerError for a blob whose name is not its content's sha256, which is what the engine knows files by."""
    for blob in blobs:
        if blob.path != f"blobs/sha256/{blob.file_digest.fingerprint}":
            raise LayerError(
                f"{description}: the blob {blob.path} is corrupt, its sha256 is {blob.file_digest.fingerprint}. "
                "Something wrote into Pants' store, or the machine's memory or disk fails."
            )


async def build_log(result: FallibleProcessResult) -> str:
    """What opam and dpkg printed, or "" where it did not come that far."""
    contents = await digest_contents(await digest_subset(DigestSubset(result.output_digest, PathGlobs(["build.log"]))))
    log: bytes = contents[0].content if contents else b""
    return log.decode(errors="replace")


def failure_text(result: FallibleProcessResult, log: str, *, whole_log: bool) -> str:
    """The tool's message and the end of the build's log (all of it if `whole_log`)."""
    parts = [result.stderr.decode(errors="replace").strip() or f"exit status {result.exit_code}, no message"]
    lines = log.splitlines()
    if whole_log or len(lines) <= _LOG_TAIL:
        shown, title = lines, "Its build log:"
    else:
        shown = lines[-_LOG_TAIL:]
        title = f"The last {_LOG_TAIL} of {len(lines)} lines of its build log (all: --opam-show-build-logs):"
    if shown:
        parts.append("\n".join([title, *(f"  | {line}" for line in shown)]))
    return "\n".join(parts)


# Not cached: with the option set, logs are shown in every run, also those of layers that come from a cache.
@uncacheable_rule
async def print_build_log(request: BuildLogRequest) -> BuildLogShown:
    logger.info(f"Build log of {request.package}:\n{request.text.rstrip()}")
    return BuildLogShown()


# What all packages stand on.


@rule
async def plan_build(request: BuildPlanRequest, opam: OpamSubsystem) -> BuildPlan:
    """Everything that can be wrong before work starts is found here."""
    lock: OpamLock = await opam_lock(OpamLockRequest(request.resolve))
    inputs: ResolveInputs = await resolve_inputs(ResolveInputsRequest(request.resolve))
    fingerprints: RepositoryFingerprints | None = None
    if lock.repositories is not None:
        fingerprints = await repository_fingerprints()
    check_opam_lock_fresh(lock, inputs, fingerprints)
    rootfs: DebianRootfs = await debian_rootfs(
        DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`")
    )
    locked: DebianLock = await debian_lock(DebianLockRequest(rootfs))
    if opam.check_host:
        host: HostCheck = await host_check(HostCheckRequest(base=True, lock=False))
        if host.problems:
            raise MissingHostToolsError(host.problems)
    return BuildPlan(lock, rootfs, locked)


def base_description(lock: DebianLock) -> str:
    return f"Make Debian base {lock.resolve} ({len(lock.debs)} packages)"


@rule
async def start_base(request: BaseLayerRequest) -> BaseStart:
    """Look for the base in the caches, for those who would fetch what they need while it is made."""
    lock = request.lock
    description = base_description(lock)
    debs = tuple(lock.debs.values())
    tool: SandboxTool = await sandbox_tool()
    values = {
        "store": "store",
        "name": lock.resolve,
        "suite": lock.suite,
        "architecture": lock.architecture,
        "epoch": _BASE_EPOCH,
        "packages": sorted(lock.packages),
        "debs": [deb_json(deb) for deb in debs],
    }
    inputs = await create_digest(CreateDigest([request_file(values), *deb_entries(debs)]))
    process = tool_process(tool, Call("rootfs", description, values, (), _LAYER_OUTPUTS), inputs)
    files = deb_requests(f"the base {lock.resolve}", debs, lock.resolve)
    tried: OnDemandProcess = await on_demand(OnDemandRequest(process, files, only_try=True))
    return BaseStart(OnDemandRequest(process, files), cached=tried.result is not None)


@rule(desc="Make Debian base", level=LogLevel.DEBUG)
async def make_base_layer(request: BaseLayerRequest) -> Layer:
    description = base_description(request.lock)
    start: BaseStart = await base_start(request)
    made: OnDemandProcess = await on_demand(start.request)
    if made.result is None:
        raise FetchError("\n\n".join(made.errors))
    if made.result.exit_code != 0:
        log = await build_log(made.result)
        raise LayerError(f"{description} failed.\n{failure_text(made.result, log, whole_log=False)}")
    return await layer_of(made.result, description)


@rule(desc="Prepare opam in the base", level=LogLevel.DEBUG)
async def make_foundation(request: FoundationRequest) -> Foundation:
    base: Layer = await base_layer(BaseLayerRequest(request.debian_lock))
    tool: SandboxTool = await sandbox_tool()
    description = f"Prepare opam in the base {base.name}"
    values = {"store": "store", "layers": layer_paths((base,))}
    result = await run_process(
        tool_process(
            tool,
            Call("opam-root", description, values, (base,), _LAYER_OUTPUTS),
            await create_digest(CreateDigest([request_file(values)])),
        )
    )
    if result.exit_code != 0:
        log = await build_log(result)
        raise LayerError(f"{description} failed.\n{failure_text(result, log, whole_log=False)}")
    return Foundation(base, await layer_of(result, description))


# Packages.


def package_json(package: LockedPackage) -> dict[str, Any]:
    """A package as requests have it, but for what it is built from."""
    return {
        "name": package.name,
        "version": package.version,
        "opam": package.opam,
        "files": [{"path": file.path, "content": base64.b64encode(file.content).decode()} for file in package.files],
    }


def source_requests(package: LockedPackage, resolve: str) -> tuple[FetchRequest, ...]:
    """How to fetch a package's archives and extra sources."""
    return tuple(
        FetchRequest(
            owner=package.full_name,
            name=source.name or source.urls[0].rpartition("/")[2],
            urls=source.urls,
            sha256=source.sha256,
            size=source.size,
            resolve=resolve,
        )
        for source in package.sources
    )


def source_json(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "url": source.urls[0],
        "sha256": source.sha256,
        "size": source.size,
        "file": f"sources/{source.sha256}",
    }


def deb_json(deb: Deb) -> dict[str, Any]:
    return {
        "name": deb.name,
        "version": deb.version,
        "architecture": deb.architecture,
        "sha256": deb.sha256,
        "size": deb.size,
        "file": f"debs/{deb.basename}",
    }


def deb_entries(debs: Iterable[Deb]) -> list[FileEntry]:
    """The .debs as inputs of a process, named by what the lockfile says of them."""
    return [FileEntry(f"debs/{deb.basename}", FileDigest(deb.sha256, deb.size)) for deb in debs]


def out_of_reach(package: LockedPackage, resolve: str) -> list[str]:
    """One message for each thing that a lockfile made with `[opam].out_of_reach` lacks of a package."""
    messages = []
    for source in package.out_of_reach:
        what = f"the source {source.name}" if source.name else "the archive"
        messages.append(
            f"{package.full_name}: the lockfile has no sha256 and size of {what} ({', '.join(source.urls)}), as it was out "
            f"of reach when the lockfile was generated. Run `{regenerate_command(resolve)}` where it can be had, or with a "
            "mirror that has it in `[opam].archive_mirrors`."
        )
    if package.depexts_out_of_reach:
        messages.append(
            f"{package.full_name}: its depexts could not be locked ({package.depexts_out_of_reach}). Run "
            f"`{regenerate_command(resolve)}` with a base whose Debian release has them."
        )
    return messages


def build_request(package: LockedPackage, debs: Iterable[Deb], layers: Iterable[Layer]) -> dict[str, Any]:
    """The request of the `build` command."""
    return {
        "store": "store",
        "layers": layer_paths(layers),
        "package": {
            **package_json(package),
            "sources": [source_json(source) for source in package.sources],
            "debs": [deb_json(deb) for deb in debs],
        },
        "with_test": False,
    }


def layers_below(lock: OpamLock, outcomes: Iterable[PackageOutcome]) -> dict[str, Layer]:
    """The layers of a package's dependencies by name, dependencies first."""
    found: dict[str, Layer] = {}
    for outcome in outcomes:
        found.update(outcome.layers)
    return {name: found[name] for name in lock.in_build_order(found)}


@rule(desc="Build opam package", level=LogLevel.DEBUG)
async def build_package_layer(request: PackageLayerRequest, opam: OpamSubsystem) -> PackageOutcome:
    """Asks for the layers of its own dependencies, so that each package builds as soon as those are there.

    A failure is a value: other packages go on, and those above know whose fault it is.
    """
    plan: BuildPlan = await build_plan(BuildPlanRequest(request.resolve))
    package = plan.lock.packages[request.package]
    nothing: FrozenDict[str, Layer] = FrozenDict()

    missing = out_of_reach(package, request.resolve)
    if missing:
        return PackageOutcome(package.full_name, nothing, failed="\n\n".join(missing))
    debs = tuple(plan.lock.debs[name] for name in package.debs)
    files = (*source_requests(package, request.resolve), *deb_requests(package.full_name, debs, request.resolve))
    start: BaseStart = await base_start(BaseLayerRequest(plan.debian_lock))
    if not start.cached:
        # Nothing of this was ever built: all downloads run while the base is made, and fail early.
        fetched: tuple[Fetched, ...] = await concurrently(fetch(file) for file in files)
        errors = [f.error for f in fetched if f.error is not None]
        if errors:
            return PackageOutcome(package.full_name, nothing, failed="\n\n".join(errors))

    ground: Foundation = await foundation(FoundationRequest(plan.debian_lock))
    outcomes: tuple[PackageOutcome, ...] = await concurrently(
        package_layer(PackageLayerRequest(request.resolve, name)) for name in package.depends
    )
    culprits = {o.package for o in outcomes if o.failed is not None}.union(*(o.blocked_by for o in outcomes))
    if culprits:
        return PackageOutcome(package.full_name, nothing, blocked_by=tuple(sorted(culprits)))

    below = layers_below(plan.lock, outcomes)
    layers = (*ground.layers, *below.values())
    values = build_request(package, debs, layers)
    # By checksum, as two sources of a package may be one file (the engine takes no path twice).
    sources = {source.sha256: source.size for source in package.sources}
    inputs = await create_digest(
        CreateDigest(
            [
                request_file(values),
                *(FileEntry(f"sources/{sha256}", FileDigest(sha256, size)) for sha256, size in sorted(sources.items())),
                *deb_entries(debs),
            ]
        )
    )
    tool: SandboxTool = await sandbox_tool()
    description = f"Build opam package {package.full_name}"
    built: OnDemandProcess = await on_demand(
        OnDemandRequest(tool_process(tool, Call("build", description, values, layers, _LAYER_OUTPUTS), inputs), files)
    )
    if built.result is None:
        return PackageOutcome(package.full_name, nothing, failed="\n\n".join(built.errors))
    result = built.result
    failed = result.exit_code != 0
    if failed or opam.show_build_logs:
        log = await build_log(result)
        if opam.show_build_logs:
            await show_build_log(BuildLogRequest(package.full_name, log))
        if failed:
            return PackageOutcome(
                package.full_name,
                nothing,
                # With the option set the whole log is on the screen already.
                failed=failure_text(result, log, whole_log=False),
            )
    layer = await layer_of(result, description)
    return PackageOutcome(package.full_name, FrozenDict({**below, package.name: layer}))


def rules() -> list[object]:
    return [*collect_rules()]
