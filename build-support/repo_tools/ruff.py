"""ruff as build-support/check runs it: `ruff check` for lint and fix, `ruff format` for fmt (and thereby lint).

Pants 2.17's own backend calls ruff without a subcommand, which today's ruff refuses, and does not format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pants.backend.python.target_types import ConsoleScript, PythonSourceField
from pants.backend.python.util_rules.pex import Pex, PexRequest, VenvPex, VenvPexProcess
from pants.backend.python.util_rules.pex_from_targets import RequirementsPexRequest
from pants.core.goals.fix import FixResult, FixTargetsRequest
from pants.core.goals.fmt import FmtResult, FmtTargetsRequest
from pants.core.goals.lint import LintResult, LintTargetsRequest
from pants.core.util_rules.config_files import ConfigFiles, ConfigFilesRequest
from pants.core.util_rules.partitions import PartitionerType
from pants.core.util_rules.source_files import SourceFiles, SourceFilesRequest
from pants.engine.addresses import Addresses, UnparsedAddressInputs
from pants.engine.fs import Digest, MergeDigests, Snapshot
from pants.engine.process import FallibleProcessResult, Process, ProcessResult
from pants.engine.rules import Get, collect_rules, rule
from pants.engine.target import FieldSet
from pants.option.option_types import SkipOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.meta import classproperty
from pants.util.strutil import pluralize


@dataclass(frozen=True)
class RuffFieldSet(FieldSet):
    required_fields = (PythonSourceField,)

    source: PythonSourceField


class Ruff(Subsystem):
    options_scope = "ruff"
    name = "ruff"
    help = "Checks the style of Python code, and formats it; configured by ruff.toml."

    requirement = StrOption(
        default="3rdparty/python#ruff",
        advanced=True,
        help="The address of the `python_requirement` that ruff is installed from.",
    )
    skip = SkipOption("fmt", "fix", "lint")


class RuffLintRequest(LintTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff  # type: ignore[assignment]
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION

    @classproperty
    def tool_name(cls) -> str:
        return "ruff check"


class RuffFixRequest(FixTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff  # type: ignore[assignment]
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION

    @classproperty
    def tool_name(cls) -> str:
        return "ruff check --fix"


class RuffFormatRequest(FmtTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff  # type: ignore[assignment]
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION

    @classproperty
    def tool_name(cls) -> str:
        return "ruff format"


@dataclass(frozen=True)
class RuffRun:
    """`ruff ARGV FILES` on the files of a snapshot."""

    argv: tuple[str, ...]
    snapshot: Snapshot


@rule
async def ruff_process(run: RuffRun, ruff: Ruff) -> Process:
    addresses = await Get(
        Addresses,
        UnparsedAddressInputs(
            [ruff.requirement], owning_address=None, description_of_origin="the option [ruff].requirement"
        ),
    )
    requirements = await Get(Pex, RequirementsPexRequest(addresses))
    request = PexRequest(
        output_filename="ruff.pex", internal_only=True, pex_path=[requirements], main=ConsoleScript("ruff")
    )
    tool = await Get(VenvPex, PexRequest, request)
    config = await Get(ConfigFiles, ConfigFilesRequest(discovery=True, check_existence=["ruff.toml"]))
    return await Get(
        Process,
        VenvPexProcess(
            tool,
            argv=[*run.argv, "--no-cache", *run.snapshot.files],
            input_digest=await Get(Digest, MergeDigests([run.snapshot.digest, config.snapshot.digest])),
            output_files=run.snapshot.files,
            description=f"Run ruff {' '.join(run.argv)} on {pluralize(len(run.snapshot.files), 'file')}",
        ),
    )


@rule
async def lint(request: RuffLintRequest.Batch[RuffFieldSet, Any]) -> LintResult:
    sources = await Get(SourceFiles, SourceFilesRequest(element.source for element in request.elements))
    result = await Get(FallibleProcessResult, RuffRun(("check",), sources.snapshot))
    return LintResult.create(request, result, strip_chroot_path=True)


@rule
async def fix(request: RuffFixRequest.Batch) -> FixResult:
    # What cannot be mended is lint's to say; here only the files count.
    result = await Get(FallibleProcessResult, RuffRun(("check", "--fix", "--exit-zero"), request.snapshot))
    return await FixResult.create(request, result, strip_chroot_path=True)


@rule
async def fmt(request: RuffFormatRequest.Batch) -> FmtResult:
    result = await Get(ProcessResult, RuffRun(("format",), request.snapshot))
    return await FmtResult.create(request, result, strip_chroot_path=True)


def rules() -> list[object]:
    return [
        *collect_rules(),
        *RuffLintRequest.rules(),
        *RuffFixRequest.rules(),
        *RuffFormatRequest.rules(),
    ]
