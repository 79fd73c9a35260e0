"""OCaml projects of this repository: their targets, their sources, and what a changed file touches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pants.backend.project_info.dependencies import Dependencies
from pants.backend.project_info.dependents import DependentsGoal
from pants.backend.project_info.filedeps import Filedeps
from pants.backend.project_info.list_targets import List
from pants.backend.project_info.peek import Peek
from pants.core.goals import tailor
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner
from pants.vcs.changed import ChangedAddresses, ChangedRequest, DependentsOption

from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest
from opam_oci.projects.sources import ProjectTree, ProjectTreeRequest
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, Pkg, debian_lock, image, opam_lock, toml_list

# `app` is built with `lib` and the released `user`, which depends on `lib` too; `lib` is tested with `bench`, `bench` is built
# with `lib`; `alone` has nothing to do with the others.
SOURCES = {
    "src/app/app.opam": "app",
    "src/app/bin/main.ml": "let () = ()",
    "src/app/dune-project": "(lang dune 3.0)",
    "src/lib/lib.opam": "lib",
    "src/lib/lib-unix.opam": "lib-unix",
    "src/lib/lib.ml": "let x = 1",
    "src/lib/_build/log": "made",
    "src/lib/vendor/_opam/x": "made",
    "src/lib/vendor/BUILD": "",
    "src/lib/.ocamlformat": "version = 1",
    "src/bench/bench.opam": "bench",
    "src/alone/opam": 'name: "alone"',
    "src/alone/main.ml": "",
}
BUILD = {
    "src/app/BUILD": 'opam_project(name="project", tags=["t"])\n',
    "src/lib/BUILD": "opam_project()\n",
    "src/bench/BUILD": "opam_project()\n",
    "src/alone/BUILD": "opam_project()\n",
}
OPAM_FILES = sorted(path for path in SOURCES if path.endswith("opam"))


def local(name: str, path: str, **fields: object) -> Pkg:
    more = {key: fields.pop(key) for key in ("test_depends",) if key in fields}
    extra = f'local = "{path}"\n' + "".join(f"{key} = {toml_list(value)}\n" for key, value in more.items())
    return Pkg(name, extra=extra, **fields)


PACKAGES = (
    local("app", "src/app/app.opam", depends=["lib", "user"], version="dev"),
    local("lib", "src/lib/lib.opam", test_depends=["bench", "checks"], post=["later"]),
    local("lib-unix", "src/lib/lib-unix.opam", depends=["lib"]),
    local("bench", "src/bench/bench.opam", depends=["lib"]),
    local("alone", "src/alone/opam"),
    Pkg("user", depends=["lib"]),
    Pkg("checks"),
    Pkg("later"),
    Pkg("other"),
)


def line(path: str, content: str) -> str:
    return f"{path} sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def lock(*packages: Pkg, resolve: str = "default", files: "list[str] | None" = None) -> str:
    lines = [line(path, SOURCES[path]) for path in (OPAM_FILES if files is None else files)]
    base = {"default": "//3rdparty/debian:trixie", "other": "//3rdparty/debian:second"}[resolve]
    text = opam_lock(*packages, resolve=resolve, base=base)
    return text.replace("constraints = []", f"constraints = []\nopam_files = {toml_list(lines)}")


FILES = {
    **SOURCES,
    **BUILD,
    "3rdparty/debian/BUILD": DEBIAN_BUILD,
    "3rdparty/debian/trixie.lock": debian_lock(),
    "3rdparty/debian/second.lock": debian_lock("second"),
    "3rdparty/opam/BUILD": 'opam_packages(name="default")\n',
    "3rdparty/opam/default.lock": lock(*PACKAGES),
    "images/BUILD": 'oci_package_image(name="app", packages=["src/app:project#app"])\n'
    'oci_package_image(name="alone", packages=["src/alone"])\n'
    'oci_package_image(name="unix", packages=["src/lib#lib-unix"])\n' + image("other", name="other"),
}
GROUND = ["3rdparty/debian:trixie", "3rdparty/opam:_opam_lockfile_default"]


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files(FILES)
    rule_runner.set_options(OPTIONS)
    return rule_runner


def goal(runner: RuleRunner, kind: type, *args: str) -> list[str]:
    done = runner.run_goal_rule(kind, global_args=OPTIONS, args=args)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def problem(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.run_goal_rule(List, global_args=OPTIONS, args=args)
    return str(raised.value.wrapped_exceptions[0])


def inputs_problem(runner: RuleRunner) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.request(ResolveInputs, [ResolveInputsRequest("default")])
    return str(raised.value.wrapped_exceptions[0])


# Targets


def test_generated_targets(runner: RuleRunner) -> None:
    assert sorted(goal(runner, List, "src::")) == [
        "src/alone#alone",
        "src/alone/opam",
        "src/alone:alone",
        "src/app/app.opam:project",
        "src/app:project",
        "src/app:project#app",
        "src/bench#bench",
        "src/bench/bench.opam",
        "src/bench:bench",
        "src/lib#lib",
        "src/lib#lib-unix",
        "src/lib/lib-unix.opam",
        "src/lib/lib.opam",
        "src/lib:lib",
    ]
    assert set(goal(runner, List, "3rdparty/opam:")) == {
        "3rdparty/opam:default",
        "3rdparty/opam:_opam_lockfile_default",
        "3rdparty/opam:_opam_lockfile_other",
        *(f"3rdparty/opam:default#{name}" for name in ("checks", "later", "other", "user")),
    }
    [peeked] = json.loads("\n".join(goal(runner, Peek, "src/app:project#app")))
    fields = ("target_type", "package", "version", "resolve", "opam_file", "tags")
    assert [peeked[field] for field in fields] == [
        "opam_local_package",
        "app",
        "dev",
        "default",
        "src/app/app.opam",
        ["t"],
    ]
    assert peeked["sources"] == ["src/app/app.opam", "src/app/bin/main.ml", "src/app/dune-project"]


def test_dependencies(runner: RuleRunner) -> None:
    """Edges lead to the projects' own targets; what tests need counts where it is on no cycle."""
    assert goal(runner, Dependencies, "src/app:project#app") == [
        *GROUND,
        "3rdparty/opam:default#user",
        "src/lib#lib",
    ]
    assert goal(runner, Dependencies, "3rdparty/opam:default#user") == [*GROUND, "src/lib#lib"]
    assert goal(runner, Dependencies, "src/lib#lib") == [
        *GROUND,
        "3rdparty/opam:default#checks",
        "3rdparty/opam:default#later",
    ]
    transitive = goal(runner, Dependencies, "--transitive", "src/app:project#app")
    assert "src/app/app.opam:project" in transitive and "src/app:project" not in transitive


