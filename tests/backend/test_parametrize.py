"""`parametrize`, `overrides`, `__defaults__` and macros with the backend's targets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.backend.project_info.list_targets import List
from pants.backend.project_info.peek import Peek
from pants.core.goals.package import BuiltPackage, Package
from pants.core.goals.run import RunRequest
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.target import Target
from pants.testutil.rule_runner import RuleRunner
from pants.vcs.changed import ChangedAddresses, ChangedRequest, DependentsOption

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.package_image_layout import OciImageLayoutFieldSet
from opam_oci.goals.run_image import OciImageRunFieldSet
from opam_oci.images.archive import repository_name
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from opam_oci.target_types import (
    DebianRootfsTarget,
    OciImageIndexTarget,
    OciImageLayoutTarget,
    OciPackageImageTarget,
    OpamRequirementTarget,
)
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, opam_lock, project

# What each kind of target must have.
MINIMUM: dict[type[Target], str] = {
    OpamRequirementTarget: "",
    DebianRootfsTarget: 'suite="trixie"',
    OciPackageImageTarget: 'packages=["3rdparty/opam:default#a"]',
    OciImageLayoutTarget: 'images=["images:image"]',
    OciImageIndexTarget: "",
}

# Two values of each field.
VALUES: dict[str, tuple[Any, Any]] = {
    "annotations": ({}, {"a": "b"}),
    "architecture": ("amd64", "arm64"),
    "base": (None, "3rdparty/debian:trixie"),
    "cmd": ([], ["sh"]),
    "compression": ("gzip", "zstd"),
    "compression_level": (None, 9),
    "constraints": ([], ["a<2"]),
    "dependencies": ([], ["3rdparty/debian:trixie"]),
    "description": ("one", "two"),
    "digest": ("sha256:" + "1" * 64, "sha256:" + "2" * 64),
    "entrypoint": ([], ["opam", "exec", "--"]),
    "env": ({}, {"A": "B"}),
    "exposed_ports": ([], ["80"]),
    "format": ("oci", "docker-archive"),
    "image_tags": (["latest"], ["1", "2"]),
    "image": ("oci:/one", "oci:/two"),
    "images": (["images:image"], ["images:other"]),
    "labels": ({}, {"a": "b"}),
    "layers": ("grouped", "flat"),
    "layouts": ([], ["x"]),
    "max_layers": (4, 125),
    "output_path": ("x", "y"),
    "overlapping_files": ([], ["/x"]),
    "packages": (["3rdparty/opam:default#a"], ["3rdparty/opam:default#b"]),
    "provenance": ("files", "none"),
    "repositories": (None, ["oci:x"]),
    "requirements": ([], ["a"]),
    "resolve": ("default", "other"),
    "runtime": (False, True),
    "runtime_base": (None, "3rdparty/debian:second"),
    "runtime_keep": ([], ["/x"]),
    "sbom": ("attached", "none"),
    "shared_with": ([], ["images:other"]),
    "skip_push": (False, True),
    "source": (None, "x.opam"),
    "stop_signal": (None, "SIGINT"),
    "suite": ("trixie", "bookworm"),
    "tag": ("a", "b"),
    "tags": ([], ["a"]),
    "user": ("opam", "root"),
    "volumes": ([], ["/x"]),
    "workdir": ("/", "/srv"),
}
# Debian packages are names, and a layout's tags are by address.
OWN_VALUES: dict[tuple[type[Target], str], tuple[Any, Any]] = {
    (DebianRootfsTarget, "packages"): (["opam"], ["opam", "gcc"]),
    (OciImageLayoutTarget, "tags"): ({}, {"images:image": "x"}),
    (OciPackageImageTarget, "base"): VALUES["base"],
}


def own_fields(target_type: type[Target]) -> list[str]:
    return sorted({field.alias for field in target_type.core_fields})


def files(**more: str) -> dict[str, str]:
    images = image("a") + image("b", name="other")
    return {**project(Pkg("a"), Pkg("b", depends=["a"]), image=images), **more}


def goal(runner: RuleRunner, subsystem: type, *args: str, options: tuple[str, ...] = ()) -> str:
    done = runner.run_goal_rule(subsystem, global_args=(*OPTIONS, *options), args=args)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("target_type", MINIMUM, ids=lambda one: one.alias)
def test_every_field_of_every_target(rule_runner: RuleRunner, target_type: type[Target]) -> None:
    text = ""
    for number, field in enumerate(own_fields(target_type)):
        one, two = OWN_VALUES.get((target_type, field)) or VALUES[field]
        minimum = MINIMUM[target_type] if not MINIMUM[target_type].startswith(f"{field}=") else ""
        text += f'{target_type.alias}(name="t{number}", {field}=parametrize(one={one!r}, two={two!r}), {minimum})\n'
    rule_runner.write_files(files(**{"t/BUILD": text, "t/x.opam": ""}))
    expected = {
        f"t:t{n}@{field}={value}" for n, field in enumerate(own_fields(target_type)) for value in ("one", "two")
    }
    assert set(goal(rule_runner, List, "t:").splitlines()) == expected
    assert {peeked["address"] for peeked in json.loads(goal(rule_runner, Peek, "t:"))} == expected
    assert goal(rule_runner, Dependencies, "--transitive", "t:") or target_type is OpamRequirementTarget


BOTH = {
    "3rdparty/opam/other.lock": opam_lock(Pkg("a", post=["c"]), Pkg("c", depends=["a"]), resolve="other"),
    "3rdparty/opam/BUILD": 'opam_packages(name="p", resolve=parametrize("default", "other"), tags=["t"])\n',
}
BOTH_OPTIONS = ("--opam-resolves-to-base={'default': '//3rdparty/debian:trixie', 'other': '//3rdparty/debian:trixie'}",)


def test_packages_of_several_resolves(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(**BOTH, **{"images/BUILD": images("3rdparty/opam:p#a@resolve=other")}))
    listed = goal(rule_runner, List, "3rdparty/opam:", options=BOTH_OPTIONS).splitlines()
    assert [one for one in listed if "#" in one] == [
        "3rdparty/opam:p#a@resolve=default",
        "3rdparty/opam:p#b@resolve=default",
        "3rdparty/opam:p#a@resolve=other",
        "3rdparty/opam:p#c@resolve=other",
    ]
    # `c` is a post-dependency on a cycle, found for the image alone.
    assert goal(rule_runner, Dependencies, "images:i", options=BOTH_OPTIONS).splitlines() == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:p#a@resolve=other",
        "3rdparty/opam:p#c@resolve=other",
    ]
    [peeked] = json.loads(goal(rule_runner, Peek, "3rdparty/opam:p#b@resolve=default", options=BOTH_OPTIONS))
    assert (peeked["resolve"], peeked["tags"]) == ("default", ["t"])
    assert peeked["dependencies"] == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:p#a@resolve=default",
    ]


def images(*packages: str, more: str = "") -> str:
    return f'oci_package_image(name="i", packages={list(packages)!r}, {more})\n'


def touched(runner: RuleRunner, file: str, *options: str) -> set[str]:
    runner.set_options([*OPTIONS, *options])
    found = runner.request(ChangedAddresses, [ChangedRequest((file,), DependentsOption.TRANSITIVE)])
    return {str(address) for address in found if address.spec_path == "images"}


def test_all_packages_of_one_of_several_resolves(rule_runner: RuleRunner) -> None:
    text = images("3rdparty/opam:p@resolve=other") + images("3rdparty/opam:p@resolve=default").replace('"i"', '"j"')
    text += 'oci_image_layout(name="l", images=[":i"])\noci_image_index(name="x", images=[":i"])\n'
    rule_runner.write_files(files(**BOTH, **{"images/BUILD": text}))
    assert touched(rule_runner, "3rdparty/opam/other.lock", *BOTH_OPTIONS) == {"images:i", "images:l", "images:x"}
    assert touched(rule_runner, "3rdparty/opam/default.lock", *BOTH_OPTIONS) == {"images:j"}


@pytest.mark.parametrize(
    ("text", "field", "way_out"),
    [
        (images("3rdparty/opam:p#a"), "`packages` from the target images:i", "3rdparty/opam:p#a@resolve=default"),
        (
            images("3rdparty/opam:p#a@resolve=other", more='layers=parametrize("flat", "grouped")')
            + 'oci_image_layout(name="l", images=[":i"])',
            "`images` from the target images:l",
            "images:i@layers=grouped",
        ),
    ],
)
def test_parameters_are_named(rule_runner: RuleRunner, text: str, field: str, way_out: str) -> None:
    """As everywhere in Pants, a field takes the address of one of the targets that `parametrize` makes."""
    rule_runner.write_files(files(**BOTH, **{"images/BUILD": text}))
    with pytest.raises(ExecutionError) as raised:
        rule_runner.run_goal_rule(Package, global_args=(*OPTIONS, *BOTH_OPTIONS), args=["images:"])
    message = str(raised.value.wrapped_exceptions[0])
    assert field in message and f"* {way_out}" in message


def test_overrides(rule_runner: RuleRunner) -> None:
    override = 'overrides={"a": {"tags": ["slow"]}, ("b",): {"description": "d"}}'
    rule_runner.write_files(files(**{"3rdparty/opam/BUILD": f'opam_packages(name="default", {override})'}))
    assert goal(rule_runner, List, "::", options=("--tag=slow",)).splitlines() == ["3rdparty/opam:default#a"]
    [peeked] = json.loads(goal(rule_runner, Peek, "3rdparty/opam:default#b"))
    assert peeked["description"] == "d"


def problem(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.run_goal_rule(List, global_args=OPTIONS, args=args)
    return str(raised.value.wrapped_exceptions[0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('{"no": {"tags": []}}', "names 'no', which is no package of the lockfile 3rdparty/opam/default.lock"),
        ('{"a": {"version": "2"}}', "sets `version` of 'a'; it takes `description`, `skip_tests`, `tags`, `timeout`"),
        ('{"a": {"nothing": "2"}}', "sets `nothing` of 'a'"),
        ('{"a": {"tags": parametrize(x=[], y=[])}}', "has `parametrize` for 'a'"),
    ],
)
def test_wrong_overrides(rule_runner: RuleRunner, override: str, message: str) -> None:
    rule_runner.write_files(
        files(**{"3rdparty/opam/BUILD": f'opam_packages(name="default", overrides={override})', "images/BUILD": ""})
    )
    found = problem(rule_runner, "3rdparty/opam:")
    assert message in found and "`overrides` field in target 3rdparty/opam:default" in found


def test_requirements_of_several_resolves(rule_runner: RuleRunner) -> None:
    text = """
