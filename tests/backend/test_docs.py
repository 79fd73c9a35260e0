"""`package` for `opam_docs`: of which packages, by whose odoc. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
from typing import Any, Dict

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.documenting.selection import OpamDocsFieldSet
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, opam_lock, project

pytestmark = pytest.mark.usefixtures("fake_tool")

PACKAGES = (
    Pkg("ocaml-system"),
    Pkg("lib", depends=["ocaml-system"], opam='synopsis: "A library"\n'),
    Pkg("app", depends=["lib"], version="2"),
    Pkg("odoc", depends=["helper"]),
    Pkg("helper"),
    Pkg("conf-odoc"),
)
ODOC = '"3rdparty/opam:default#conf-odoc"'


def write(runner: RuleRunner, fields: str, *packages: Pkg, more: str = "") -> None:
    runner.write_files(
        project(*(packages or PACKAGES), image=f'opam_docs(name="docs", {fields})\n{image("app")}{more}')
    )
    runner.set_options(OPTIONS)


def build(runner: RuleRunner) -> Dict[str, bytes]:
    field_set = OpamDocsFieldSet.create(runner.get_target(Address("images", target_name="docs")))
    built = runner.request(BuiltPackage, [field_set])
    return {file.path: file.content for file in runner.request(DigestContents, [built.digest])}


def seen(runner: RuleRunner) -> Any:
    return json.loads(build(runner)["images/docs/index.html"])


def failure(runner: RuleRunner) -> str:
    with pytest.raises(ExecutionError) as raised:
        build(runner)
    return str(raised.value.wrapped_exceptions[0])


def test_packages_and_what_they_depend_on(rule_runner: RuleRunner) -> None:
    write(rule_runner, 'packages=["3rdparty/opam:default#app"], title="Mine"')
    assert set(build(rule_runner)) == {"images/docs/index.html", "images/docs/a/index.html"}
    said = seen(rule_runner)
    request = said["request"]
    # odoc and what it needs is below, and is not documented.
    assert said["of"] == {"app": "app", "lib": "lib", "ocaml-system": "ocaml-system"}
    assert len(request["layers"]) == 2 + 5 + 1
    assert (request["title"], request["base_library"]) == ("Mine", "ocaml-system")
    assert [(one["version"], one["synopsis"]) for one in request["packages"]] == [
        ("2", ""),
        ("1", "A library"),
        ("1", ""),
    ]


def test_packages_alone_by_another_odoc(rule_runner: RuleRunner) -> None:
    write(rule_runner, f'packages=["3rdparty/opam:default#app"], with_dependencies=False, odoc={ODOC}')
    said = seen(rule_runner)
    assert said["of"] == {"app": "app"} and said["request"]["base_library"] == ""
    assert len(said["request"]["layers"]) == 2 + 4 + 1


def test_packages_of_an_image_and_of_a_resolve(rule_runner: RuleRunner) -> None:
    write(rule_runner, f'packages=[":image"], odoc={ODOC}')
    assert set(seen(rule_runner)["of"]) == {"app", "lib", "ocaml-system"}
    write(rule_runner, f'packages=["3rdparty/opam:default"], odoc={ODOC}')
    assert set(seen(rule_runner)["of"]) == {package.name for package in PACKAGES}


@pytest.mark.parametrize(
    ("fields", "packages", "message"),
    [
        ('packages=["3rdparty/opam:default#app"]', PACKAGES[:3], "the resolve `default` has no package odoc"),
        ('packages=["3rdparty/opam:roots"]', PACKAGES, "names 3rdparty/opam:roots, which is a `opam_requirement`"),
        ("packages=[]", PACKAGES, "is empty"),
        (
            'packages=["3rdparty/opam:default#app"], odoc="3rdparty/opam:roots"',
            PACKAGES,
            "names 3rdparty/opam:roots, which is a `opam_requirement`",
        ),
        (
            'packages=["3rdparty/opam:default#app"], odoc="3rdparty/opam:other#odoc"',
            PACKAGES,
            "takes one `opam_package` of the resolve `default`",
        ),
        (
            'packages=["3rdparty/opam:default#app", "3rdparty/opam:other#odoc"]',
            PACKAGES,
            "names packages of the resolves default, other",
        ),
    ],
)
def test_what_cannot_be_documented(rule_runner: RuleRunner, fields: str, packages: Any, message: str) -> None:
    write(rule_runner, fields, *packages)
    rule_runner.write_files(
        {
            "3rdparty/opam/other.lock": opam_lock(Pkg("odoc"), resolve="other", base="//3rdparty/debian:second"),
            "3rdparty/opam/BUILD": 'opam_packages(name="default")\nopam_packages(name="other", resolve="other")\n'
            'opam_requirement(name="roots", requirements=[])\n',
        }
    )
    assert message in failure(rule_runner)


def test_a_package_that_does_not_build(rule_runner: RuleRunner) -> None:
    write(rule_runner, f'packages=["3rdparty/opam:default#app"], odoc={ODOC}', *PACKAGES[2:], Pkg("lib", opam="fail"))
    message = failure(rule_runner)
    assert "There is nothing to document, as packages were not built (app.2 because of that)" in message
    assert "lib does not compile" in message


@pytest.mark.parametrize(("odoc", "name"), [(f", odoc={ODOC}", "conf-odoc"), ("", "odoc")])
def test_odoc_is_a_dependency(rule_runner: RuleRunner, odoc: str, name: str) -> None:
    write(rule_runner, f'packages=["3rdparty/opam:default#app"]{odoc}')
    result = rule_runner.run_goal_rule(Dependencies, global_args=OPTIONS, args=["images:docs"])
    assert result.stdout.splitlines() == ["3rdparty/opam:default#app", f"3rdparty/opam:default#{name}"]