def test_without_targets_of_released_packages(runner: RuleRunner) -> None:
    """No `opam_packages`: what leads to other projects through released packages is still there."""
    app = local("app", "src/app/app.opam", depends=["user"], version="dev")
    text = lock(app, *PACKAGES[1:])
    runner.write_files({"3rdparty/opam/BUILD": "", "3rdparty/opam/default.lock": text, "images/BUILD": ""})
    assert goal(runner, Dependencies, "src/app:project#app") == [*GROUND, "src/lib#lib"]


# A file that changes


def touched(runner: RuleRunner, *files: str) -> set[str]:
    found = runner.request(ChangedAddresses, [ChangedRequest(files, DependentsOption.TRANSITIVE)])
    return {str(address) for address in found}


ABOVE_LIB = {
    *(
        "src/lib#lib",
        "src/lib#lib-unix",
        "src/app:project",
        "src/app:project#app",
        "src/bench:bench",
        "src/bench#bench",
    ),
    *("3rdparty/opam:default", "3rdparty/opam:default#user", "images:app", "images:unix"),
}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("src/app/bin/main.ml", {"src/app:project#app", "images:app"}),
        ("src/app/dune-project", {"src/app:project#app", "images:app"}),
        ("src/lib/.ocamlformat", ABOVE_LIB),
        ("src/lib/lib.ml", ABOVE_LIB),
        ("src/alone/main.ml", {"src/alone#alone", "images:alone"}),
        ("src/lib/_build/log", set()),
        ("src/lib/vendor/_opam/x", set()),
        # Not there, as after a deletion.
        ("src/app/bin/gone.ml", {"src/app:project", "src/app:project#app", "images:app"}),
        ("src/alone/gone.ml", {"src/alone:alone", "src/alone#alone", "images:alone"}),
    ],
)
def test_what_a_changed_file_touches(runner: RuleRunner, file: str, expected: set[str]) -> None:
    assert touched(runner, file) == expected


