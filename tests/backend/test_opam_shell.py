"""`opam-shell`: what the tool is asked for, and what is an error. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner, mock_console

from opam_oci.goals.opam_shell import OpamShell
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, project, source_toml
from tests.backend.projects import FILES

pytestmark = pytest.mark.usefixtures("fake_tool")


def run(runner: RuleRunner, *args: str) -> GoalRuleResult:
    return runner.run_goal_rule(OpamShell, global_args=OPTIONS, args=args, env_inherit={"PATH", "TERM"})


def shell(runner: RuleRunner, *args: str) -> GoalRuleResult:
    """With a console as Pants has it, which interactive processes need."""
    runner.set_options([*OPTIONS, "opam-shell", *args], env_inherit={"PATH"})
    with mock_console(runner.options_bootstrapper):
        return run(runner, *args)


def failure(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        shell(runner, *args)
    return str(raised.value.wrapped_exceptions[0])


def test_the_request(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """As of the package's build, with its layers and sources; the exit status is the command's."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"source")
    source = source_toml([archive.as_uri()], hashlib.sha256(b"source").hexdigest(), 6)
    rule_runner.write_files(project(Pkg("a", depends=["b"], extra=source), Pkg("b"), Pkg("c")))
    done = shell(rule_runner, "--network", "--keep=kept", "3rdparty/opam:default#a", "--", f"{tmp_path}/seen", "7")
    assert done.exit_code == 7, done.stderr
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["below"] == ["trixie", "opam-root", "b"]
    request = seen["request"]
    assert request["package"]["name"] == "a" and len(request["package"]["sources"]) == 1
    assert (request["network"], request["after_build"]) == (True, False)
    assert request["keep"] == f"{rule_runner.build_root}/kept"
    assert set(seen["env"]) - {"TERM", "PWD", "LC_CTYPE", "SHLVL", "_"} == {"PATH", "LANG"}
    after = shell(rule_runner, "--after-build", "3rdparty/opam:default#c", "--", f"{tmp_path}/seen", "0")
    assert after.exit_code == 0
    request = json.loads((tmp_path / "seen").read_text())["request"]
    assert (request["network"], request["after_build"], request["keep"]) == (False, True, "")


def test_a_dependency_that_does_not_build(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a", depends=["b"]), Pkg("b", depends=["c"]), Pkg("c", opam="fail")))
    text = failure(rule_runner, "3rdparty/opam:default#b")
    assert text.startswith(
        "There is no sandbox of b.1: what it depends on was not built.\n\nc.1 failed: error: c does not"
    )
    assert "because of c.1" in failure(rule_runner, "3rdparty/opam:default#a")


def test_a_source_that_cannot_be_had(rule_runner: RuleRunner) -> None:
    source = source_toml(["file:///nonexistent/a.tar"], "0" * 64, 3)
    rule_runner.write_files(project(Pkg("a", extra=source)))
    assert "file:///nonexistent/a.tar" in failure(rule_runner, "3rdparty/opam:default#a")


def test_what_has_no_sandbox(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), Pkg("b")))
    assert "3rdparty/debian:trixie is none" in failure(rule_runner, "3rdparty/debian:trixie")
    assert "names 2 targets" in failure(rule_runner, "3rdparty/opam:default#a", "3rdparty/opam:default#b")


def test_a_project(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """Its one package is meant; the sources are the project's files. Of several packages one has to be named."""
    rule_runner.write_files(FILES)
    done = shell(rule_runner, "src/app", "--", f"{tmp_path}/seen", "0")
    assert done.exit_code == 0, done.stderr
    request = json.loads((tmp_path / "seen").read_text())["request"]
    assert request["package"]["name"] == "app" and "app.opam" in [entry["path"] for entry in request["tree"]]
    assert "names 2 targets: src/lib#lib, src/lib#lib-unix" in failure(rule_runner, "src/lib")
