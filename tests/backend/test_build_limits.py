"""What a build may take: options, how the tool hears of them, and what becomes of a build that passes one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pants.core.goals.package import Package
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.process import Process
from pants.engine.streaming_workunit_handler import WorkunitsCallbackFactory
from pants.testutil.option_util import create_subsystem
from pants.testutil.rule_runner import GoalRuleResult, QueryRule, RuleRunner

from opam_oci.goals.opam_health import OpamHealth
from opam_oci.goals.opam_revdeps import OpamRevdeps
from opam_oci.layers.package import (
    BuildProcess,
    BuildProcessRequest,
    PackageLayerRequest,
    PackageOutcome,
)  # fmt: skip
from opam_oci.sandbox.asked import AskRequest, ask
from opam_oci.subsystems.build_limits import BadLimitError, BuildLimitOptions
from opam_oci.subsystems.opam import OpamSubsystem
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import Node, Pkg, image, node_id, project
from tests.backend.test_opam_health import HEALTH_OPTIONS, root
from tests.backend.test_opam_health import project as health_project
from tests.backend.test_processes import LAYER

LIMITS = (
    "--opam-build-timeout=1h30m", "--opam-build-memory-limit=4GiB", "--opam-build-processes-limit=500",
    "--opam-build-disk-limit=10GiB",
)  # fmt: skip


def limits(**options: Any) -> Any:
    defaults = {"build_timeout": "", "build_memory_limit": "", "build_processes_limit": 0, "build_disk_limit": ""}
    return create_subsystem(OpamSubsystem, **{**defaults, **options}).build_limits()


@pytest.mark.parametrize(
    "text, seconds",
    [("30m", 1800), ("1h30m", 5400), ("90s", 90), ("90", 90), ("1H 5m 3s", 3903), ("2h", 7200)],
)
def test_times(text: str, seconds: int) -> None:
    assert limits(build_timeout=text) == {"time": seconds}


@pytest.mark.parametrize("text", ["half an hour", "-5", "1.5h", "30x", "s", "5m1h", "9" * 20])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadLimitError, match=r"`\[opam\].build_timeout` is .*; it takes `30m`"):
        assert limits(build_timeout=text) is None


@pytest.mark.parametrize(
    "text, size",
    [
        ("4GiB", 4 << 30),
        ("4 gib", 4 << 30),
        ("1.5G", 3 << 29),
        ("512MB", 512 << 20),
        ("1TiB", 1 << 40),
        ("7", 7),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert limits(build_memory_limit=text) == {"memory": size} and limits(build_disk_limit=text) == {"disk": size}


@pytest.mark.parametrize("text", ["much", "-1", "4XiB", "GiB", "1e9", "4 GiB or so", "50%", "9" * 19])
def test_what_is_no_size(text: str) -> None:
    for option in ("build_memory_limit", "build_disk_limit"):
        with pytest.raises(
            BadLimitError, match=rf"`\[opam\].{option}` is .*; it takes a number and a unit, such as `4GiB`"
        ):
            limits(**{option: text})


def test_what_is_no_limit() -> None:
    assert limits() == {} and limits(build_timeout="0") == {}
    with pytest.raises(BadLimitError, match=r"`\[opam\].build_processes_limit` is -1"):
        limits(build_processes_limit=-1)


BAD = {
    "build_timeout": "soon",
    "build_memory_limit": "much",
    "build_processes_limit": "-1",
    "build_disk_limit": "10 GiB of it",
}


def test_each_limit_is_tried() -> None:
    assert set(BAD) == {
        name for name in vars(BuildLimitOptions) if name.startswith("build_") and name != "build_limits"
    }


@pytest.mark.parametrize("option", sorted(BAD))
@pytest.mark.parametrize("goal", ["package", "opam-health", "opam-revdeps"])
def test_a_bad_limit_is_an_error_at_once(
    rule_runner: RuleRunner, fake_tool: None, tmp_path: Path, goal: str, option: str
) -> None:
    """Of a goal that would build, before it asks for anything."""
    notes = tmp_path / "notes"
    files = project(Pkg("a", opam=f"note_in={notes}"), image=image("a"))
    checked = health_project([Node(node_id("a.1"), opam=f"note_in={notes}")], [root("a.1")])
    files["3rdparty/opam/BUILD"] += checked["3rdparty/opam/BUILD"]
    rule_runner.write_files({**checked, **files})
    kind, arguments = {
        "package": (Package, ["images:image"]),
        "opam-health": (OpamHealth, ["3rdparty/opam:health"]),
        # What depends on it would be solved, which takes longer than a build.
        "opam-revdeps": (OpamRevdeps, ["--of=a", "--build", "3rdparty/opam:health"]),
    }[goal]

    def run(*options: str) -> GoalRuleResult:
        return rule_runner.run_goal_rule(
            kind, global_args=[*HEALTH_OPTIONS, *options], args=arguments, env_inherit={"PATH"}
        )

    said = rf"`\[opam\].{option}` is .*; it takes "
    with pytest.raises(ExecutionError, match=said) as raised:
        run(f"--opam-{option.replace('_', '-')}={BAD[option]}")
    assert [type(one) for one in raised.value.wrapped_exceptions] == [BadLimitError]
    assert not notes.exists()
    if goal != "opam-revdeps":
        assert run().exit_code == 0 and notes.read_text() == "a.1\n"


@pytest.mark.parametrize("option, value", [("build_processes_limit", 1 << 62), ("build_disk_limit", f"{1 << 32}GiB")])
def test_what_no_machine_has(option: str, value: object) -> None:
    with pytest.raises(BadLimitError, match=rf"`\[opam\].{option}` is {1 << 62}; it takes a number from 0 to"):
        limits(**{option: value})


def asking(output: Any, request: Any, *bootstrap_args: str) -> RuleRunner:
    """A scheduler that is asked for one thing more."""
    known = new_runner(*bootstrap_args)
    return RuleRunner(
        rules=[*known.rules, QueryRule(output, [request])],
        target_types=known.target_types,
        isolated_local_store=True,
        bootstrap_args=bootstrap_args,
    )


def test_limits_are_in_no_process(fake_tool: None) -> None:
    made = []
    for options in ((), LIMITS):
        runner = asking(BuildProcess, BuildProcessRequest)
        runner.set_options([*OPTIONS, *options])
        runner.write_files(project(Pkg("a")))
        built = runner.request(BuildProcess, [BuildProcessRequest("default", "a", (LAYER, LAYER))])
        made.append(built.process)
    assert isinstance(made[0], Process) and made[0] == made[1]


def test_a_run_tells_the_tool(tmp_path: Path) -> None:
    """At its start, in a file of this process's; a run without limits takes it back."""
    runner = asking(WorkunitsCallbackFactory, AskRequest, f"--named-caches-dir={tmp_path}")
    file = tmp_path / "opam_oci_layers/asked" / str(os.getpid())
    for options, expected in (
        (LIMITS, {"time": 5400, "memory": 4 << 30, "processes": 500, "disk": 10 << 30}),
        ((), None),
        (("--opam-build-timeout=soon",), None),
    ):
        runner.set_options([*OPTIONS, f"--named-caches-dir={tmp_path}", *options])
        factory = runner.request(WorkunitsCallbackFactory, [AskRequest()])
        assert factory.callback_factory() is None
        found = json.loads(file.read_text()) if file.exists() else None
        if found is not None:
            started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
            assert found.pop("started") == started
        assert found == expected
    assert oct(file.parent.stat().st_mode & 0o777) == "0o700"


