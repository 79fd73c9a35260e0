"""`lint`: the opam files of this repository's packages, by `opam lint` in their base."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pants.core.goals.lint import LintResult, LintTargetsRequest
from pants.core.util_rules.partitions import PartitionerType
from pants.engine.fs import CreateDigest, FileContent, PathGlobs
from pants.engine.process import FallibleProcessResult
from pants.engine.target import FieldSet, InvalidTargetException, Target
from pants.util.logging import LogLevel

from opam_oci.fields.opam import OpamResolveField
from opam_oci.fields.projects import OpamProjectFileField, OpamSkipLintField
from opam_oci.host.checks import require_host
from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.pants_engine.calls import contents_of_globs, create_digest
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfsRequest, find_debian_rootfs
from opam_oci.resolves.locks import DebianLockRequest, read_fresh_debian_lock
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_call
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_lint import OpamLintSubsystem

if TYPE_CHECKING:
    from opam_sandbox.linting.requests import LintRequest

_FILE = "opam-file"


@dataclass(frozen=True)
class OpamLintFieldSet(FieldSet):
    """A package whose opam file is in this repository."""

    required_fields = (OpamProjectFileField, OpamResolveField)

    opam_file: OpamProjectFileField
    resolve: OpamResolveField

    @classmethod
    def opt_out(cls, tgt: Target) -> bool:
        return bool(tgt.get(OpamSkipLintField).value)


class OpamLintRequest(LintTargetsRequest):
    tool_subsystem = OpamLintSubsystem  # type: ignore[assignment]
    field_set_type = OpamLintFieldSet
    partitioner_type = PartitionerType.DEFAULT_ONE_PARTITION_PER_INPUT


async def foundation_of(resolve: str, opam: OpamSubsystem) -> Foundation:
    """The base of a resolve, with opam's root. Raises LayerError, LockfileError, FetchError."""
    await require_host(opam)
    rootfs = await find_debian_rootfs(
        DebianRootfsRequest(opam.base_of(resolve), "`[opam].resolves_to_base`"), **implicitly()
    )
    lock = await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    return await make_foundation(FoundationRequest(lock), **implicitly())


async def lint_result(
    field_set: OpamLintFieldSet, opam: OpamSubsystem, lint: OpamLintSubsystem
) -> FallibleProcessResult:
    """What `opam lint` says of one opam file. Raises LayerError, LockfileError, FetchError, InvalidTargetException."""
    path = field_set.opam_file.value
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise InvalidTargetException(f"{path}, the opam file of {field_set.address}, does not exist.")
    ground = await foundation_of(field_set.resolve.value_or_default(opam), opam)
    content = contents[0].content
    values: LintRequest = {
        "store": STORE,
        "layers": layer_paths(ground.layers),
        "files": [{"path": path, "file": _FILE, "sha256": hashlib.sha256(content).hexdigest()}],
        "arguments": list(lint.args),
    }
    file = await create_digest(CreateDigest([FileContent(_FILE, content)]))
    call = Call("lint", f"Lint {path}", values, ground.layers, (), ())
    return await run_call(call, [file])


@rule(desc="Lint opam files", level=LogLevel.DEBUG)
async def lint_opam_file(
    batch: OpamLintRequest.Batch[OpamLintFieldSet, Any], opam: OpamSubsystem, lint: OpamLintSubsystem
) -> LintResult:
    """One opam file. What opam has against it is a result."""
    [field_set] = batch.elements
    return LintResult.create(batch, await lint_result(field_set, opam, lint))


def rules() -> list[object]:
    return [*collect_rules(), *OpamLintRequest.rules()]
