"""`package` on images. The sandbox tool is fake_tool.py: the rules are tested here, not the building."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pants.core.goals.package import BuiltPackage, Package
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.target import InvalidFieldException
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from tests.backend.backend_runner import OPTIONS
from tests.backend.fake_tool import STATE_ENV
from tests.backend.locktext import Pkg, image, project

pytestmark = pytest.mark.usefixtures("fake_tool")


def build(runner: RuleRunner, name: str = "image") -> BuiltPackage:
    target = runner.get_target(Address("images", target_name=name))
    return runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])


def files(runner: RuleRunner, built: BuiltPackage) -> dict[str, bytes]:
    contents = runner.request(DigestContents, [built.digest])
    return {file.path: file.content for file in contents}


def manifest(runner: RuleRunner, built: BuiltPackage, path: str = "images/image") -> Any:
    """The image's manifest; its layers have the `kind` and `name` that the fake tool gave them."""
    found = files(runner, built)
    [descriptor, *_] = json.loads(found[f"{path}/index.json"])["manifests"]
    manifest = json.loads(found[f"{path}/blobs/{descriptor['digest'].replace(':', '/')}"])
    for layer in manifest["layers"]:
        blob = json.loads(found[f"{path}/blobs/{layer['digest'].replace(':', '/')}"])
        layer.update(kind=blob["kind"], name=blob["name"])
    return manifest


def config(runner: RuleRunner, built: BuiltPackage, path: str = "images/image") -> Any:
    digest = manifest(runner, built, path)["config"]["digest"]
    return json.loads(files(runner, built)[f"{path}/blobs/{digest.replace(':', '/')}"])


DIAMOND = (
    Pkg("top", depends=["right", "left"]),
    Pkg("left", depends=["bottom"]),
    Pkg("right", depends=["bottom"]),
    Pkg("bottom", post=["virtual"]),
    Pkg("virtual", depends=["bottom"]),
    Pkg("unrelated"),
)


def test_layers_of_an_image(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(*DIAMOND, image=image("top")))
    built = build(rule_runner)

    found = manifest(rule_runner, built)
    kinds = [(layer["kind"], layer["name"]) for layer in found["layers"]]
    # Dependencies first, by name where both are ready; the post-dependency comes along, what nobody needs does not.
    assert kinds == [
        ("base", "trixie"),
        ("opam-root", "opam-root"),
        ("package", "bottom"),
        ("package", "left"),
        ("package", "right"),
        ("package", "top"),
        ("package", "virtual"),
        ("state", "state"),
    ]
    artifact, *documents = built.artifacts
    assert [one.relpath for one in documents] == [
        "images/image.cdx.json",
        "images/image.provenance.json",
        "images/image.spdx.json",
    ]
    assert artifact.relpath == "images/image"
    assert artifact.extra_log_lines[0].startswith("manifest sha256:")
    assert artifact.extra_log_lines[1].startswith("8 layers, ")
    names = set(files(rule_runner, built))
    assert names >= {"images/image/oci-layout", "images/image/index.json"}
    blobs = {f"images/image/blobs/{layer['digest'].replace(':', '/')}" for layer in found["layers"]}
    assert blobs < names
    assert not any("layer.json" in name or "timings" in name or ".log" in name for name in names)


def test_a_build_sees_its_own_dependencies_only(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(*DIAMOND, image=image("top")))
    built = build(rule_runner)
    found = files(rule_runner, built)
    below = {}
    for layer in manifest(rule_runner, built)["layers"]:
        if layer["kind"] == "package":
            blob = json.loads(found[f"images/image/blobs/{layer['digest'].replace(':', '/')}"])
            below[layer["name"]] = [name.partition(":")[2] for name in blob["below"][2:]]
    assert below == {
        "bottom": [],
        "virtual": ["bottom"],
        "left": ["bottom"],
        "right": ["bottom"],
        "top": ["bottom", "left", "right"],
    }