def test_what_ended_processes_asked_goes(tmp_path: Path) -> None:
    ask(tmp_path / "none", {})
    assert not (tmp_path / "none").exists()
    ask(tmp_path, {"time": 3})
    mine = tmp_path / "asked" / str(os.getpid())
    for name in ("4194400", ".4194400", "default"):
        (tmp_path / "asked" / name).write_text("{}")
    ask(tmp_path, {"time": 4})
    assert sorted(os.listdir(tmp_path / "asked")) == sorted([str(os.getpid()), "default"])
    assert json.loads(mine.read_text())["time"] == 4
    ask(tmp_path, {})
    assert not mine.exists()


def test_an_outcome_says_which_limit_struck(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(Pkg("a", opam="limit=time"), Pkg("b", opam="fail"), Pkg("c", depends=["a"])))
    outcome = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "a")])
    failure = outcome.failure
    assert failure is not None and failure.timed_out
    assert (failure.kind, failure.limit, failure.seconds, failure.command) == ("limit", "time", 1.5, "make all")
    assert failure.message == "error: opam package a was ended" and "line 100 of a" in failure.log
    assert outcome.failed is not None and "line 100 of a" in outcome.failed
    other = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "b")]).failure
    assert other is not None and (other.kind, other.limit, other.timed_out) == ("other", "", False)
    blocked = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "c")])
    assert blocked.failure is None and blocked.blocked_by == ("a.1",)
