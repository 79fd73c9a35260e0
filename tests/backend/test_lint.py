"""`lint` of opam files: what the tool is asked for, and what becomes of its answer. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import pytest
from pants.core.goals.lint import Lint
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, project

pytestmark = pytest.mark.usefixtures("fake_tool")

HELLO = 'opam-version: "2.0"\n'


def lint(runner: RuleRunner, *options: str, opam: str = HELLO, fields: str = "") -> GoalRuleResult:
    local = Pkg("hello", version="dev", opam=opam, extra='local = "src/hello.opam"\n')
    runner.write_files(
        {
            **project(local),
            "src/BUILD": f'opam_project(name="project"{fields})\n',
            "src/hello.opam": opam,
        }
    )
    return runner.run_goal_rule(Lint, global_args=OPTIONS, args=[*options, "src:project#hello"], env_inherit={"PATH"})


def test_a_file_that_passes(rule_runner: RuleRunner) -> None:
    assert lint(rule_runner).exit_code == 0


def test_a_file_that_does_not(rule_runner: RuleRunner) -> None:
    done = lint(rule_runner, opam=HELLO + "# wrong\n")
    assert done.exit_code == 1 and "opam-lint failed" in done.stderr


def test_skipped(rule_runner: RuleRunner) -> None:
    assert lint(rule_runner, "--opam-lint-skip", opam=HELLO + "# wrong\n").exit_code == 0
    assert lint(rule_runner, opam=HELLO + "# wrong\n", fields=", skip_opam_lint=True").exit_code == 0