def test_config_defaults(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    found = config(rule_runner, build(rule_runner))
    assert (found["architecture"], found["os"], found["created"]) == ("amd64", "linux", "1970-01-01T00:00:01Z")
    assert found["config"] == {
        "Env": STATE_ENV,
        "User": "opam",
        "WorkingDir": "/home/opam",
    }


def test_config_fields(rule_runner: RuleRunner) -> None:
    more = """
        entrypoint=["opam", "exec", "--"], cmd=["sh"], env={"Z": "1", "LANG": "de_DE.UTF-8", "A": "2"}, user="1000",
        workdir="/srv", labels={"l": "v"}, annotations={"org.example": "x"}, output_path="there",
        base="3rdparty/debian:trixie",
    """
    rule_runner.write_files(project(Pkg("a"), image=image("a", more=more)))
    built = build(rule_runner)
    assert built.artifacts[0].relpath == "there"
    found = config(rule_runner, built, "there")["config"]
    assert found["Env"] == ["HOME=/home/opam", "LANG=de_DE.UTF-8", *STATE_ENV[2:], "Z=1", "A=2"]
    assert (found["Entrypoint"], found["Cmd"]) == (["opam", "exec", "--"], ["sh"])
    assert (found["User"], found["WorkingDir"], found["Labels"]) == ("1000", "/srv", {"l": "v"})
    assert manifest(rule_runner, built, "there")["annotations"] == {"org.example": "x"}


@pytest.mark.parametrize("more", ["", 'runtime=True, runtime_base="3rdparty/debian:second", '])
def test_env_refers_to_what_stands_before(rule_runner: RuleRunner, more: str) -> None:
    env = {
        "PATH": "/opt/bin:$PATH",
        "NEW": "${TOOL}/${LANG:+set}",
        "NEWER": "$NEW ${MISSING:-$NEW} ${MISSING:-a\\}b}",
        "COST": "\\$TOOL \\\\$TOOL \\n $ 5$",
        "TOOL": "t",
        "LATER": "$TOOL",
    }
    rule_runner.write_files(project(Pkg("a"), image=image("a", more=f"{more}env={env!r}")))
    found = config(rule_runner, build(rule_runner))["config"]["Env"]
    last = STATE_ENV[3:4] if not more else []  # nobody is there who would read it
    assert found == [
        *STATE_ENV[:2],
        "PATH=/opt/bin:/switch/bin:/usr/bin",
        *last,
        "TOOL=t",
        "NEW=a=b/set",
        "NEWER=a=b/set a=b/set a}b",
        "COST=$TOOL \\a=b \\n $ 5$",
        "LATER=t",
    ]


@pytest.mark.parametrize(
    "value, said",
    [
        ("$MISSING/x", "'$MISSING/x' of A refers to the variable MISSING, which is not set"),
        ("${LATER}", "refers to the variable LATER, which is not set, neither by the image (HOME, LANG, OPAM_LAST_ENV"),
        ("$A", "refers to the variable A, which is not set"),
        ("${MISSING:-$NEITHER}", "refers to the variable NEITHER, which is not set"),
        ("$$", "A has '$$', which is no variable"),
        ("$1", "A has '$1', which is no variable"),
        ("${A", "A has '${A'; it takes ${NAME}"),
        ("${A:-b", "A has a `${` without a `}`: '${A:-b'"),
        ("${A:?b}", "it takes ${NAME}"),
        ("${A##b}", "it takes ${NAME}"),
        ("${}", "it takes ${NAME}"),
        ("a\0b", "a value with a zero byte"),
    ],
)
def test_wrong_references(rule_runner: RuleRunner, value: str, said: str) -> None:
    env = {"A": value, "LATER": "1"}
    rule_runner.write_files(project(Pkg("a"), image=image("a", more=f"env={env!r}")))
    with pytest.raises((ExecutionError, InvalidFieldException)) as raised:
        build(rule_runner)
    message = str(raised.value)
    assert "The `env` field in target images:image" in message and said in message


def failure(runner: RuleRunner) -> str:
    with pytest.raises(ExecutionError) as raised:
        build(runner)
    return str(raised.value.wrapped_exceptions[0])


def test_failures_are_told_at_once_and_all(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        project(
            Pkg("top", depends=["middle", "good"]),
            Pkg("middle", depends=["bad"]),
            Pkg("bad", opam="fail"),
            Pkg("worse", opam="fail"),
            Pkg("good"),
            image=image("top", "worse"),
        )
    )
    message = failure(rule_runner)
    assert "The image images:image was not written: 2 packages failed." in message
    assert "bad.1 failed: error: bad does not compile" in message
    assert "worse.1 failed: error: worse does not compile" in message
    assert "line 100 of bad" in message and "line 41 of bad\n" not in message
    assert "The last 60 of 101 lines" in message and "--opam-show-build-logs" in message
    assert "* middle.1 (because of bad.1)" in message
    assert "* top.1 (because of bad.1)" in message
    assert "good" not in message


def test_a_failed_package_fails_the_command(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("bad", opam="fail"), image=image("bad")))
    with pytest.raises(ExecutionError):
        rule_runner.run_goal_rule(Package, global_args=OPTIONS, args=["images:image"])


