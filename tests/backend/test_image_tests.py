"""`test` for `oci_image_test`: what BUILD files may say, what the tool is asked for, what becomes of it. The sandbox tool is
fake_tool.py, which compares configurations and sizes as the real one does."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.backend.project_info.peek import Peek
from pants.core.goals.test import Test
from pants.engine.addresses import Address
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.testing.image_checks import command_checks, config_check, file_checks, limit_check, user_checks
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project

pytestmark = pytest.mark.usefixtures("fake_tool")

IMAGE = image("a", more='cmd=["a", "--help"], labels={"version": "1.2"}, exposed_ports=["8080"], env={"COLOR": "red"}')


def files(fields: str = "", image_text: str = IMAGE) -> dict[str, str]:
    return project(Pkg("a"), image=f'{image_text}oci_image_test(name="test", image=":image", {fields})\n')


def run(runner: RuleRunner, *args: str, more: "tuple[str, ...]" = ()) -> GoalRuleResult:
    arguments = args if any(":" in one for one in args) else (*args, "images:test")
    return runner.run_goal_rule(Test, global_args=[*OPTIONS, *more], args=arguments, env_inherit={"PATH"})


def report(runner: RuleRunner) -> ElementTree.Element:
    return ElementTree.parse(Path(runner.build_root, "dist/test/reports/images.test.xml")).getroot()


def test_an_image_that_is_as_it_should_be(rule_runner: RuleRunner) -> None:
    config = {
        "cmd": ["a", "--help"],
        "entrypoint": [],
        "user": "opam",
        "workdir": "/home/opam",
        "exposed_ports": ["8080/tcp"],
        "env": {"COLOR": "red", "PATH": {"matches": "^/switch/bin:"}, "SECRET": None},
        "labels": {"version": {"matches": r"^1\."}},
    }
    rule_runner.write_files(files(f'config={config!r}, max_layers=4, max_size="1MiB", commands=[{{"argv": ["a"]}}]'))
    done = run(rule_runner, "--output=all", "--report")
    assert done.exit_code == 0, done.stderr
    assert "images:test succeeded" in done.stderr
    suites = report(rule_runner)
    assert (suites.get("tests"), suites.get("failures")) == ("12", "0")
    names = [case.get("name") for case in suites.iter("testcase")]
    assert names[0] == "config user" and names[-1] == "command a" and "config env COLOR" in names


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ('config={"cmd": ["b"]}', "config cmd\nit is ['a', '--help'], but should be ['b']"),
        ('config={"env": {"COLOR": "blue"}}', "config env COLOR\nit is 'red', but should be 'blue'"),
        ('config={"labels": {"version": None}}', "it is '1.2', but should not be there"),
        ('config={"exposed_ports": []}', "it is ['8080/tcp'], but should be []"),
        ("max_layers=3", "limit max_layers\nthe image has 4 layers, but should have at most 3"),
        ("max_size=10", "bytes of compressed layers, but should have at most 10"),
        ('files={"/wrong": {}}', "file /wrong\nit is wrong\nall of it"),
        ('users={"wrong": {}}', "user wrong"),
        ('commands=[{"argv": ["wrong", "words"]}]', "command wrong words"),
    ],
)
def test_an_image_that_is_not(rule_runner: RuleRunner, fields: str, problem: str) -> None:
    rule_runner.write_files(files(fields))
    done = run(rule_runner, "--report")
    assert done.exit_code == 1
    assert "images:test failed" in done.stderr
    [case] = [one for one in report(rule_runner).iter("testcase") if one.find("failure") is not None]
    failure = case.find("failure")
    assert failure is not None and failure.text and failure.get("message") == failure.text.split("\n")[0]
    assert problem in f"{case.get('name')}\n{failure.text}"


def test_what_the_tool_is_asked_for(rule_runner: RuleRunner, tmp_path: Path) -> None:
    said = tmp_path / "said"
    fields = {
        "files": {"/b": {"exists": False}, "/a": {"mode": "755", "owner": 1000, "contains": "^x", "max_size": "2KiB"}},
        "users": {"opam": {"uid": 1000, "groups": ["opam"]}},
        "commands": [
            {
                "argv": ["a", f"say={said}"],
                "env": {"B": "c d", "A": "b"},
                "user": 33,
                "stdout": "x",
                "stderr": ["y", "z"],
            },
            {},
            {"arguments": []},
            {"arguments": ["--help"], "exit_code": 2, "timeout": 5, "name": "help"},
        ],
        "max_unpacked_size": 5,
    }
    asked = ", ".join(f"{key}={value!r}" for key, value in fields.items() if key != "max_unpacked_size")
    rule_runner.write_files(files(asked))
    assert run(rule_runner).exit_code == 0
    request = json.loads(said.read_text())["request"]
    assert request["files"] == [
        {"path": "/a", "mode": "0755", "owner": "1000", "contains": ["^x"], "max_size": 2048},
        {"path": "/b", "absent": True},
    ]
    assert request["users"] == [{"name": "opam", "uid": 1000, "groups": ["opam"]}]
    assert request["commands"] == [
        {
            "name": f"a say={said}",
            "argv": ["a", f"say={said}"],
            "env": ["A=b", "B=c d"],
            "user": "33",
            "stdout": ["x"],
            "stderr": ["y", "z"],
            "exit_code": 0,
            "timeout": 60,
        },
        {"name": "of the image itself", "arguments": [], "exit_code": 0, "timeout": 60},
        {"name": "of the image itself (2)", "arguments": [], "exit_code": 0, "timeout": 60},
        {"name": "help", "arguments": ["--help"], "exit_code": 2, "timeout": 5},
    ]
    assert request["manifest"].startswith("sha256:") and request["config"] == request["limits"] == {}


def test_checks_of_fields() -> None:
    assert config_check({"user": "x", "env": {"B": None, "A": "b"}})["env"] == [
        {"name": "A", "equals": "b"},
        {"name": "B", "absent": True},
    ]
    assert limit_check(None, 0, None) == {"max_size": 0}
    assert (file_checks({}), user_checks({}), command_checks(())) == ([], [], [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "The target images:test checks nothing: give it one of `config`, `files`"),
        ('commands={"argv": []}', "The `commands` field in target images:test should be a list of dictionaries"),
        ('commands=["hello"]', "The `commands` field in target images:test, entry 0, should be a dictionary"),
        ('commands=[{"argv": "hello"}]', "has 'argv': 'hello'; it takes values such as [\"hello\", \"--version\"]"),
        ('commands=[{"argv": []}]', "there is no command"),
        ('commands=[{"argv": ["a"], "arguments": []}]', "has both `argv` and `arguments`"),
        ('commands=[{"exit_code": 256}]', "has 'exit_code': 256"),
        ('commands=[{"exit_code": True}]', "has 'exit_code': True"),
        ('commands=[{"stdout": "("}]', "'(' is no regular expression"),
        ('commands=[{"stdout": [1]}]', "has 'stdout': [1]"),
        ('commands=[{"expected": 1}]', "has the key 'expected'; it takes arguments, argv, env, exit_code, name"),
        ('commands=[{"env": {"A=B": "c"}}]', "'A=B' cannot name a variable"),
        ('commands=[{"user": "a b:"}]', "has 'user': 'a b:'"),
        ('commands=[{"timeout": 0}]', "has 'timeout': 0"),
        ('files=["/a"]', "The `files` field in target images:test should be a dictionary"),
        ('files={"a": {}}', "The `files` field in target images:test: 'a' is no absolute path"),
        ('files={"/a": None}', "'/a' should be a dictionary, but is None"),
        ('files={"/a": {"mode": 0o755}}', "has 'mode': 493 (a mode is a text of octal digits)"),
        ('files={"/a": {"mode": "rwx"}}', "has 'mode': 'rwx'"),
        ('files={"/a": {"type": "dir"}}', "it takes values such as \"file\", \"directory\", \"link\""),
        ('files={"/a": {"owner": -1}}', "has 'owner': -1"),
        ('files={"/a": {"sha256": "ab"}}', "has 'sha256': 'ab'; it takes values such as 64 hex digits"),
        ('files={"/a": {"max_size": "much"}}', "has 'max_size': 'much'"),
        ('files={"/a": {"size": "1KiB"}}', "has 'size': '1KiB'"),
        ('files={"/a": {"exists": False, "mode": "0755"}}', "has `\"exists\": False`, and says what it should be"),
        ('files={"/a": {"exist": False}}', "has the key 'exist'; it takes contains, exists"),
        ('users={"a": {"uid": "1000"}}', "has 'uid': '1000'"),
        ('users={"a:b": {}}', "'a:b' is no user's name"),
        ('config={"entrypoint": "sh"}', "has 'entrypoint': 'sh'"),
        ('config={"exposed_ports": ["http"]}', "has 'exposed_ports': ['http']"),
        ('config={"volumes": ["data"]}', "has 'volumes': ['data']"),
        ('config={"env": {"A": 1}}', "has 'env': {'A': 1}"),
        ('config={"env": {"A": {"match": "b"}}}', "of 'A'"),
        ('config={"healthcheck": []}', "has the key 'healthcheck'; it takes cmd, entrypoint, env"),
        ("config=[]", "The `config` field in target images:test should be a dictionary"),
        ("max_layers=0", "max_layers"),
        ('max_size="big"', "The `max_size` field in target images:test is 'big'; it takes a number and a unit"),
        ("max_unpacked_size=-1", "The `max_unpacked_size` field in target images:test is -1"),
        ("max_unpacked_size=True", "The `max_unpacked_size` field in target images:test is True"),
    ],
)  # fmt: skip
def test_fields_that_make_no_sense(rule_runner: RuleRunner, fields: str, message: str) -> None:
    """When the BUILD file is read: nothing is built."""
    rule_runner.write_files(files(fields))
    with pytest.raises(ExecutionError) as raised:
        rule_runner.get_target(Address("images", target_name="test"))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "3rdparty/opam:default#a",
            "names 3rdparty/opam:default#a, which is a `opam_package`; it takes the address of an",
        ),
        (":nothing", "images:nothing"),
    ],
)
def test_what_is_no_image(rule_runner: RuleRunner, where: str, message: str) -> None:
    made = files("max_layers=9")
    made["images/BUILD"] = made["images/BUILD"].replace('image=":image"', f'image="{where}"')
    rule_runner.write_files(made)
    with pytest.raises(ExecutionError) as raised:
        run(rule_runner)
    assert message in str(raised.value)


def test_an_image_that_is_not_built(rule_runner: RuleRunner) -> None:
    made = files("max_layers=9")
    made["3rdparty/opam/default.lock"] = project(Pkg("a", opam="fail"))["3rdparty/opam/default.lock"]
    rule_runner.write_files(made)
    with pytest.raises(ExecutionError) as raised:
        run(rule_runner)
    assert "a does not compile" in str(raised.value)


def test_what_did_not_change_is_not_tested_again(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """But with `--test-force`, and after a failure; a change of the image, or of what it should be, is tested."""
    said = tmp_path / "said"
    fields = f'commands=[{{"argv": ["x", "say={said}"]}}]'
    rule_runner.write_files(files(fields))
    for args, times in (((), 1), ((), 1), (("--force",), 2), ((), 2)):
        assert run(rule_runner, *args).exit_code == 0
        assert len(said.read_text().splitlines()) == times
    rule_runner.write_files(files(fields, IMAGE.replace("red", "blue")))
    assert run(rule_runner).exit_code == 0 and len(said.read_text().splitlines()) == 3
    rule_runner.write_files(files(f"{fields}, max_layers=3"))
    for times in (4, 5):
        assert run(rule_runner).exit_code == 1 and len(said.read_text().splitlines()) == times


def test_what_takes_too_long(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files('commands=[{"argv": ["take=60"]}], timeout=1'))
    done = run(rule_runner, "--timeouts", "--report")
    assert done.exit_code != 0
    [failure] = report(rule_runner).iter("failure")
    assert "timeout of 1" in (failure.get("message") or "")


def test_a_tool_that_fails(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files('commands=[{"argv": ["crash"]}]'))
    done = run(rule_runner, "--report")
    assert done.exit_code == 1
    [failure] = report(rule_runner).iter("failure")
    assert failure.get("message") == "error: the image is damaged"


def test_words_that_xml_cannot_have(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files('commands=[{"argv": ["print=1b5b33316d5d5d3e3c00ff"]}]'))
    assert run(rule_runner, "--report").exit_code == 0
    assert "]]><" in (report(rule_runner).findtext(".//system-out") or "")


def test_what_is_left_out(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files("max_layers=1, skip_tests=True"))
    assert (run(rule_runner, "::").exit_code, "images:test" in run(rule_runner, "::").stderr) == (0, False)
    rule_runner.write_files(files("max_layers=1"))
    assert run(rule_runner, "::").exit_code == 1
    done = run(rule_runner, "::", more=("--oci-test-skip",))
    assert (done.exit_code, "images:test" in done.stderr) == (0, False)


def test_what_others_say_of_it(rule_runner: RuleRunner) -> None:
    """The image is a dependency, so a change of a package touches its tests; `peek` shows the fields."""
    rule_runner.write_files(files('config={"env": {"A": None}}, files={"/a": {"contains": "x"}}'))
    listed = rule_runner.run_goal_rule(Dependencies, global_args=OPTIONS, args=["images:test"], env_inherit={"PATH"})
    assert listed.stdout.split() == ["images:image"]
    shown = rule_runner.run_goal_rule(Peek, global_args=OPTIONS, args=["images:test"], env_inherit={"PATH"})
    [told] = json.loads(shown.stdout)
    values: dict[str, Any] = {key: told[key] for key in ("config", "files", "image")}
    assert values == {"config": {"env": {"A": None}}, "files": {"/a": {"contains": ["x"]}}, "image": ":image"}
