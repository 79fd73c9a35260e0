"""`tailor` for opam files and lockfiles."""

from __future__ import annotations

import pytest
from pants.core.goals import tailor
from pants.core.goals.tailor import PutativeTarget, PutativeTargets
from pants.testutil.rule_runner import RuleRunner

from opam_oci.goals.tailor import _OPAM_VERSION, PutativeOpamTargetsRequest
from opam_oci.target_types import OpamPackagesTarget, OpamRequirementTarget
from opam_oci.target_types_projects import OpamProjectTarget
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, opam_lock

FILES = {
    "3rdparty/debian/BUILD": DEBIAN_BUILD,
    "src/mine/mine.opam": 'depends: ["lwt"]',
    "src/mine/theirs.opam": "",
    "src/mine/BUILD": 'opam_requirement(name="t", source="theirs.opam")',
    "overlay/packages/a/a.1/a.opam": "",
    "3rdparty/opam/default.lock": opam_lock(),
    "3rdparty/opam/other.lock": opam_lock(resolve="other"),
}
DIRECTORIES = ("src/mine", "overlay/packages/a/a.1", "3rdparty/opam")


def putative(runner: RuleRunner, *options: str, directories: tuple[str, ...] = DIRECTORIES) -> list[PutativeTarget]:
    runner.set_options([*OPTIONS, "--opam-repositories={'o': 'overlay'}", *options])
    found = runner.request(PutativeTargets, [PutativeOpamTargetsRequest(directories)])
    return sorted(found)


def requirement(path: str, name: str) -> PutativeTarget:
    return PutativeTarget.for_target_type(
        OpamRequirementTarget, path, name, [f"{name}.opam"], kwargs={"source": f"{name}.opam"}
    )


def plain(path: str) -> PutativeTarget:
    return PutativeTarget.for_target_type(OpamRequirementTarget, path, "opam", ["opam"], kwargs={"source": "opam"})


def packages(name: str, **kwargs: str) -> PutativeTarget:
    return PutativeTarget.for_target_type(OpamPackagesTarget, "3rdparty/opam", name, [], kwargs=kwargs)


def test_what_is_proposed(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    assert putative(rule_runner) == [
        packages("default"),
        packages("other", resolve="other"),
        requirement("src/mine", "mine"),
    ]


def project(path: str, *files: str) -> PutativeTarget:
    return PutativeTarget.for_target_type(OpamProjectTarget, path, path.rpartition("/")[2] or "root", files)


def test_projects(rule_runner: RuleRunner) -> None:
    """Where there is something to build, all opam files of a directory are one project; what lies below is a part of it."""
    text = 'opam-version: "2.0"\n'
    files = {
        "a/one.opam": "",
        "a/two.opam": "",
        "a/dune-project": "",
        "a/vendor/x/x.opam": "",
        "a/vendor/x/dune-project": "",
        "ab/z.opam": "",
        "b/opam": text,
        "b/src/main.ml": "",
        "c/deep.opam": "",
        "c/d/e/deep.ml": "",
        # A requirement says what is wanted of this directory.
        "d/d.opam": "",
        "d/more.opam": "",
        "d/d.ml": "",
        "d/BUILD": 'opam_requirement(name="r", source="d.opam")',
        # Among the sources of a project, whether it builds them or not.
        "e/e.opam": "",
        "e/left.opam": "",
        "e/below/below.opam": "",
        "e/below/x.ml": "",
        "e/BUILD": 'opam_project(opam_files=["e.opam"])',
        "e/out/out.opam": "",
        "f/f.opam": "",
        "f/other/f.opam": "",
        "f/BUILD": 'opam_project(sources=["f.opam", "*.ml"])',
    }
    rule_runner.write_files(files)
    directories = tuple(path.rpartition("/")[0] for path in files)
    assert putative(rule_runner, directories=directories) == sorted(
        [
            project("a", "one.opam", "two.opam"),
            requirement("ab", "z"),
            project("b", "opam"),
            requirement("c", "deep"),
            requirement("d", "more"),
            requirement("f/other", "f"),
        ]
    )


def test_a_project_in_the_build_root(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({"top.opam": "", "dune-project": "", "x/x.opam": ""})
    assert putative(rule_runner, directories=("", "x")) == [project("", "top.opam")]


def test_a_file_of_empty_lines_takes_no_time() -> None:
    # Time that grows with the square of this would be minutes.
    assert not _OPAM_VERSION.search(b"\n" * 400_000 + b"x")
    assert _OPAM_VERSION.search(b"\n" * 400_000 + b' opam-version: "2.0"')


def test_only_in_the_directories_asked_for(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    assert putative(rule_runner, directories=("src/mine",)) == [requirement("src/mine", "mine")]


def test_nothing_for_lockfiles_that_are_read_or_not_there(rule_runner: RuleRunner) -> None:
    files = {**FILES, "elsewhere/BUILD": 'opam_packages(name="x")'}
    del files["3rdparty/opam/other.lock"]
    rule_runner.write_files(files)
    assert putative(rule_runner) == [requirement("src/mine", "mine")]


def test_files_named_opam(rule_runner: RuleRunner) -> None:
    """Those that are opam files, and no packages of a repository."""
    text = 'opam-version: "2.0"\n'
    files = {
        "a/opam": text,
        "b/opam/opam": f"# a project\n{text}",
        "c/opam/zed.opam": text,
        "d/opam": "#!/bin/sh\n",
        "e/mine.opam.template": text,
        "e/mine.opam.locked": text,
        "f/packages/x/x.1/opam": text,
        "overlay/opam": text,
        "g/opam": text,
        "g/BUILD": 'opam_requirement(name="t", source="opam")',
    }
    rule_runner.write_files(files)
    directories = tuple(path.rpartition("/")[0] for path in files)
    assert putative(rule_runner, directories=directories) == [
        plain("a"),
        plain("b/opam"),
        PutativeTarget.for_target_type(
            OpamRequirementTarget, "c/opam", "zed", ["zed.opam"], kwargs={"source": "zed.opam"}
        ),
    ]


@pytest.mark.parametrize(
    ("option", "kept"),
    [("--no-opam-tailor-requirements", "opam_packages"), ("--no-opam-tailor-packages", "opam_requirement")],
)
def test_switched_off(rule_runner: RuleRunner, option: str, kept: str) -> None:
    rule_runner.write_files(FILES)
    assert {target.type_alias for target in putative(rule_runner, option)} == {kept}


def test_a_target_for_several_resolves_reads_them_all(rule_runner: RuleRunner) -> None:
    text = 'opam_packages(name="x", resolve=parametrize("default", b="other"))'
    rule_runner.write_files({**FILES, "elsewhere/BUILD": text})
    assert putative(rule_runner) == [requirement("src/mine", "mine")]


def test_before_there_is_a_lockfile(rule_runner: RuleRunner) -> None:
    """`tailor` needs none: the real goal looks at all targets."""
    rule_runner.write_files(
        {"src/BUILD": 'opam_packages(name="x")\nopam_requirement(name="y", source="y.opam")\n', "src/y.opam": ""}
    )
    done = rule_runner.run_goal_rule(tailor.TailorGoal, global_args=OPTIONS, args=["--check", "::"])
    assert (done.exit_code, done.stdout) == (0, "")
    rule_runner.write_files({"src/z.opam": ""})
    done = rule_runner.run_goal_rule(tailor.TailorGoal, global_args=OPTIONS, args=["--check", "::"])
    assert done.exit_code == 1 and "Add opam_requirement target z" in done.stdout