opam_requirement(name="r", resolve=parametrize("default", "other"), requirements=parametrize(x=["a"], y=["b"]))
opam_requirement(name="s", source=parametrize("x.opam", "y.opam"))
"""
    rule_runner.write_files(files(**{"r/BUILD": text, "r/x.opam": "", "r/y.opam": ""}))
    rule_runner.set_options(OPTIONS)
    inputs = rule_runner.request(ResolveInputs, [ResolveInputsRequest("default")])
    assert inputs.requirements == ("a", "b")
    assert [file.path for file in inputs.opam_files] == ["r/x.opam", "r/y.opam"]
    assert rule_runner.request(ResolveInputs, [ResolveInputsRequest("other")]).requirements == ("a", "b")


def test_bases_of_several_suites(rule_runner: RuleRunner) -> None:
    base = "//3rdparty/debian:base@resolve=trixie"
    rule_runner.write_files(
        files(
            **{
                "3rdparty/debian/BUILD": (
                    'debian_rootfs(name="base", suite="trixie", packages=["opam"], resolve=parametrize("trixie", "second"))'
                ),
                "3rdparty/opam/default.lock": opam_lock(Pkg("a"), base=base),
                "images/BUILD": image("a"),
            }
        )
    )
    options = (f"--opam-resolves-to-base={{'default': '{base}'}}",)
    found = goal(rule_runner, Dependencies, "--transitive", "images:image", options=options).splitlines()
    assert found[:2] == ["3rdparty/debian:_debian_lockfile_trixie", "3rdparty/debian:base@resolve=trixie"]


def test_defaults_and_macros(rule_runner: RuleRunner) -> None:
    prelude = """
