"""OCaml projects of this repository: their targets, and what a changed file touches."""

from __future__ import annotations

import json

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
from tests.backend.locktext import Pkg, image
from tests.backend.projects import BUILD, FILES, GROUND, PACKAGES, SOURCES, goal, local, lock, problem


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files(FILES)
    rule_runner.set_options(OPTIONS)
    return rule_runner


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
