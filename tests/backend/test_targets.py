"""Targets in Pants' own goals: list, dependencies, dependents, peek."""

from __future__ import annotations

import json

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.backend.project_info.dependents import DependentsGoal
from pants.backend.project_info.list_targets import List
from pants.backend.project_info.peek import Peek
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.locks import OpamLockRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project

PACKAGES = (
    Pkg("top", depends=["compiler"], version="2.0"),
    Pkg("compiler", post=["virtual", "unix"]),
    Pkg("virtual", depends=["compiler"]),
    Pkg("unix"),
)


def run(runner: RuleRunner, goal: type, *args: str) -> list[str]:
    result = runner.run_goal_rule(goal, global_args=OPTIONS, args=args)
    assert result.exit_code == 0
    return result.stdout.splitlines()


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files(project(*PACKAGES, image=image("top")))
    return rule_runner


def test_list(runner: RuleRunner) -> None:
    assert run(runner, List, "3rdparty/opam:default#top", "images::") == ["3rdparty/opam:default#top", "images:image"]
    assert set(run(runner, List, "::")) == {
        "3rdparty/debian:_debian_lockfile_second",
        "3rdparty/debian:_debian_lockfile_trixie",
        "3rdparty/debian:second",
        "3rdparty/debian:trixie",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:_opam_lockfile_other",
        "3rdparty/opam:default",
        "3rdparty/opam:default#compiler",
        "3rdparty/opam:default#top",
        "3rdparty/opam:default#unix",
        "3rdparty/opam:default#virtual",
        "3rdparty/opam:roots",
        "images:image",
    }


def test_dependencies_of_a_package(runner: RuleRunner) -> None:
    assert run(runner, Dependencies, "3rdparty/opam:default#compiler") == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:default#unix",
    ]
    assert run(runner, Dependencies, "3rdparty/opam:default#virtual") == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:default#compiler",
    ]


def test_dependencies_of_an_image(runner: RuleRunner) -> None:
    # `virtual` is in the image, but a post-dependency on a cycle: the image itself depends on it.
    assert run(runner, Dependencies, "images:image") == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:default#top",
        "3rdparty/opam:default#virtual",
    ]
    assert run(runner, Dependencies, "--transitive", "images:image") == [
        "3rdparty/debian:_debian_lockfile_trixie",
        "3rdparty/debian:trixie",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:default#compiler",
        "3rdparty/opam:default#top",
        "3rdparty/opam:default#unix",
        "3rdparty/opam:default#virtual",
        "3rdparty/opam:roots",
    ]


def test_dependents(runner: RuleRunner) -> None:
    assert run(runner, DependentsGoal, "--transitive", "3rdparty/opam:default#unix") == [
        "3rdparty/opam:default",
        "3rdparty/opam:default#compiler",
        "3rdparty/opam:default#top",
        "3rdparty/opam:default#virtual",
        "images:image",
    ]


def test_peek(runner: RuleRunner) -> None:
    [peeked] = json.loads("\n".join(run(runner, Peek, "3rdparty/opam:default#top")))
    assert (peeked["target_type"], peeked["package"], peeked["version"], peeked["resolve"]) == (
        "opam_package",
        "top",
        "2.0",
        "default",
    )
    [peeked] = json.loads("\n".join(run(runner, Peek, "images:image")))
    assert (peeked["user"], peeked["workdir"], peeked["packages"]) == (
        "opam",
        "/home/opam",
        ["3rdparty/opam:default#top"],
    )


def problem(runner: RuleRunner, goal: type, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.run_goal_rule(goal, global_args=OPTIONS, args=args)
    return str(raised.value.wrapped_exceptions[0])


def test_missing_lockfile(rule_runner: RuleRunner) -> None:
    files = project()
    del files["3rdparty/opam/default.lock"]
    rule_runner.write_files(files)
    message = problem(rule_runner, List, "::")
    assert "The lockfile 3rdparty/opam/default.lock: it does not exist" in message
    assert "`default`" in message and "generate-lockfiles --resolve=default`" in message


def test_unknown_package(runner: RuleRunner) -> None:
    message = problem(runner, List, "3rdparty/opam:default#nobody")
    assert "3rdparty/opam:default#nobody" in message and "3rdparty/opam:default#top" in message


def test_unknown_package_of_an_image(runner: RuleRunner) -> None:
    runner.write_files({"images/BUILD": image("nobody")})
    message = problem(runner, Dependencies, "images:image")
    assert "3rdparty/opam:default#nobody" in message


def test_unknown_resolve(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(opam_build='opam_packages(name="x", resolve="nowhere")\n'))
    message = problem(rule_runner, List, "3rdparty/opam:x")
    assert "The resolve `nowhere`" in message and "`[opam].resolves`: default, other" in message


def test_resolve_without_a_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a")))
    rule_runner.set_options([*OPTIONS, "--opam-resolves-to-base={}"])
    with pytest.raises(ExecutionError, match="The resolve `default` has no base"):
        rule_runner.run_goal_rule(List, global_args=[*OPTIONS, "--opam-resolves-to-base={}"], args=["::"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ('opam_package(name="x", package="a", version="1")', "is not written by hand"),
        ('oci_package_image(name="x")', "The 'packages' field in target wrong:x must be defined"),
        ('oci_package_image(name="x", packages=[], workdir="srv")', "must be an absolute path, but is 'srv'"),
        ('oci_package_image(name="x", packages=[], env={"A=B": "c"})', "'A=B', which cannot name a variable"),
        ('oci_package_image(name="x", packages=[], cmd="sh")', "The 'cmd' field"),
        ('debian_rootfs(name="x")', "The 'suite' field in target wrong:x must be defined"),
        ('debian_rootfs(name="x", suite="trixie", packages=["No Package"])', "'No Package'"),
        ('opam_requirement(name="x", requirements=["lwt >"])', "'lwt >'; it takes entries such as"),
        ('opam_requirement(name="x", constraints=["lwt 5"])', "'lwt 5'"),
    ],
)
def test_wrong_fields(rule_runner: RuleRunner, build: str, message: str) -> None:
    rule_runner.write_files({"wrong/BUILD": build})
    # Pants quotes the names of fields in one way up to 2.29, in another from 2.30 on.
    assert message.replace("'", "`") in problem(rule_runner, List, "wrong::").replace("'", "`")


def test_an_image_of_nothing(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(image='oci_package_image(name="image", packages=[])'))
    assert "`packages` field in target images:image is empty" in problem(rule_runner, Dependencies, "images:image")


def test_a_lockfile_that_changes(runner: RuleRunner) -> None:
    assert "new" not in runner.request(OpamLock, [OpamLockRequest("default")]).packages
    runner.write_files(project(*PACKAGES, Pkg("new")))
    assert "3rdparty/opam:default#new" in run(runner, List, "3rdparty/opam::")
