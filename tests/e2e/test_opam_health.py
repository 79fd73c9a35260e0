"""`opam-health`, `opam-list` and `opam-revdeps` with the base's real opam: a repository with one of each kind of trouble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from bench.scratch_project import Run, ScratchProject

FAILS = 'build: ["sh" "-c" "echo Error: it is broken; exit 2"]'
PACKAGES = {
    "good.1": 'install: ["sh" "-c" "echo good > %{lib}%/good"]',
    "good.2": "available: false",
    "above.1": 'depends: ["good"]\nbuild: ["test" "-e" "%{lib}%/good"]',
    "optional.1": 'depopts: ["good"]',
    "broken.1": FAILS,
    "on-broken.1": 'depends: ["broken" "good"]',
    "hangs.1": 'build: ["sleep" "1000"]',
    "impossible.1": 'depends: ["good" {> "5"}]',
    "header.1": 'build: ["sh" "-c" "echo \'#include <nowhere.h>\' > x.c; gcc -c x.c"]',
    "tested.1": 'build: ["true"]\nrun-test: ["sh" "-c" "echo Error: 2 is not 3; false"]\ndepends: ["good" {with-test}]',
    "nosource.1": 'url { src: "http://127.0.0.1:9/nosource.tgz" checksum: "md5=00000000000000000000000000000000" }',
    "nodepext.1": 'depexts: [["there-is-no-such-package"]]',
    "accepted.1": f'x-ci-accept-failures: ["debian-13"]\n{FAILS}',
}
STATUS = {
    "good.1": "success",
    "above.1": "success",
    "optional.1": "success",
    "broken.1": "failure",
    "on-broken.1": "dependency_failed",
    "hangs.1": "timed_out",
    "impossible.1": "no_solution",
    "header.1": "failure",
    "tested.1": "success",
    "nosource.1": "no_source",
    "nodepext.1": "no_depext",
    "accepted.1": "failure",
}
BUILD = """
opam_health_check(name="health", base="//3rdparty/debian:trixie")
opam_health_check(name="tests", base="//3rdparty/debian:trixie", packages=["tested", "above"], with_test=True)
"""


class Project(ScratchProject):
    """`check` runs a health check; `roots` are the results of the last one, by full name."""

    def package(self, title: str, text: str) -> None:
        path = f"repository/packages/{title.partition('.')[0]}/{title}/opam"
        self.write({path: f'opam-version: "2.0"\n{text}\n'})

    def check(self, target: str, *options: str) -> Run:
        return self.pants("opam-health", *options, f"//:{target}")

    def results(self, target: str, goal: str = "opam-health") -> Dict[str, Any]:
        return dict(json.loads((self.directory / f"dist/{goal}/{target}/results.json").read_text()))

    def roots(self, target: str, goal: str = "opam-health") -> Dict[str, Dict[str, Any]]:
        return {root["name"]: root for root in self.results(target, goal)["roots"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("health") / "project"
    project = Project(directory, ["default"], options='build_timeout = "8s"')
    config = directory / "pants.toml"
    config.write_text(f'{config.read_text()}\n[opam-health.resolves]\nhealth = "health.lock"\ntests = "tests.lock"\n')
    for title, text in PACKAGES.items():
        project.package(title, text)
    project.write({"BUILD": BUILD})
    project.must("generate-lockfiles", "--resolve=health", "--resolve=tests")
    yield project
    project.stop_daemon()


@pytest.fixture(scope="module")
def first(project: Project) -> Run:
    before = project.check("health", "--dry-run")
    assert before.status == 0 and not (project.directory / "dist").exists()
    return project.check("health")


def test_each_is_what_it_is(project: Project, first: Run) -> None:
    assert first.status == 1 and "Traceback" not in first.output
    roots = project.roots("health")
    assert {name: root["status"] for name, root in roots.items()} == STATUS
    assert "it is broken" in roots["broken.1"]["reason"] and roots["broken.1"]["kind"] == "build"
    assert "nowhere.h" in roots["header.1"]["reason"] and roots["header.1"]["kind"] == "depext"
    assert "good" in roots["impossible.1"]["reason"]
    assert "nosource.tgz" in roots["nosource.1"]["reason"]
    assert "there-is-no-such-package" in roots["nodepext.1"]["reason"]
    packages = project.results("health")["packages"]
    assert "broken.1" in str(packages[roots["on-broken.1"]["package"]]["blocked_by"])


def test_nothing_is_built_again(project: Project, first: Run) -> None:
    """But what took too long: another limit, or another machine, may do."""
    again = project.check("health")
    built = {line.rpartition(" ")[2] for line in again.output.splitlines() if "Starting: Build opam package" in line}
    assert built <= {"hangs.1"}
    assert {name: root["status"] for name, root in project.roots("health").items()} == STATUS


def test_tests_are_run(project: Project, first: Run) -> None:
    assert project.check("tests").status == 1
    roots = project.roots("tests")
    assert (roots["tested.1"]["status"], roots["tested.1"]["kind"]) == ("failure", "test")
    assert "2 is not 3" in roots["tested.1"]["reason"]
    assert roots["above.1"]["status"] == "success"


def test_only_regressions_count(project: Project, first: Run) -> None:
    results = project.directory / "before.json"
    results.write_text(json.dumps(project.results("health")))
    options = ("--baseline=before.json", "--fail-on=regressions")
    assert project.check("health", *options).status == 0
    project.package("good.1", FAILS)
    try:
        stale = project.check("health", *options)
        assert stale.status == 1 and "generate-lockfiles --resolve=health" in stale.output
        project.must("generate-lockfiles", "--resolve=health")
        worse = project.check("health", *options)
        assert worse.status == 1 and "good.1" in worse.output
        roots = project.roots("health")
        assert roots["good.1"]["status"] == "failure"
        assert roots["above.1"]["status"] == roots["optional.1"]["status"].replace("success", "dependency_failed")
        report = (project.directory / "dist/opam-health/health/report.md").read_text()
        assert "good.1" in report
    finally:
        project.package("good.1", PACKAGES["good.1"])
        project.must("generate-lockfiles", "--resolve=health")


def test_what_is_available(project: Project) -> None:
    listed = project.must("opam-list", "//:health").output.split()
    assert {"good.1", "above.1", "impossible.1"} < set(listed) and "good.2" not in listed
    values = json.loads(project.must("--level=error", "opam-list", "--json", "//:health").output)
    assert {"name": "above", "version": "1"}.items() <= next(
        one for one in values[0]["packages"] if one["name"] == "above"
    ).items()


def test_what_depends_on_a_package(project: Project, first: Run) -> None:
    listed = project.must("opam-revdeps", "--of=good", "//:health").output
    assert "1 above.1 (depends" in listed and "1 optional.1 (depopts" in listed and "1 tested.1 (test" in listed
    assert "impossible" not in listed
    project.package("good.1", FAILS)
    try:
        broken = project.pants("opam-revdeps", "--of=good", "--build", "//:health")
        assert broken.status == 1
        roots = project.roots("health", "opam-revdeps")
        assert roots["above.1"]["status"] == roots["on-broken.1"]["status"] == "dependency_failed"
        assert "broken.1" not in roots
    finally:
        project.package("good.1", PACKAGES["good.1"])


def test_nothing_to_work_on(project: Project) -> None:
    run = project.pants("opam-health", "3rdparty/debian:trixie")
    assert run.status == 1 and "`opam_health_check`" in run.output and "Traceback" not in run.output
    wrong = project.directory / "wrong"
    wrong.mkdir(exist_ok=True)
    (wrong / "BUILD").write_text('opam_health_check(name="health", base="//3rdparty/debian:trixie")\n')
    try:
        run = project.check("health")
        assert run.status == 1 and "both have the resolve `health`" in run.output
    finally:
        (wrong / "BUILD").unlink()


def test_a_selection_that_means_nothing(project: Project) -> None:
    text = BUILD.replace('packages=["tested", "above"]', 'packages=["abov"]')
    project.write({"BUILD": text})
    try:
        run = project.pants("generate-lockfiles", "--resolve=tests")
        assert run.status == 1 and "did you mean above" in run.output, run.output
    finally:
        project.write({"BUILD": BUILD})


def test_files_beside_each_other(project: Project, first: Run) -> None:
    directory = Path(project.directory, "dist/opam-health/health")
    names = {path.name for path in directory.iterdir()}
    assert {"results.json", "junit.xml", "report.md", "graph.dot", "graph.svg", "index.html"} <= names
