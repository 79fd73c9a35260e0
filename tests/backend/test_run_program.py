"""`run` and `repl` of packages: what the tool is asked for, and what is an error. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import pytest
from pants.core.goals.repl import Repl
from pants.core.goals.run import Run
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner, mock_console

from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, opam_lock, project
from tests.backend.projects import FILES, OPAM_FILES, PACKAGES, local, lock

pytestmark = pytest.mark.usefixtures("fake_tool")

BIN = "home/opam/.opam/default/bin"


def has(*names: str) -> str:
    return " ".join(f"has={BIN}/{name}" for name in names)


def call(runner: RuleRunner, goal: Any, tmp_path: Path, *args: str, options: Sequence[str] = ()) -> GoalRuleResult:
    """With a console as Pants has it, which interactive processes need."""
    env = {"FAKE_SEEN": f"{tmp_path}/seen"}
    given = [*OPTIONS, *options]
    runner.set_options([*given, goal.name, *args], env=env, env_inherit={"PATH"})
    with mock_console(runner.options_bootstrapper):
        return runner.run_goal_rule(goal, global_args=given, args=args, env=env, env_inherit={"PATH"})


def failure(runner: RuleRunner, goal: Any, tmp_path: Path, *args: str, options: Sequence[str] = ()) -> str:
    with pytest.raises(ExecutionError) as raised:
        call(runner, goal, tmp_path, *args, options=options)
    return str(raised.value.wrapped_exceptions[0])


def seen(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "seen").read_text())


def test_a_program(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """The build root is there, read-only, and the program starts in it."""
    rule_runner.write_files(project(Pkg("a", depends=["b"], opam=has("tool")), Pkg("b", opam=has("other"))))
    done = call(rule_runner, Run, tmp_path, "3rdparty/opam:default#a", "--", "--x", f"{tmp_path}/seen", "7")
    assert done.exit_code == 7, done.stderr
    told = seen(tmp_path)
    assert told["below"] == ["trixie", "opam-root", "b", "a", "state"]
    assert told["command"] == [f"/{BIN}/tool", "--x", f"{tmp_path}/seen", "7"]
    root = rule_runner.build_root
    assert told["request"]["mounts"] == [{"source": root, "target": root, "writable": False}]
    assert (told["request"]["cwd"], told["request"]["network"]) == (root, False)


def test_options(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files({**project(Pkg("a", opam=has("tool"))), "data/file": ""})
    words = ("3rdparty/opam:default#a", "--", f"{tmp_path}/seen", "0")
    options = ["--opam-run-directory=data", "--opam-run-writable", "--opam-run-network"]
    assert call(rule_runner, Run, tmp_path, *words, options=options).exit_code == 0
    data = f"{rule_runner.build_root}/data"
    request = seen(tmp_path)["request"]
    assert request["mounts"] == [{"source": data, "target": data, "writable": True}]
    assert (request["cwd"], request["network"]) == (data, True)
    assert call(rule_runner, Run, tmp_path, *words, options=["--opam-run-directory="]).exit_code == 0
    request = seen(tmp_path)["request"]
    assert (request["mounts"], request["cwd"]) == ([], "/home/opam")
    text = failure(rule_runner, Run, tmp_path, *words, options=["--opam-run-directory=nosuch"])
    assert "`[opam-run].directory` is 'nosuch', but there is no directory" in text


def test_which_program(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(
        project(
            Pkg("named", opam=has("z", "named", "b")),
            Pkg("several", opam=has("y", "x", "deep/w")),
            Pkg("none", opam="has=home/opam/.opam/default/lib/x"),
        )
    )
    assert call(rule_runner, Run, tmp_path, "3rdparty/opam:default#named", "--", f"{tmp_path}/seen", "0").exit_code == 0
    assert seen(tmp_path)["command"][0] == f"/{BIN}/named"
    several = failure(rule_runner, Run, tmp_path, "3rdparty/opam:default#several")
    assert several == (
        "3rdparty/opam:default#several has several programs, and none has its name: it installs `x`, `y`. "
        "`opam-exec 3rdparty/opam:default#several -- x` runs one of them."
    )
    none = failure(rule_runner, Run, tmp_path, "3rdparty/opam:default#none")
    assert none == "3rdparty/opam:default#none has no program to run: it installs none."


def test_a_program_that_does_not_build(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(project(Pkg("a", opam="fail")))
    assert "a.1 failed: error: a does not" in failure(rule_runner, Run, tmp_path, "3rdparty/opam:default#a")


def repl(runner: RuleRunner, tmp_path: Path, shell: str, *targets: str) -> Any:
    done = call(runner, Repl, tmp_path, f"--shell={shell}", *targets)
    assert done.exit_code == 0, done.stderr
    return seen(tmp_path)


def test_toplevels(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """What they need of the resolve is there, too."""
    files = project(Pkg("a"), Pkg("b"), Pkg("ocaml"), Pkg("ocamlfind"), Pkg("utop", depends=["ocamlfind"]), Pkg("x"))
    rule_runner.write_files(files)
    targets = [f"3rdparty/opam:default#{name}" for name in "ab"]
    told = repl(rule_runner, tmp_path, "utop", *targets)
    assert told["command"] == ["utop"] and told["below"][2:] == ["a", "b", "ocamlfind", "utop", "state"]
    root = rule_runner.build_root
    assert told["request"]["mounts"] == [{"source": root, "target": root, "writable": False}]
    assert told["request"]["cwd"] == root
    assert repl(rule_runner, tmp_path, "opam", *targets)["command"] == ["utop"]
    told = repl(rule_runner, tmp_path, "ocaml", *targets)
    assert told["below"][2:] == ["a", "b", "ocaml", "ocamlfind", "state"]
    assert told["command"][:2] == ["sh", "-c"] and '#use "topfind"' in told["command"][2]


def test_a_resolve_without_utop_and_findlib(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(project(Pkg("a"), Pkg("ocaml")))
    for shell in ("ocaml", "opam"):
        told = repl(rule_runner, tmp_path, shell, "3rdparty/opam:default#a")
        assert told["command"] == ["ocaml"] and told["below"][2:] == ["a", "ocaml", "state"]
    text = failure(rule_runner, Repl, tmp_path, "--shell=utop", "3rdparty/opam:default#a")
    assert "The resolve `default` has no utop: name it in an `opam_requirement`" in text


def test_what_has_no_toplevel(rule_runner: RuleRunner, tmp_path: Path) -> None:
    files = project(Pkg("a"), opam_build='opam_packages(name="other", resolve="other")')
    other = opam_lock(Pkg("a"), resolve="other", base="//3rdparty/debian:second")
    rule_runner.write_files({**files, "3rdparty/opam/other.lock": other})
    assert "has no ocaml" in failure(rule_runner, Repl, tmp_path, "--shell=ocaml", "3rdparty/opam:default#a")
    both = failure(rule_runner, Repl, tmp_path, "--shell=opam", "3rdparty/opam:default#a", "3rdparty/opam:other#a")
    assert "takes targets of one resolve" in both
    assert "the command line names none" in failure(
        rule_runner, Repl, tmp_path, "--shell=opam", "3rdparty/debian:trixie"
    )


def test_a_package_of_a_project(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """It is built, and `executable` says what it runs."""
    programs = local("app", "src/app/app.opam", depends=["lib", "user"], opam=has("app", "tool"))
    files = {**FILES, "3rdparty/opam/default.lock": lock(programs, *PACKAGES[1:], files=OPAM_FILES)}
    rule_runner.write_files(files)
    words = ("src/app:project#app", "--", f"{tmp_path}/seen", "0")
    assert call(rule_runner, Run, tmp_path, *words).exit_code == 0
    told = seen(tmp_path)
    assert told["command"][0] == f"/{BIN}/app" and set(told["below"][2:]) == {"app", "lib", "user", "later", "state"}
    rule_runner.write_files({"src/app/BUILD": 'opam_project(name="project", executable="tool")'})
    assert call(rule_runner, Run, tmp_path, *words).exit_code == 0
    assert seen(tmp_path)["command"][0] == f"/{BIN}/tool"
    rule_runner.write_files({"src/app/BUILD": 'opam_project(name="project", executable="nosuch")'})
    assert failure(rule_runner, Run, tmp_path, *words) == (
        "The `executable` field in target src/app:project#app is `nosuch`, which is no program of app: it installs `app`, `tool`."
    )


def test_a_toplevel_with_a_project(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """Its packages can be required."""
    rule_runner.write_files({**FILES, "3rdparty/opam/default.lock": lock(*PACKAGES, Pkg("ocaml"))})
    told = repl(rule_runner, tmp_path, "ocaml", "src/app:project", "3rdparty/opam:default#other")
    assert set(told["below"][2:]) == {"app", "lib", "user", "later", "ocaml", "other", "state"}
