"""Which targets a changed file touches: `--changed-since`, `filedeps`, `paths`, `peek`."""

from __future__ import annotations

import json

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.backend.project_info.dependents import DependentsGoal
from pants.backend.project_info.filedeps import Filedeps
from pants.backend.project_info.list_targets import List
from pants.backend.project_info.paths import PathsGoal
from pants.backend.project_info.peek import Peek
from pants.testutil.rule_runner import RuleRunner
from pants.vcs.changed import ChangedAddresses, ChangedRequest, DependentsOption

from opam_oci.target_types_files import file_target_name, path_in_build_root
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, debian_lock, image, opam_lock, project

ALL_OPTIONS = (
    *OPTIONS,
    "--debian-resolves={'trixie': '3rdparty/debian/trixie.lock', 'second': 'locks/second.lock', 'slim': 'slim.lock'}",
    "--opam-resolves={'default': '3rdparty/opam/default.lock', 'other': './locks/other.lock'}",
    "--opam-repositories={'own': 'vendor/repo/', 'gone': '../elsewhere', 'far': 'https://example.org/x.tar'}",
    "--opam-repository-order=['own', 'gone', 'far']",
)

FILES = {
    **project(Pkg("a"), Pkg("b", depends=["a"]), requirements=["b"]),
    "3rdparty/debian/BUILD": """
debian_rootfs(name="trixie", suite="trixie", packages=["opam"])
debian_rootfs(name="second", suite="trixie", packages=["opam"])
debian_rootfs(name="slim", suite="trixie", packages=["opam"])
""",
    "locks/second.lock": debian_lock("second"),
    "slim.lock": debian_lock("slim"),
    "locks/other.lock": opam_lock(Pkg("c"), resolve="other", base="//3rdparty/debian:second"),
    "3rdparty/opam/BUILD": 'opam_packages(name="default")\nopam_packages(name="other", resolve="other")\n',
    "vendor/repo/packages/a/a.1/opam": "",
    "vendor/repo/packages/a/a.1/files/x.patch": "",
    "vendor/other": "",
    "src/BUILD": 'opam_requirement(name="roots", requirements=["b"], source="mine.opam")\n',
    "src/mine.opam": "",
    "images/BUILD": (
        image("b", name="b")
        + image("a", name="slim", more='runtime=True, runtime_base="3rdparty/debian:slim"')
        + 'oci_package_image(name="c", packages=["3rdparty/opam:other#c"])\n'
        + 'oci_image_layout(name="all", images=[":b", ":slim"])\n'
        + 'oci_image_layout(name="c-alone", images=[":c"])\n'
    ),
}

DEFAULT = {"images:b", "images:slim", "images:all"}
OTHER = {"images:c", "images:c-alone"}


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files(FILES)
    rule_runner.set_options(ALL_OPTIONS)
    return rule_runner


def touched(runner: RuleRunner, *files: str, dependents: DependentsOption = DependentsOption.TRANSITIVE) -> set[str]:
    found = runner.request(ChangedAddresses, [ChangedRequest(files, dependents)])
    return {str(address) for address in found}


def images_touched(runner: RuleRunner, *files: str) -> set[str]:
    return {address for address in touched(runner, *files) if address.startswith("images:")}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("3rdparty/opam/default.lock", DEFAULT),
        ("locks/other.lock", OTHER),
        ("3rdparty/debian/trixie.lock", DEFAULT),
        ("locks/second.lock", OTHER),
        ("slim.lock", {"images:slim", "images:all"}),
        # A repository's content is a part of what every lockfile says it is made for.
        ("vendor/repo/packages/a/a.1/opam", DEFAULT | OTHER),
        ("vendor/repo/packages/a/a.1/files/x.patch", DEFAULT | OTHER),
        ("vendor/repo/packages/new/new.1/opam", DEFAULT | OTHER),  # not there: as after a deletion
        ("vendor/other", set()),
        ("src/mine.opam", DEFAULT),
        ("src/BUILD", DEFAULT),
        ("3rdparty/debian/BUILD", DEFAULT | OTHER),
        ("pants.toml", set()),
    ],
)
def test_images_of_a_changed_file(runner: RuleRunner, file: str, expected: set[str]) -> None:
    assert images_touched(runner, file) == expected


def test_what_a_lockfile_touches(runner: RuleRunner) -> None:
    assert touched(runner, "3rdparty/opam/default.lock") - DEFAULT == {
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:default",
        "3rdparty/opam:default#a",
        "3rdparty/opam:default#b",
    }
    direct = touched(runner, "locks/other.lock", dependents=DependentsOption.DIRECT)
    assert direct == {"locks:_opam_lockfile_other", "3rdparty/opam:other#c"}


