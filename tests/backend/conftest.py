"""Fixtures for the backend's tests: a project in a temporary build root, with Pants' own engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, Iterable, Iterator

import pytest

_ROOT = Path(__file__).resolve().parents[2]
# As pants.toml's `pythonpath` does.
sys.path[:0] = [str(_ROOT / "pants-plugins"), str(_ROOT / "src"), str(Path(__file__).parent)]

from pants.backend.project_info import dependencies, dependents, list_targets, peek  # noqa: E402
from pants.core import register as core  # noqa: E402
from pants.core.goals import generate_lockfiles, package  # noqa: E402
from pants.engine.fs import FileContent  # noqa: E402
from pants.engine.internals.parametrize import Parametrize  # noqa: E402
from pants.engine.rules import QueryRule  # noqa: E402
from pants.testutil.rule_runner import RuleRunner  # noqa: E402

from opam_oci import register, sandbox  # noqa: E402
from opam_oci.image import OciPackageImageFieldSet  # noqa: E402
from opam_oci.lockfile import OpamLock  # noqa: E402
from opam_oci.products import (  # noqa: E402
    BuildPlan,
    BuildPlanRequest,
    Fetched,
    FetchRequest,
    OpamLockRequest,
    PackageLayerRequest,
    PackageOutcome,
    ResolveInputs,
    ResolveInputsRequest,
    SandboxTool,
)

MakeRunner = Callable[..., RuleRunner]


def new_runner(*bootstrap_args: str) -> RuleRunner:
    return RuleRunner(
        rules=[
            *core.rules(),
            *dependencies.rules(),
            *dependents.rules(),
            *generate_lockfiles.rules(),
            *list_targets.rules(),
            *package.rules(),
            *peek.rules(),
            *register.rules(),
            QueryRule(BuildPlan, [BuildPlanRequest]),
            QueryRule(Fetched, [FetchRequest]),
            QueryRule(OpamLock, [OpamLockRequest]),
            QueryRule(PackageOutcome, [PackageLayerRequest]),
            QueryRule(ResolveInputs, [ResolveInputsRequest]),
            QueryRule(SandboxTool, []),
            QueryRule(package.BuiltPackage, [OciPackageImageFieldSet]),
        ],
        target_types=register.target_types(),
        objects={"parametrize": Parametrize},
        isolated_local_store=not any("--local-store-dir" in arg for arg in bootstrap_args),
        bootstrap_args=bootstrap_args,
    )


OPTIONS = (
    "--opam-resolves={'default': '3rdparty/opam/default.lock', 'other': '3rdparty/opam/other.lock'}",
    "--opam-resolves-to-base={'default': '//3rdparty/debian:trixie', 'other': '//3rdparty/debian:second'}",
    "--debian-resolves={'trixie': '3rdparty/debian/trixie.lock', 'second': '3rdparty/debian/second.lock'}",
    "--debian-mirrors=['http://127.0.0.1:9/debian']",
    "--no-opam-check-host",
)


@pytest.fixture
def rule_runner() -> Iterator[RuleRunner]:
    runner = new_runner()
    runner.set_options(OPTIONS)
    yield runner


@pytest.fixture
def fake_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts fake_tool.py in the sandbox tool's place; see there for what it can show and what not."""

    def python_files(package_name: str) -> Iterable[FileContent]:
        if package_name != "opam_sandbox":
            return []
        content = (Path(__file__).parent / "fake_tool.py").read_bytes()
        return [FileContent("opam_sandbox/__main__.py", content)]

    monkeypatch.setattr(sandbox, "python_files", python_files)
