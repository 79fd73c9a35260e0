"""`opam-health`: nothing stops at a failure, what is known is not built again, and the exit status says what was asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Mapping, Sequence

import pytest
from pants.core.goals.generate_lockfiles import GenerateLockfilesGoal
from pants.engine.goal import Goal
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.goals.opam_health import OpamHealth
from opam_oci.goals.opam_list import OpamList
from opam_oci.goals.opam_revdeps import OpamRevdeps
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import DEBIAN_BUILD, Node, debian_lock, health_lock, node_id

HEALTH_OPTIONS = (
    *OPTIONS,
    "--opam-health-resolves={'health': '3rdparty/opam/health.lock'}",
    "--opam-repositories={}",
)
BUILD = 'opam_health_check(name="health", base="//3rdparty/debian:trixie")\n'


def project(nodes: Sequence[Node], roots: Sequence[Mapping[str, object]], **metadata: object) -> "dict[str, str]":
    return {
        "3rdparty/debian/BUILD": DEBIAN_BUILD,
        "3rdparty/debian/trixie.lock": debian_lock(),
        "3rdparty/opam/BUILD": BUILD,
        "3rdparty/opam/health.lock": health_lock(nodes, [dict(root) for root in roots], **metadata),
    }


def root(title: str, later: Sequence[str] = (), **more: object) -> "dict[str, object]":
    name, _, version = title.partition(".")
    return {
        "name": name,
        "version": version,
        "node": node_id(title),
        **({"later": list(later)} if later else {}),
        **more,
    }


def run(runner: RuleRunner, *options: str) -> GoalRuleResult:
    return runner.run_goal_rule(
        OpamHealth, global_args=[*HEALTH_OPTIONS, *options], args=["3rdparty/opam:health"], env_inherit={"PATH"}
    )


def results(runner: RuleRunner) -> "dict[str, dict[str, object]]":
    """Of roots, by name."""
    path = Path(runner.build_root) / "dist/opam-health/3rdparty.opam/health/results.json"
    return {one["name"]: one for one in json.loads(path.read_text())["roots"]}


def notes(path: Path) -> "list[str]":
    return path.read_text().split() if path.exists() else []


NODES = (
    Node(node_id("low.1"), opam="note_in={notes}"),
    Node(node_id("bad.1"), [node_id("low.1")], opam="note_in={notes} fail"),
    Node(node_id("above.1"), [node_id("bad.1")], opam="note_in={notes}"),
    Node(node_id("top.1"), [node_id("above.1"), node_id("low.1")], opam="note_in={notes}"),
    Node(node_id("good.1"), [node_id("low.1")], opam="note_in={notes}"),
)


def noting(path: Path, nodes: Sequence[Node] = NODES) -> "list[Node]":
    return [
        Node(one.id, one.depends, one.later, one.opam.format(notes=path), one.fields, one.package_fields)
        for one in nodes
    ]


@pytest.mark.usefixtures("fake_tool")
def test_a_failure_stops_only_what_stands_on_it(rule_runner: RuleRunner, tmp_path: Path) -> None:
    roots = [root("good.1"), root("top.1"), root("bad.1"), {"name": "none", "version": "", "reason": "no way"}]
    rule_runner.write_files(project(noting(tmp_path / "notes"), roots))
    done = run(rule_runner)
    assert done.exit_code == 1
    found = results(rule_runner)
    assert {name: one["status"] for name, one in found.items()} == {
        "good.1": "success",
        "bad.1": "failure",
        "top.1": "dependency_failed",
        "none": "no_solution",
    }
    assert sorted(notes(tmp_path / "notes")) == ["bad.1", "good.1", "low.1"]
    assert "bad.1" in done.stdout


@pytest.mark.usefixtures("fake_tool")
def test_what_is_known_is_not_built_again(tmp_path: Path) -> None:
    store, notes_file = tmp_path / "store", tmp_path / "notes"
    for _number in range(2):
        runner = new_runner(f"--local-store-dir={store}")
        runner.write_files(project(noting(notes_file), [root("good.1"), root("bad.1")]))
        assert run(runner).exit_code == 1
        # A failure is remembered like a success.
        assert sorted(notes(notes_file)) == ["bad.1", "good.1", "low.1"]
    runner = new_runner(f"--local-store-dir={store}")
    runner.write_files(project(noting(notes_file), [root("good.1"), root("bad.1")]))
    assert run(runner, "--opam-health-retry-failed").exit_code == 1
    assert sorted(notes(notes_file)) == ["bad.1", "bad.1", "good.1", "low.1"]


@pytest.mark.usefixtures("fake_tool")
def test_a_passing_failure_is_not_remembered(tmp_path: Path) -> None:
    store, notes_file = tmp_path / "store", tmp_path / "notes"
    nodes = noting(notes_file, [Node(node_id("a.1"), opam="note_in={notes} says=No_space_left_on_device")])
    for number in range(2):
        runner = new_runner(f"--local-store-dir={store}")
        runner.write_files(project(nodes, [root("a.1")]))
        assert run(runner).exit_code == 1
        assert len(notes(notes_file)) == number + 1


@pytest.mark.usefixtures("fake_tool")
def test_a_dry_run_builds_nothing(tmp_path: Path) -> None:
    store, notes_file = tmp_path / "store", tmp_path / "notes"
    files = project(noting(notes_file), [root("good.1"), root("top.1")])
    runner = new_runner(f"--local-store-dir={store}")
    runner.write_files(files)
    done = run(runner, "--opam-health-dry-run")
    assert done.exit_code == 0
    assert notes(notes_file) == []
    assert not (Path(runner.build_root) / "dist/opam-health").exists()
    # It leaves nothing behind that a run takes for a result.
    runner = new_runner(f"--local-store-dir={store}")
    runner.write_files(files)
    assert run(runner).exit_code == 1
    assert sorted(notes(notes_file)) == ["bad.1", "good.1", "low.1"]
    runner = new_runner(f"--local-store-dir={store}")
    runner.write_files(files)
    again = run(runner, "--opam-health-dry-run")
    assert sorted(notes(notes_file)) == ["bad.1", "good.1", "low.1"]
    assert "would build above.1" in again.stdout and "would build good.1" not in again.stdout


@pytest.mark.usefixtures("fake_tool")
def test_a_daemon_forgets_what_was_not_known(rule_runner: RuleRunner, tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(b"archive")
    source = {"name": "", "urls": [archive.as_uri()], "sha256": hashlib.sha256(b"archive").hexdigest(), "size": 7}
    nodes = [Node(node_id("a.1"), package_fields={"source": [source]}), Node(node_id("b.1"))]
    rule_runner.write_files(project(nodes, [root("a.1"), root("b.1")]))
    before = run(rule_runner, "--opam-health-dry-run").stdout
    assert run(rule_runner).exit_code == 0
    after = run(rule_runner, "--opam-health-dry-run").stdout
    assert before != after
    assert "would build a.1" in before and "would build" not in after


@pytest.mark.usefixtures("fake_tool")
def test_what_is_out_of_reach_is_said(rule_runner: RuleRunner, tmp_path: Path) -> None:
    missing = {"source_out_of_reach": [{"name": "", "urls": ["https://example.org/x.tgz"], "checksums": ["md5=00"]}]}
    nodes = [
        Node(node_id("a.1"), package_fields=missing),
        Node(node_id("b.1"), [node_id("a.1")]),
        Node(node_id("c.1"), fields={"depexts_out_of_reach": "apt has no libx-dev"}),
    ]
    rule_runner.write_files(project(nodes, [root("a.1"), root("b.1"), root("c.1")]))
    run(rule_runner)
    found = results(rule_runner)
    assert (found["a.1"]["status"], found["b.1"]["status"]) == ("no_source", "dependency_failed")
    assert found["c.1"]["status"] == "no_depext"
    assert "libx-dev" in str(found["c.1"]["reason"])


@pytest.mark.usefixtures("fake_tool")
def test_exit_status_by_what_was_asked(rule_runner: RuleRunner, tmp_path: Path) -> None:
    nodes = [Node(node_id("good.1")), Node(node_id("bad.1"), opam="fail")]
    rule_runner.write_files(project(nodes, [root("good.1"), root("bad.1")]))
    assert run(rule_runner, "--opam-health-fail-on=nothing").exit_code == 0
    first = (Path(rule_runner.build_root) / "dist/opam-health/3rdparty.opam/health/results.json").read_text()
    rule_runner.write_files({"before.json": first})
    options = ("--opam-health-fail-on=regressions", "--opam-health-baseline=before.json")
    assert run(rule_runner, *options).exit_code == 0
    worse = [Node(node_id("good.1"), opam="fail"), Node(node_id("bad.1"), opam="fail")]
    rule_runner.write_files(project(worse, [root("good.1"), root("bad.1")]))
    done = run(rule_runner, *options)
    assert done.exit_code == 1
    assert "good.1" in done.stdout


@pytest.mark.usefixtures("fake_tool")
def test_an_accepted_failure_does_not_count(rule_runner: RuleRunner) -> None:
    nodes = [Node(node_id("bad.1"), opam="fail", package_fields={"accept_failures": True})]
    rule_runner.write_files(project(nodes, [root("bad.1")]))
    assert run(rule_runner).exit_code == 0
    assert results(rule_runner)["bad.1"]["status"] == "failure"


@pytest.mark.usefixtures("fake_tool")
def test_what_comes_along_counts(rule_runner: RuleRunner) -> None:
    nodes = [Node(node_id("a.1"), later=["p.1"]), Node(node_id("p.1"), opam="fail")]
    rule_runner.write_files(project(nodes, [root("a.1", later=[node_id("p.1")])]))
    assert run(rule_runner).exit_code == 1
    assert results(rule_runner)["a.1"]["status"] == "dependency_failed"


@pytest.mark.usefixtures("fake_tool")
def test_a_run_that_has_no_time(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(project(noting(tmp_path / "notes"), [root("good.1")]))
    run(rule_runner, "--opam-health-time-limit=0")
    assert results(rule_runner)["good.1"]["status"] == "cancelled"
    assert notes(tmp_path / "notes") == []
    run(rule_runner)
    assert results(rule_runner)["good.1"]["status"] == "success"


@pytest.mark.parametrize(
    "option, said",
    [
        ("--opam-health-time-limit=-1", r"`\[opam-health\].time_limit` is -1; it takes seconds"),
        ("--opam-health-fail-on=regressions", r"`regressions`, and there is nothing to compare with: .*baseline"),
        ("--opam-health-baseline=before.json", r"`before.json` for option `baseline` .* does not exist"),
    ],
)
@pytest.mark.parametrize("kind", [OpamHealth, OpamRevdeps])
def test_options_that_make_no_sense(
    rule_runner: RuleRunner, fake_tool: None, kind: "type[Goal]", option: str, said: str
) -> None:
    """A run that compares with nothing would find no regression, whatever fails."""
    rule_runner.write_files(project([Node(node_id("bad.1"), opam="fail")], [root("bad.1")]))
    more = ["--of=bad", "--build"] if kind is OpamRevdeps else []
    with pytest.raises(ExecutionError, match=said):
        rule_runner.run_goal_rule(
            kind, global_args=[*HEALTH_OPTIONS, option], args=[*more, "3rdparty/opam:health"], env_inherit={"PATH"}
        )


def test_a_stale_lockfile(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project([Node(node_id("a.1"))], [root("a.1")], packages=["b"]))
    with pytest.raises(Exception, match=r"(?s)out of date.*generate-lockfiles --resolve=health"):
        run(rule_runner)


@pytest.mark.parametrize(
    "lock, problem",
    [
        ("{", "not valid JSON"),
        ("[]", "not an object of JSON"),
        (health_lock([Node(node_id("a.1"), [node_id("b.1")])], []), "depends on b.1/000000000000"),
        (health_lock([Node(node_id("a.1"), [node_id("a.1")])], []), "in a circle"),
        (
            health_lock(
                [
                    Node(node_id("a.1")),
                    Node(node_id("a.2")),
                    Node(node_id("b.1"), [node_id("a.1")]),
                    Node(node_id("c.1"), [node_id("b.1"), node_id("a.2")]),
                ],
                [],
            ),
            "two versions of one package",
        ),
        (health_lock([], [root("a.1")]), "names a.1/000000000000"),
        (health_lock([Node(node_id("a.1"), fields={"debs": ["x-dev"]})], []), "Debian package x-dev"),
        (health_lock([Node(node_id("a.1"), fields={"unknown": 1})], []), "`unknown` is not known"),
    ],
)
def test_a_damaged_lockfile(rule_runner: RuleRunner, lock: str, problem: str) -> None:
    rule_runner.write_files({**project([], []), "3rdparty/opam/health.lock": lock})
    with pytest.raises(Exception, match=problem):
        run(rule_runner)


@pytest.mark.usefixtures("fake_tool")
def test_the_lockfile_is_made_of_the_checks_fields(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        {
            **project([], []),
            "overlay/packages/a/a.1/opam": "",
            "3rdparty/opam/more.json": '{"packages": ["b", "a"]}',
            "3rdparty/opam/BUILD": (
                'opam_health_check(name="health", base="//3rdparty/debian:trixie", packages_file="more.json",\n'
                '    latest=2, compilers=["ocaml = 5.3.0"], constraints=["c<3"], with_test=True)\n'
            ),
        }
    )
    done = rule_runner.run_goal_rule(
        GenerateLockfilesGoal,
        global_args=[*HEALTH_OPTIONS, "--opam-repositories={'overlay': 'overlay'}"],
        args=["--resolve=health"],
        env_inherit={"PATH"},
    )
    assert done.exit_code == 0
    lock = json.loads((Path(rule_runner.build_root) / "3rdparty/opam/health.lock").read_text())
    metadata = lock["metadata"]
    assert (metadata["packages"], metadata["latest"]) == (["a", "b"], 2)
    assert (metadata["compilers"], metadata["constraints"]) == (["ocaml=5.3.0"], ["c<3"])
    assert metadata["options"] == ["with_test"]
    assert [one.partition(" ")[0] for one in metadata["repositories"]] == ["overlay"]
    seen = json.loads(lock["package"][0]["opam"])
    assert seen["asked"] == ["test"] and seen["suite"] == "trixie"
    assert [(root["name"], root["compiler"]) for root in lock["root"]] == [("a", "ocaml=5.3.0"), ("b", "ocaml=5.3.0")]


@pytest.mark.usefixtures("fake_tool")
def test_what_is_listed(rule_runner: RuleRunner) -> None:
    """What is available is so with any compiler; what can be installed is asked for with each."""
    fields = 'compilers=["ocaml=5.3.0", "ocaml=4.14.2"], constraints=["c<3"]'
    files = {
        **project([], []),
        "overlay/packages/a/a.1/opam": "",
        "3rdparty/opam/BUILD": f'opam_health_check(name="health", base="//3rdparty/debian:trixie", {fields})\n',
    }

    def listed(*options: str) -> GoalRuleResult:
        rule_runner.write_files(files)
        return rule_runner.run_goal_rule(
            OpamList,
            global_args=[*HEALTH_OPTIONS, "--opam-repositories={'overlay': 'overlay'}"],
            args=[*options, "3rdparty/opam:health"],
            env_inherit={"PATH"},
        )

    assert listed().stdout == "a.1\n"
    [available] = json.loads(listed("--json", "--all-versions").stdout)
    asked = json.loads(available["packages"][0]["synopsis"])
    assert (available["target"], available["compiler"]) == ("3rdparty/opam:health", "")
    assert (asked["compilers"], asked["installable"], asked["all_versions"]) == ([""], False, True)
    assert listed("--installable").stdout == "# ocaml=4.14.2\na.1\n# ocaml=5.3.0\na.1\n"
    first, second = json.loads(listed("--json", "--installable").stdout)
    asked = json.loads(first["packages"][0]["synopsis"])
    assert (first["compiler"], second["compiler"]) == ("ocaml=4.14.2", "ocaml=5.3.0") == tuple(asked["compilers"])
    assert (asked["installable"], asked["all_versions"], asked["constraints"]) == (True, False, ["c<3"])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ('packages_file="no.json"', "does not exist"),
        ('packages_file="bad.json"', 'is not of the form {"packages"'),
        ('packages=["a b c"]', "packages"),
        ("latest=0", "must be 1 or more"),
        ('compilers=["5.3.0"]', "compilers"),
        ('constraints=["c<"]', "constraints"),
    ],
)
def test_fields_that_make_no_sense(rule_runner: RuleRunner, fields: str, problem: str) -> None:
    build = f'opam_health_check(name="health", base="//3rdparty/debian:trixie", {fields})\n'
    rule_runner.write_files(
        {**project([], []), "3rdparty/opam/BUILD": build, "3rdparty/opam/bad.json": '{"packages": 1}'}
    )
    with pytest.raises(Exception, match=problem):
        run(rule_runner)
