"""`opam-exec`: what the tool is asked for, and what is an error. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner, mock_console

from opam_oci.goals.opam_exec import OpamExec
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, opam_lock, project
from tests.backend.projects import FILES

pytestmark = pytest.mark.usefixtures("fake_tool")


def run(runner: RuleRunner, *args: str) -> GoalRuleResult:
    """With a console as Pants has it, which interactive processes need."""
    runner.set_options([*OPTIONS, "opam-exec", *args], env_inherit={"PATH"})
    with mock_console(runner.options_bootstrapper):
        return runner.run_goal_rule(OpamExec, global_args=OPTIONS, args=args, env_inherit={"PATH", "TERM"})


def failure(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        run(runner, *args)
    return str(raised.value.wrapped_exceptions[0])


def seen(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "seen").read_text())


def test_the_request(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """The package with all that it depends on, in the order of an image; the exit status is the command's."""
    rule_runner.write_files(project(Pkg("a", depends=["b"], post=["d"]), Pkg("b"), Pkg("c"), Pkg("d")))
    done = run(rule_runner, "3rdparty/opam:default#a", "--", "echo", "--x", f"{tmp_path}/seen", "7")
    assert done.exit_code == 7, done.stderr
    told = seen(tmp_path)
    assert told["below"] == ["trixie", "opam-root", "b", "a", "d", "state"]
    request = told["request"]
    assert told["command"] == ["echo", "--x", f"{tmp_path}/seen", "7"]
    assert (request["mounts"], request["cwd"], request["network"], request["env"]) == ([], "/home/opam", False, [])
    assert set(told["env"]) - {"TERM", "PWD", "LC_CTYPE", "SHLVL", "_"} == {"PATH", "LANG"}


def test_the_state_is_that_of_an_image(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """Its roots are what was asked for."""
    rule_runner.write_files(project(Pkg("a", depends=["b"]), Pkg("b"), Pkg("c")))
    done = run(rule_runner, "3rdparty/opam:default#a", "3rdparty/opam:default#c", "--", f"{tmp_path}/seen", "0")
    assert done.exit_code == 0
    assert seen(tmp_path)["below"] == ["trixie", "opam-root", "b", "a", "c", "state"]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_directory(rule_runner: RuleRunner, tmp_path: Path, absolute: bool) -> None:
    rule_runner.write_files({**project(Pkg("a")), "src/a/file": ""})
    directory = f"{rule_runner.build_root}/src/a"
    given = directory if absolute else "src/../src/a/"
    for options, writable, network in (((), True, False), (("--read-only", "--network"), False, True)):
        words = (f"--directory={given}", *options, "3rdparty/opam:default#a", "--", f"{tmp_path}/seen", "0")
        assert run(rule_runner, *words).exit_code == 0
        request = seen(tmp_path)["request"]
        assert request["mounts"] == [{"source": directory, "target": directory, "writable": writable}]
        assert (request["cwd"], request["network"]) == (directory, network)


def test_without_a_command(rule_runner: RuleRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a shell."""
    rule_runner.write_files(project(Pkg("a")))
    done = run(rule_runner, "3rdparty/opam:default#a")
    # The fake finds no place for its answer in there.
    assert done.exit_code == 1
    assert not os.path.exists(tmp_path / "seen")


def test_a_package_that_does_not_build(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a", depends=["b"]), Pkg("b", depends=["c"]), Pkg("c", opam="fail")))
    text = failure(rule_runner, "3rdparty/opam:default#a", "--", "true")
    assert text.startswith(
        "There is nothing to run it in, as packages were not built (a.1, b.1 because of that).\n\nc.1 failed: error: c does"
    )


def test_what_is_refused(rule_runner: RuleRunner) -> None:
    files = project(Pkg("a"), opam_build='opam_packages(name="other", resolve="other")')
    other = opam_lock(Pkg("a"), resolve="other", base="//3rdparty/debian:second")
    rule_runner.write_files({**files, "3rdparty/opam/other.lock": other})
    assert "but 3rdparty/debian:trixie is a `debian_rootfs`" in failure(rule_runner, "3rdparty/debian:trixie")
    both = failure(rule_runner, "3rdparty/opam:default#a", "3rdparty/opam:other#a")
    assert "takes targets of one resolve" in both and "`default`, `other`" in both
    assert "the command line names none" in failure(rule_runner)
    gone = failure(rule_runner, "--directory=nosuch", "3rdparty/opam:default#a")
    assert f"`--opam-exec-directory` is 'nosuch', but there is no directory {rule_runner.build_root}/nosuch" in gone
    assert "add `--directory`" in failure(rule_runner, "--read-only", "3rdparty/opam:default#a")


def own(runner: RuleRunner, tmp_path: Path, *words: str) -> Any:
    done = run(runner, *words, "--", f"{tmp_path}/seen", "0")
    assert done.exit_code == 0, done.stderr
    return seen(tmp_path)


def test_a_project(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """What its packages and their tests depend on is there. It itself is not, but where something of that depends on it."""
    rule_runner.write_files(FILES)
    root = rule_runner.build_root
    told = own(rule_runner, tmp_path, "src/app:project")
    assert set(told["below"][2:]) == {"lib", "user", "later", "state"}
    project = f"{root}/src/app"
    assert told["request"]["mounts"] == [{"source": project, "target": project, "writable": True}]
    assert told["request"]["cwd"] == project
    told = own(rule_runner, tmp_path, "--read-only", "src/lib#lib-unix")
    # `bench` is built with `lib`, whose tests need it.
    assert set(told["below"][2:-1]) == {"bench", "checks", "later", "lib"}
    assert told["request"]["mounts"] == [{"source": f"{root}/src/lib", "target": f"{root}/src/lib", "writable": False}]
    told = own(rule_runner, tmp_path, "src/alone", "3rdparty/opam:default#other")
    assert told["below"][2:] == ["other", "state"] and told["request"]["cwd"] == f"{root}/src/alone"
    told = own(rule_runner, tmp_path, "src/alone:alone")
    assert told["below"][2:] == ["state"]


def test_a_project_in_another_directory(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """The command starts in the project where that is shown, and else where it was told."""
    rule_runner.write_files(FILES)
    root = rule_runner.build_root
    for directory, cwd in ((".", "src/app"), ("src", "src/app"), ("src/app", "src/app"), ("src/lib", "src/lib")):
        request = own(rule_runner, tmp_path, f"--directory={directory}", "src/app:project")["request"]
        assert request["mounts"][0]["source"] == f"{root}/{directory}".rstrip("/.")
        assert request["cwd"] == f"{root}/{cwd}"
    several = ("src/app:project", "src/lib:lib")
    assert "packages of several projects, in src/app, src/lib" in failure(rule_runner, *several)
    assert own(rule_runner, tmp_path, "--directory=src", *several)["request"]["cwd"] == f"{root}/src"