def test_images_that_share_layers_by_name(runner: RuleRunner) -> None:
    """They may name each other: no cycle, and a change of one image's packages touches the other."""
    runner.write_files(
        {
            "images/BUILD": 'oci_package_image(name="c", packages=["3rdparty/opam:other#c"], shared_with=[":b"])\n'
            + image("b", name="b", more='shared_with=[":c"]')
            + 'oci_package_image(name="flat", packages=["3rdparty/opam:other#c"], shared_with=[":b"], layers="flat")\n'
        }
    )
    assert images_touched(runner, "3rdparty/opam/default.lock") == {"images:b", "images:c"}
    done = runner.run_goal_rule(Dependencies, global_args=ALL_OPTIONS, args=["--transitive", "images:c"])
    assert "3rdparty/opam:default#a" in done.stdout.splitlines()


def test_layouts_of_other_machines(runner: RuleRunner) -> None:
    """Files that an index is made of are touched where a target owns them, as docs/ci.md says."""
    runner.write_files(
        {
            "prebuilt/BUILD": 'file(name="arm64", source="arm64/index.json")\n',
            "prebuilt/arm64/index.json": "{}",
            "images/BUILD": 'oci_image_index(name="i", layouts=["prebuilt/arm64"], dependencies=["prebuilt:arm64"])\n',
        }
    )
    assert images_touched(runner, "prebuilt/arm64/index.json") == {"images:i"}


def goal(runner: RuleRunner, subsystem: type, *args: str) -> list[str]:
    done = runner.run_goal_rule(subsystem, global_args=ALL_OPTIONS, args=args)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_filedeps_names_files_that_are_there(runner: RuleRunner) -> None:
    assert goal(runner, Filedeps, "--transitive", "images:b") == [
        "3rdparty/debian/BUILD",
        "3rdparty/debian/trixie.lock",
        "3rdparty/opam/BUILD",
        "3rdparty/opam/default.lock",
        "images/BUILD",
        "src/BUILD",
        "src/mine.opam",
        "vendor/repo",
        "vendor/repo/packages/a/a.1/files/x.patch",
        "vendor/repo/packages/a/a.1/opam",
    ]


def test_peek_and_paths(runner: RuleRunner) -> None:
    [lockfile] = json.loads("\n".join(goal(runner, Peek, "3rdparty/opam:_opam_lockfile_default")))
    assert (lockfile["resolve"], lockfile["sources"]) == ("default", ["3rdparty/opam/default.lock"])
    assert lockfile["dependencies"] == ["src:roots", "vendor:_opam_repository_own"]
    [base] = json.loads("\n".join(goal(runner, Peek, "locks:_debian_lockfile_second")))
    assert base["sources"] == ["locks/second.lock"]
    [ways] = [goal(runner, PathsGoal, "--from=images:c", "--to=locks:_opam_lockfile_other")]
    assert json.loads("\n".join(ways)) == [["images:c", "3rdparty/opam:other#c", "locks:_opam_lockfile_other"]]


def test_dependents_of_files(runner: RuleRunner) -> None:
    assert goal(runner, DependentsGoal, "3rdparty/debian:_debian_lockfile_trixie") == ["3rdparty/debian:trixie"]
    assert goal(runner, List, "slim.lock") == ["//:_debian_lockfile_slim"]


def test_options_that_no_target_can_own(rule_runner: RuleRunner) -> None:
    """Looking around goes on where options make no sense; who needs the file says so."""
    rule_runner.write_files({"src/BUILD": 'opam_requirement(name="r", requirements=["a"])'})
    options = (
        "--opam-resolves={'a': '/tmp/a.lock', 'b': '../b.lock', 'c/d e': '3rdparty/c.lock', 'f': '.'}",
        "--debian-resolves={'x': 'locks/*.lock'}",
        "--opam-repositories={'ü': 'x', 'y': '!y', '': 'z'}",
    )
    done = rule_runner.run_goal_rule(List, global_args=options, args=["::"])
    assert done.stdout.splitlines() == ["3rdparty:_opam_lockfile_c%2f%d%20%e", "src:r"]


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("a.lock", "a.lock"),
        ("./a//b.lock", "a/b.lock"),
        ("a/../b", "b"),
        ("../a", ""),
        ("/a", ""),
        ("", ""),
        ("a*", ""),
    ],
)
def test_path_in_build_root(path: str, short: str) -> None:
    assert path_in_build_root(path) == short


def test_names_of_file_targets_differ() -> None:
    names = ["a", "A", "%", "a_b", "a b", "a:b", "a;b", "a_20_b", "ä", "a.b", "a-b", "a+b"]
    assert len({file_target_name("x", name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "file", ["locks/health.lock", "locks/second.lock", "vendor/repo/packages/a/a.1/opam", "3rdparty/debian/BUILD"]
)
def test_what_touches_a_health_check(rule_runner: RuleRunner, file: str) -> None:
    health = {
        "health/BUILD": 'opam_health_check(name="all", base="//3rdparty/debian:second")\n',
        "locks/health.lock": "",
    }
    rule_runner.write_files({**FILES, **health})
    rule_runner.set_options([*ALL_OPTIONS, "--opam-health-resolves={'all': 'locks/health.lock'}"])
    assert "health:all" in touched(rule_runner, file)
    assert "health:all" not in touched(rule_runner, "3rdparty/opam/default.lock")
    assert "health:all" not in touched(rule_runner, "vendor/other")