def test_an_opam_file_touches_the_lockfile(runner: RuleRunner) -> None:
    found = touched(runner, "src/app/app.opam")
    assert {"3rdparty/opam:_opam_lockfile_default", "images:other", "src/alone#alone"} <= found
    assert "3rdparty/opam:_opam_lockfile_other" not in found


def test_filedeps_and_dependents(runner: RuleRunner) -> None:
    assert goal(runner, Filedeps, "src/app:project#app") == [
        "src/app/BUILD",
        "src/app/app.opam",
        "src/app/bin/main.ml",
        "src/app/dune-project",
    ]
    assert goal(runner, DependentsGoal, "src/app/bin/main.ml") == ["images:app", "src/app:project"]
    assert goal(runner, List, "src/app/bin/main.ml") == ["src/app:project#app"]


# Inputs of a resolve


def test_opam_files_of_a_resolve(runner: RuleRunner) -> None:
    files = runner.request(ResolveInputs, [ResolveInputsRequest("default")]).opam_files
    assert [(file.path, file.package, file.target, file.build, file.directory) for file in files] == [
        ("src/alone/opam", "", "src/alone:alone", True, "src/alone"),
        ("src/app/app.opam", "app", "src/app:project", True, "src/app"),
        ("src/bench/bench.opam", "bench", "src/bench:bench", True, "src/bench"),
        ("src/lib/lib-unix.opam", "lib-unix", "src/lib:lib", True, "src/lib"),
        ("src/lib/lib.opam", "lib", "src/lib:lib", True, "src/lib"),
    ]
    assert runner.request(ResolveInputs, [ResolveInputsRequest("other")]).opam_files == ()
    plan = runner.request(BuildPlan, [BuildPlanRequest("default")])
    assert plan.lock.packages["app"].local == "src/app/app.opam" and plan.lock.packages["user"].local == ""


def test_what_is_a_requirement_as_well_is_built(runner: RuleRunner) -> None:
    more = 'opam_requirement(name="r", source="app.opam")\nopam_requirement(name="s", source="more.opam")\n'
    runner.write_files({"src/app/BUILD": BUILD["src/app/BUILD"] + more, "src/app/more.opam": ""})
    found = runner.request(ResolveInputs, [ResolveInputsRequest("default")]).opam_files
    by_path = {file.path: (file.build, file.target) for file in found}
    # The project has both: more.opam lies right in its directory.
    assert by_path["src/app/app.opam"] == by_path["src/app/more.opam"] == (True, "src/app:project")
    runner.write_files({"src/app/BUILD": 'opam_project(name="project", opam_files=["app.opam"])\n' + more})
    found = runner.request(ResolveInputs, [ResolveInputsRequest("default")]).opam_files
    assert {file.path: file.build for file in found}["src/app/more.opam"] is False


def test_a_stale_lockfile(runner: RuleRunner) -> None:
    def stale() -> str:
        with pytest.raises(ExecutionError) as raised:
            runner.request(BuildPlan, [BuildPlanRequest("default")])
        return str(raised.value.wrapped_exceptions[0])

    runner.write_files({"src/app/app.opam": "changed"})
    assert "opam files: not in the lockfile: src/app/app.opam sha256:" in stale()
    # What was a requirement has become a project.
    released = (Pkg("app"), *PACKAGES[1:])
    runner.write_files({"src/app/app.opam": SOURCES["src/app/app.opam"], "3rdparty/opam/default.lock": lock(*released)})
    assert "opam files of packages to build: not in the lockfile: src/app/app.opam" in stale()
    message = "lockfile 3rdparty/opam/default.lock: it has no package of src/app/app.opam, which src/app:project builds"
    found = problem(runner, "src/app:")
    assert message in found and "generate-lockfiles --resolve=default`" in found
    # A project that is gone.
    runner.write_files({"src/app/BUILD": "", "3rdparty/opam/default.lock": lock(*PACKAGES), "images/BUILD": ""})
    assert "opam files of packages to build: no longer asked for: src/app/app.opam" in stale()
    assert "3rdparty/opam:default#user" in goal(runner, List, "::")


def test_goals_that_need_no_lockfile(runner: RuleRunner) -> None:
    runner.write_files({"3rdparty/opam/default.lock": lock(Pkg("other"), files=[]), "src/app/dune": ""})
    done = runner.run_goal_rule(tailor.TailorGoal, global_args=OPTIONS, args=["--check", "::"])
    assert (done.exit_code, done.stdout) == (0, "")


