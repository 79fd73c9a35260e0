"""OCaml projects of this repository: their sources, and what is wrong with projects."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pants.backend.project_info.list_targets import List
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.projects.sources import ProjectTree, ProjectTreeRequest
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, Pkg, opam_lock
from tests.backend.projects import BUILD, FILES, goal, inputs_problem, local, problem


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files(FILES)
    rule_runner.set_options(OPTIONS)
    return rule_runner


# What is wrong with a project

DUNE = '; (generate_opam_files false)\n(generate_opam_files)\n(package (name wrong))\n(package\n (name "more"))'


@pytest.mark.parametrize(
    ("fields", "files", "message"),
    [
        ("", {}, "target wrong:wrong has no opam file: neither NAME.opam nor opam is in wrong"),
        ("", {"dune-project": "(lang dune 3.0)", "below/wrong.opam": ""}, "hides it from Pants."),
        ("", {"dune-project": DUNE}, "`dune build wrong.opam more.opam` in wrong writes it"),
        ('opam_files=["more.opam"]', {"dune-project": DUNE}, "names wrong/more.opam, which does not exist, or"),
        ('opam_files=["more.opam"]', {"dune-project": DUNE}, "`dune build more.opam` in wrong writes it"),
        ("", {"dune-project": "(generate_opam_files true)"}, "`dune build NAME.opam` in wrong writes it"),
        (
            'sources=["*.ml"]',
            {"wrong.opam": ""},
            "`sources` field in target wrong:wrong leaves out the opam file wrong/wrong.opam",
        ),
        (
            'sources=["**", "!opam/*"], opam_files=["opam/wrong.opam"]',
            {"opam/wrong.opam": ""},
            "`opam_files` field in target wrong:wrong names wrong/opam/wrong.opam, which the `sources` field leaves out",
        ),
        ("opam_files=[]", {"wrong.opam": ""}, "`opam_files` field in target wrong:wrong is empty"),
        ('opam_files=["a.txt"]', {}, "names 'a.txt', which is no opam file: opam's are named NAME.opam or opam."),
        ('opam_files=["wrong.opam.locked"]', {}, "names 'wrong.opam.locked', which is no opam file"),
        ('opam_files=["../app/app.opam"]', {}, "which is no path below the target's directory"),
        ('sources=["../*"]', {}, "must not have globs with the pattern"),
        ("sources=1", {"wrong.opam": ""}, "field in target wrong:wrong"),
    ],
)
def test_projects_that_cannot_be_built(runner: RuleRunner, fields: str, files: dict[str, str], message: str) -> None:
    there = {f"wrong/{name}": text for name, text in files.items()}
    runner.write_files({"wrong/BUILD": f"opam_project({fields})\n", **there})
    for found in (problem(runner, "wrong:"), inputs_problem(runner)):
        assert message.replace("'", "`") in found.replace("'", "`")
    # Another resolve has nothing to do with it.
    runner.request(ResolveInputs, [ResolveInputsRequest("other")])


def test_two_projects_of_one_package(runner: RuleRunner) -> None:
    runner.write_files({"src/two/lib.opam": "", "src/two/BUILD": "opam_project()\n"})
    message = "src/lib/lib.opam (of src/lib:lib) and src/two/lib.opam (of src/two:two) are opam files of one package in"
    assert message in inputs_problem(runner)
    assert message in problem(runner, "src/two:") and message in problem(runner, "src/lib:")
    runner.write_files({"src/two/BUILD": 'opam_project(resolve="other")\n'})
    runner.request(ResolveInputs, [ResolveInputsRequest("default")])
    runner.write_files({"src/two/BUILD": "", "src/app/BUILD": 'opam_project(name="a")\nopam_project(name="b")\n'})
    assert "src/app/app.opam (of src/app:a) and src/app/app.opam (of src/app:b)" in inputs_problem(runner)
    requirement = 'opam_requirement(name="r", source="x/app.opam")\n'
    runner.write_files({"src/app/BUILD": BUILD["src/app/BUILD"] + requirement, "src/app/x/app.opam": ""})
    message = (
        "src/app/x/app.opam (of src/app:r) and src/app/app.opam (of src/app:project) are opam files of one package"
    )
    assert message in inputs_problem(runner)


def test_targets_that_are_not_written_by_hand(rule_runner: RuleRunner) -> None:
    text = 'opam_local_package(name="x", package="a", version="1", opam_file="a.opam")'
    rule_runner.write_files({"wrong/BUILD": text})
    assert "is not written by hand, but wrong:x is. Use an `opam_project` target" in problem(rule_runner, "wrong:")


# Sources


def paths(runner: RuleRunner, package: str) -> list[str]:
    return [entry.path for entry in runner.request(ProjectTree, [ProjectTreeRequest("default", package)]).entries]


def tree_problem(runner: RuleRunner, package: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        paths(runner, package)
    return str(raised.value.wrapped_exceptions[0])


def test_the_sources_of_a_package(runner: RuleRunner) -> None:
    assert paths(runner, "app") == ["app.opam", "bin/main.ml", "dune-project"]
    assert paths(runner, "lib") == paths(runner, "lib-unix") == [".ocamlformat", "lib-unix.opam", "lib.ml", "lib.opam"]
    [entry] = runner.request(ProjectTree, [ProjectTreeRequest("default", "bench")]).entries
    assert entry.file_digest.fingerprint == hashlib.sha256(b"bench").hexdigest() and not entry.is_executable
    fields = 'name="project", sources=["*", "bin/*", "!BUILD", "!dune-*"]'
    runner.write_files({"src/app/BUILD": f"opam_project({fields})\n"})
    assert paths(runner, "app") == ["app.opam", "bin/main.ml"]


def test_sources_that_match_nothing(runner: RuleRunner) -> None:
    """As for all targets, `[GLOBAL].unmatched_build_file_globs` decides."""
    runner.write_files({"src/app/BUILD": 'opam_project(name="project", sources=["app.opam", "gone.ml"])\n'})
    assert paths(runner, "app") == ["app.opam"]
    runner.set_options([*OPTIONS, "--unmatched-build-file-globs=error"])
    assert "Unmatched glob" in tree_problem(runner, "app") and "src/app/gone.ml" in tree_problem(runner, "app")


def test_links_are_what_they_lead_to(runner: RuleRunner) -> None:
    top = Path(runner.build_root)
    runner.write_files({"shared/data.txt": "data", "shared/below/x.ml": "x"})
    (top / "src/app/linked.txt").symlink_to("../../shared/data.txt")
    (top / "src/app/linked").symlink_to("../../shared/below")
    runner.write_files({"src/app/new.ml": ""})
    entries = runner.request(ProjectTree, [ProjectTreeRequest("default", "app")]).entries
    found = {entry.path: entry.file_digest.fingerprint for entry in entries}
    assert set(found) == {"app.opam", "bin/main.ml", "dune-project", "linked.txt", "linked/x.ml", "new.ml"}
    assert found["linked.txt"] == hashlib.sha256(b"data").hexdigest()


def test_a_project_in_the_build_root(rule_runner: RuleRunner) -> None:
    files = {
        "BUILD": 'opam_project(name="top")\n',
        "top.opam": "",
        "src/x.ml": "",
        "3rdparty/opam/default.lock": opam_lock(local("top", "top.opam")),
        "3rdparty/debian/BUILD": DEBIAN_BUILD,
    }
    rule_runner.write_files(files)
    rule_runner.set_options(OPTIONS)
    assert paths(rule_runner, "top") == ["3rdparty/opam/default.lock", "src/x.ml", "top.opam"]
    assert goal(rule_runner, List, "//:") == ["//:top", "//:top#top", "//top.opam:top"]


def test_sources_that_are_gone(runner: RuleRunner) -> None:
    assert "it has no package user that is built from this repository" in tree_problem(runner, "user")
    runner.write_files({"src/app/BUILD": "", "images/BUILD": ""})
    found = tree_problem(runner, "app")
    message = "app.dev is built from the project of src/app/app.opam, but no `opam_project` target of the resolve has"
    assert message in found and "generate-lockfiles --resolve=default`" in found


# Lockfiles


@pytest.mark.parametrize(
    "more",
    [
        f'[[package.source]]\nname = ""\nurls = ["https://h.example/a"]\nsha256 = "{"0" * 64}"\nsize = 1',
        '[[package.source_out_of_reach]]\nname = ""\nurls = ["https://h.example/a"]\nchecksums = []',
        '[[package.file]]\npath = "x"\ncontent = ""',
    ],
)
def test_lockfiles_that_contradict_themselves(runner: RuleRunner, more: str) -> None:
    wrong = Pkg("app", extra=f'local = "src/app/app.opam"\n{more}\n')
    runner.write_files({"3rdparty/opam/default.lock": opam_lock(wrong)})
    assert "it is built from `local`, but has an archive or files as well" in problem(runner, "3rdparty/opam:")


@pytest.mark.parametrize("path", ["../x.opam", "/x.opam", "a//x.opam", ""])
def test_paths_that_leave_the_build_root(runner: RuleRunner, path: str) -> None:
    runner.write_files({"3rdparty/opam/default.lock": opam_lock(local("app", path))})
    assert "`local` is not a safe relative path" in problem(runner, "3rdparty/opam:")