def our_image(name, *packages, **fields):
    oci_package_image(name=name, packages=["3rdparty/opam:default#" + one for one in packages], **fields)
"""
    build = """
__defaults__({oci_package_image: dict(tags=["t"])}, all=dict(description="all"))
__defaults__({oci_package_image: dict(compression=parametrize("gzip", "zstd"))}, extend=True)
our_image("one", "a", user="root")
our_image("two", "a", "b", compression="none")
oci_image_layout(name="l", images=[":one@compression=gzip"])
"""
    rule_runner.write_files(files(**{"prelude/images": prelude, "images/BUILD": build}))
    options = ("--build-file-prelude-globs=['prelude/*']",)
    found = {one["address"]: one for one in json.loads(goal(rule_runner, Peek, "images:", options=options))}
    assert list(found) == ["images:l", "images:one@compression=gzip", "images:one@compression=zstd", "images:two"]
    assert {one["description"] for one in found.values()} == {"all"}
    assert (found["images:two"]["compression"], found["images:one@compression=gzip"]["user"]) == ("none", "root")
    assert found["images:two"]["tags"] == ["t"]


def built(runner: RuleRunner, field_set: Any) -> dict[str, bytes]:
    package = runner.request(BuiltPackage, [field_set])
    return {file.path: file.content for file in runner.request(DigestContents, [package.digest])}


@pytest.mark.usefixtures("fake_tool")
def test_images_with_parameters_are_built_and_run(rule_runner: RuleRunner, tmp_path: Any) -> None:
    text = images("3rdparty/opam:p#a@resolve=other", more='layers=parametrize("flat", "per_package")')
    text += 'oci_image_layout(name="l", images=[":i@layers=flat", ":i@layers=per_package"])\n'
    rule_runner.write_files(files(**BOTH, **{"images/BUILD": text}))
    crun = tmp_path / "crun"
    crun.write_text("#!/bin/sh\necho crun 1.8\n")
    crun.chmod(0o755)
    rule_runner.set_options([*OPTIONS, *BOTH_OPTIONS], env={"PATH": str(tmp_path)})
    address = Address("images", target_name="i", parameters={"layers": "flat"})
    target = rule_runner.get_target(address)
    assert "images/i@layers=flat/index.json" in built(rule_runner, OciPackageImageFieldSet.create(target))
    request = rule_runner.request(RunRequest, [OciImageRunFieldSet.create(target)])
    assert "{chroot}/request.json" in request.args
    layout = rule_runner.get_target(Address("images", target_name="l"))
    index = json.loads(built(rule_runner, OciImageLayoutFieldSet.create(layout))["images/l/index.json"])
    names = {entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"]}
    assert {"i-layers-flat", "i-layers-per_package"} <= names


def test_names_in_archives() -> None:
    plain = Address("x", target_name="My.Image")
    assert repository_name(plain) == "my-image"
    several = Address("x", target_name="i", parameters={"layers": "flat", "compression": "none"})
    assert repository_name(several) == "i-compression-none-layers-flat"