def test_a_failure_is_tried_again_by_the_same_daemon(rule_runner: RuleRunner, tmp_path: Any) -> None:
    needed = tmp_path / "needed"
    rule_runner.write_files(project(Pkg("a", opam=f"fail_if_missing={needed}"), image=image("a")))
    assert "the file is missing" in failure(rule_runner)
    needed.touch()
    rule_runner.set_options(OPTIONS)  # a new run
    assert build(rule_runner).artifacts


def test_logs_on_request(rule_runner: RuleRunner, caplog: pytest.LogCaptureFixture) -> None:
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    caplog.set_level(logging.INFO)
    for _ in range(2):  # also when all comes from the cache
        caplog.clear()
        rule_runner.set_options([*OPTIONS, "--opam-show-build-logs"])
        build(rule_runner)
        assert [r for r in caplog.records if "line 1 of a" in r.message], caplog.text


def test_another_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), image=image("a", more='base="3rdparty/debian:second"')))
    message = failure(rule_runner)
    assert "3rdparty/debian:second" in message and "3rdparty/debian:trixie" in message
    assert "`base` field in target images:image" in message


def test_packages_of_two_bases(rule_runner: RuleRunner) -> None:
    files_ = project(Pkg("a"))
    files_["3rdparty/opam/BUILD"] += 'opam_packages(name="other", resolve="other")\n'
    files_["3rdparty/opam/other.lock"] = (
        files_["3rdparty/opam/default.lock"].replace('"default"', '"other"').replace(":trixie", ":second")
    )
    files_["images/BUILD"] = """
oci_package_image(name="image", packages=["3rdparty/opam:default#a", "3rdparty/opam:other#a"])
"""
    rule_runner.write_files(files_)
    message = failure(rule_runner)
    assert "different bases" in message
    assert "`default` in 3rdparty/debian:trixie (a); `other` in 3rdparty/debian:second (a)" in message


def test_a_target_that_is_no_package(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        project(Pkg("a"), image='oci_package_image(name="image", packages=["3rdparty/debian:trixie"])')
    )
    assert "3rdparty/debian:trixie, which is a `debian_rootfs`" in failure(rule_runner)


def test_all_packages_of_a_lockfile(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        project(Pkg("a"), Pkg("b"), image='oci_package_image(name="image", packages=["3rdparty/opam:default"])')
    )
    names = [layer["name"] for layer in manifest(rule_runner, build(rule_runner))["layers"]]
    assert names[2:-1] == ["a", "b"]


def test_a_corrupt_blob(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a", opam="corrupt"), image=image("a")))
    message = failure(rule_runner)
    assert "Build opam package a.1: the blob blobs/sha256/000" in message and "corrupt" in message