def test_one_project_for_several_resolves(runner: RuleRunner) -> None:
    both = 'opam_project(name="p", resolve=parametrize("default", "other"))\n'
    build = 'opam_packages(name="p", resolve=parametrize("default", "other"))\n'
    packages = [local("alone", "src/alone/opam", depends=["x"]), Pkg("x")]
    images = "".join(
        f'oci_package_image(name="{name}", base="{base}", packages=["src/alone:p#alone@resolve={name}"])\n'
        for name, base in (("default", "3rdparty/debian:trixie"), ("other", "3rdparty/debian:second"))
    )
    locks = {
        f"3rdparty/opam/{resolve}.lock": lock(*packages, resolve=resolve, files=["src/alone/opam"])
        for resolve in ("default", "other")
    }
    runner.write_files(
        {
            **{path: "" for path in BUILD},
            "src/alone/BUILD": both,
            "3rdparty/opam/BUILD": build,
            **locks,
            "images/BUILD": images,
        }
    )
    assert set(goal(runner, List, "src/alone:")) == {
        f"src/alone{address}@resolve={resolve}"
        for address in ("/opam:p", ":p", ":p#alone")
        for resolve in ("default", "other")
    }
    assert goal(runner, Dependencies, "src/alone:p#alone@resolve=other") == [
        "3rdparty/debian:second",
        "3rdparty/opam:_opam_lockfile_other",
        "3rdparty/opam:p#x@resolve=other",
    ]
    assert goal(runner, Dependencies, "images:other") == [
        "3rdparty/debian:second",
        "src/alone:p#alone@resolve=other",
    ]
    tree = runner.request(ProjectTree, [ProjectTreeRequest("other", "alone")])
    assert [entry.path for entry in tree.entries] == ["main.ml", "opam"]
    assert {"images:default", "images:other"} <= touched(runner, "src/alone/gone.ml")


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


# Images


def test_images_of_projects(runner: RuleRunner) -> None:
    assert goal(runner, Dependencies, "images:app") == [
        "3rdparty/debian:trixie",
        "src/app:project#app",
    ]
    assert goal(runner, Dependencies, "images:alone") == [
        "3rdparty/debian:trixie",
        "src/alone#alone",
        "src/alone/opam",
    ]


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


def test_defaults_of_build_files(runner: RuleRunner) -> None:
    """What `__defaults__` says counts where targets are looked for without being made."""
    default = "__defaults__({opam_project: dict(resolve='other', sources=['*'], opam_files=['app.opam'])})\n"
    runner.write_files({"src/app/BUILD": default + BUILD["src/app/BUILD"]})
    [file] = runner.request(ResolveInputs, [ResolveInputsRequest("other")]).opam_files
    assert (file.path, file.build) == ("src/app/app.opam", True)


def test_packages_of_projects_only_on_the_way(runner: RuleRunner) -> None:
    """A post-dependency on a cycle, which no target leads to, may be a project's."""
    packages = (local("lib", "src/lib/lib.opam", depends=["hub"]), local("lib-unix", "src/lib/lib-unix.opam"))
    hub = (Pkg("hub", post=["lib"]), Pkg("x"))
    files = ["src/lib/lib-unix.opam", "src/lib/lib.opam"]
    gone = {path: "" for path in BUILD if path != "src/lib/BUILD"}
    runner.write_files(
        {**gone, "3rdparty/opam/default.lock": lock(*packages, *hub, files=files), "images/BUILD": image("hub")}
    )
    assert goal(runner, Dependencies, "images:image") == [
        "3rdparty/debian:trixie",
        "3rdparty/opam:default#hub",
        "src/lib#lib",
    ]


def test_links_among_the_sources(runner: RuleRunner) -> None:
    """They are built from as what they lead to: a file, or the files of a directory."""
    app = Path(runner.build_root, "src/app")
    (app / "link.ml").symlink_to("bin/main.ml")
    (app / "vendor").symlink_to("bin")
    (app / "outside").symlink_to("../lib/lib.ml")
    assert paths(runner, "app") == [
        "app.opam",
        "bin/main.ml",
        "dune-project",
        "link.ml",
        "outside",
        "vendor/main.ml",
    ]
