"""`opam-log`: logs out of the caches. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.goals.opam_log import OpamLog
from opam_oci.layers.failed_logs import last_failure
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import Pkg, image, project

# Of this test.
CACHES = ""
pytestmark = pytest.mark.usefixtures("fake_tool")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleRunner]:
    caches = f"--named-caches-dir={tmp_path / 'named'}"
    made = new_runner(caches, f"--local-store-dir={tmp_path / 'store'}")
    monkeypatch.setattr("tests.backend.test_opam_log.CACHES", caches)
    made.write_files(
        project(
            Pkg("a", depends=["b"], opam=f"note_in={tmp_path / 'notes'}"),
            Pkg("b", opam=f"note_in={tmp_path / 'notes'}"),
            Pkg("bad", opam="fail"),
            image=image("a"),
        )
    )
    yield made


def run(runner: RuleRunner, *args: str) -> GoalRuleResult:
    """In a session of its own, as each command has one."""
    return runner.run_goal_rule(OpamLog, global_args=[*OPTIONS, CACHES], args=list(args))


def built(tmp_path: Path) -> "list[str]":
    notes = tmp_path / "notes"
    return notes.read_text().split() if notes.exists() else []


def test_logs_come_from_the_cache(runner: RuleRunner, tmp_path: Path) -> None:
    none = run(runner, "3rdparty/opam:default#a")
    assert none.exit_code == 1 and none.stdout == "" and built(tmp_path) == []
    assert "a.1: there is no build log: no cache has it: `--opam-log-build` builds it." in none.stderr
    made = run(runner, "--build", "3rdparty/opam:default#a")
    assert made.exit_code == 0 and built(tmp_path) == ["b.1", "a.1"]
    assert made.stdout.startswith("line 1 of a\n") and "line 100 of a\nbuilt at" in made.stdout
    again = run(runner, "3rdparty/opam:default#a")
    assert (again.exit_code, again.stdout) == (0, made.stdout)
    both = run(runner, "images:image")
    assert both.exit_code == 0 and both.stdout.endswith(f"\n==> a.1\n{made.stdout}")
    assert both.stdout.startswith("==> b.1\nline 1 of b\n") and built(tmp_path) == ["b.1", "a.1"]


def test_a_build_after_it_builds(runner: RuleRunner) -> None:
    """What was found not to be there is made by whoever asks for it."""
    assert run(runner, "3rdparty/opam:default#a").exit_code == 1
    runner.set_options([*OPTIONS])
    assert runner.request(PackageOutcome, [PackageLayerRequest("default", "a")]).ok


def test_the_last_failure(runner: RuleRunner, tmp_path: Path) -> None:
    """The tool keeps them in the named cache."""
    failed = run(runner, "--build", "3rdparty/opam:default#bad")
    assert failed.exit_code == 1 and "bad.1 failed" in failed.stderr and "it was not built, see above" in failed.stderr
    assert built(tmp_path) == []
    for hour in ("10", "09"):
        record = tmp_path / f"named/opam_oci_layers/failed/bad.1/20260102T{hour}0000Z-00000000"
        record.mkdir(parents=True)
        (record / "build.log").write_text(f"log of {hour}\n")
        (record / "failure.json").write_text(json.dumps({"message": "it broke"}))
    shown = run(runner, "3rdparty/opam:default#bad")
    assert shown.stdout == "==> bad.1, a build that failed on 2026-01-02 10:00 UTC: it broke\nlog of 10\n"
    assert shown.exit_code == 0


def test_other_targets_are_an_error(runner: RuleRunner) -> None:
    with pytest.raises(Exception, match="`opam-log` is for `opam_package` targets"):
        run(runner, "3rdparty/debian:trixie")


def test_damaged_records(tmp_path: Path) -> None:
    assert last_failure(tmp_path, "a.1") is None and last_failure(tmp_path, "../a") is None
    record = tmp_path / "failed/a.1/20260102T100000Z-00000000"
    record.mkdir(parents=True)
    found = last_failure(tmp_path, "a.1")
    assert found is not None and (found.message, found.log) == ("it is not known why", "")
