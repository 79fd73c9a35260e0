"""What it takes to run a package's tests: layers of what it and they need, and the process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.engine.fs import CreateDigest, FileEntry
from pants.engine.process import InteractiveProcess, Process, ProcessCacheScope

from opam_oci.downloads.fetch import FetchRequest
from opam_oci.host.programs import find_python, hidden
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest, plan_build
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.layers.opam_text import has_tests
from opam_oci.layers.outcomes import failures_among
from opam_oci.layers.package import (
    BuildProcessRequest,
    PackageLayerRequest,
    PackageOutcome,
    Tree,
    build_package_layer,
    files_of,
    input_entries,
    layers_below,
    request_of,
    tree_of,
)
from opam_oci.layers.requests import out_of_reach
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.dependency_order import reachable
from opam_oci.resolves.lockfile import LockedPackage, OpamLock, regenerate_command
from opam_oci.sandbox.failure import FAILURE
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.process import Call, request_file, shell_process, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.opam import OpamSubsystem

# What follows the name in a requirement.
_BOUND = re.compile(r"\s*[=!<>]")


@dataclass(frozen=True)
class PackageTestsRequest(EngineAwareParameter):
    """The tests of one package of a resolve."""

    resolve: str
    package: str

    def debug_hint(self) -> str:
        return f"{self.package} ({self.resolve})"


@dataclass(frozen=True)
class PackageTests(EngineAwareReturnType):
    """How to run a package's tests. none: it has none. problem: why they cannot be run, or "".

    values: the request of the tool's command `test` as JSON, but for whose output it is.
    """

    full_name: str
    none: bool = False
    problem: str = ""
    values: str = "{}"
    layers: tuple[Layer, ...] = ()
    inputs: tuple[FileEntry, ...] = ()
    files: tuple[FetchRequest, ...] = ()

    def cacheable(self) -> bool:
        return not self.problem


def untestable(lock: OpamLock, package: LockedPackage) -> str:
    """Why a lockfile does not say what a package's tests need; "" where it does."""
    resolve = lock.resolve
    roots = {_BOUND.split(requirement, maxsplit=1)[0] for requirement in lock.requirements}
    if "with_test" not in lock.options:
        return (
            f"What the tests of {package.full_name} need is not locked: add {resolve!r} to `[opam].resolves_with_test`, and run "
            f"`{regenerate_command(resolve)}`."
        )
    if not package.local and package.name not in roots:
        return (
            f"What the tests of {package.full_name} need is not locked, as it is no root of the resolve {resolve!r}: name it in "
            f"an `opam_requirement`, and run `{regenerate_command(resolve)}`."
        )
    circle = sorted(
        name
        for name in package.test_depends
        if package.name in reachable([name], lambda name: lock.packages[name].depends)
    )
    if circle:
        return (
            f"The tests of {package.full_name} need {', '.join(circle)}, which needs {package.name} itself: opam cannot run them "
            f'either. Leave them out with `skip_tests=True` or, for a package of a lockfile, `overrides={{"{package.name}": '
            '{"skip_tests": True}}`.'
        )
    return ""


def why_not_below(outcomes: tuple[PackageOutcome, ...]) -> str:
    """What failed of what the tests stand on; "" where all is built."""
    failed, culprits = failures_among(outcomes)
    if culprits:
        failed.append(f"What it depends on was not built, because of {', '.join(culprits)}.")
    return "\n\n".join(failed)


def test_values(
    plan: BuildPlan, request: PackageTestsRequest, layers: tuple[Layer, ...], opam: OpamSubsystem, tree: Tree
) -> str:
    """What the tool is asked for, as JSON."""
    process = BuildProcessRequest(request.resolve, request.package, layers)
    values: dict[str, Any] = dict(request_of(plan, process, opam, tree, with_test=True))
    # Whether the depexts are the same each time is the build's to find out.
    values.pop("twice", None)
    return json.dumps(values)


# pytest, which these names look like tests to.
test_values.__test__ = False  # type: ignore[attr-defined]


@rule
async def prepare_package_tests(request: PackageTestsRequest, opam: OpamSubsystem) -> PackageTests:
    """Build what a package and its tests depend on. What is wrong with that is a value, as other packages have tests, too."""
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    package = plan.lock.packages[request.package]
    if not has_tests(package.opam):
        return PackageTests(package.full_name, none=True)
    problems = [text for text in (untestable(plan.lock, package), *out_of_reach(package, request.resolve)) if text]
    if problems:
        return PackageTests(package.full_name, problem="\n\n".join(problems))
    needed = sorted({*package.depends, *package.test_depends})
    ground = await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
    outcomes = await concurrently(
        build_package_layer(PackageLayerRequest(request.resolve, name), **implicitly()) for name in needed
    )
    problem = why_not_below(outcomes)
    if problem:
        return PackageTests(package.full_name, problem=problem)
    layers = (*ground.layers, *layers_below(plan.lock, outcomes).values())
    debs = plan.lock.debs_of(package.name)
    tree = await tree_of(request.resolve, package)
    return PackageTests(
        package.full_name,
        values=test_values(plan, request, layers, opam, tree),
        layers=layers,
        inputs=tuple(input_entries(package, debs, tree)),
        files=files_of(package, debs, request.resolve),
    )


async def tests_process(
    tests: PackageTests, timeout: int | None, scope: ProcessCacheScope, attempt: int = 0
) -> Process:
    """The process that runs them. timeout: in seconds. attempt: how often it has failed before."""
    values = json.loads(tests.values)
    inputs = await create_digest(CreateDigest([request_file(values, tests.layers), *tests.inputs]))
    tool = await find_sandbox_tool(**implicitly())
    description = f"Test opam package {tests.full_name}"
    call = Call("test", description, values, tests.layers, ("build.log", FAILURE), (), scope, timeout)
    # The engine runs a process once, whatever becomes of it: a second attempt is another one.
    return tool_process(tool, call, inputs, env={"ATTEMPT": str(attempt)} if attempt else {})


async def tests_in_foreground(tests: PackageTests, env: dict[str, str]) -> InteractiveProcess:
    """The process that runs them with this terminal. Their archives and .debs must be there."""
    values = {**json.loads(tests.values), "live": True}
    inputs = await create_digest(CreateDigest([request_file(values, tests.layers), *tests.inputs]))
    tool = await find_sandbox_tool(**implicitly())
    return shell_process(tool, find_python(), "test", tests.layers, inputs, env=hidden(env))


def rules() -> list[object]:
    return [*collect_rules()]
