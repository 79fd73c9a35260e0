"""`opam-ci`: nothing stops at a failure, nothing is left out in silence, and the reports say the same. The sandbox tool is
fake_tool.py."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.ci.checks import lint_message
from opam_oci.ci.reports import text_of, write_ci_reports
from opam_oci.ci.results import CiReport, Outcome, Step, StepResult, in_order
from opam_oci.goals.opam_ci import OpamCi
from opam_oci.pages.markdown_page import LIMIT
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, Pkg, debian_lock, opam_lock, toml_list
from tests.backend.projects import line
from tests.backend.test_health_reports import HOSTILE

pytestmark = pytest.mark.usefixtures("fake_tool")

TESTS = 'build: [make]\nrun-test: [make "test"]\n'
LOCK = {"default": "3rdparty/opam/default.lock", "other": "3rdparty/opam/other.lock"}
NOT_CHECKED = "not checked: no resolve of it is in `[opam].resolves_prefer_oldest`"
# `other` has the oldest versions.
WITH_OLDEST = ("--opam-resolves-with-test=['default', 'other']", "--opam-resolves-prefer-oldest=['other']")
WITHOUT = ("--opam-resolves-with-test=['default']",)


def here(name: str, opam: str = TESTS, tests: Sequence[str] = (), depends: Sequence[str] = ()) -> Pkg:
    """The package of src/NAME/NAME.opam. tests: what its tests need besides."""
    extra = f'local = "src/{name}/{name}.opam"\ntest_depends = {toml_list(tests)}\n'
    return Pkg(name, opam=opam, depends=depends, extra=extra)


def locked(resolve: str, *packages: Pkg) -> str:
    lines = [line(f"src/{one.name}/{one.name}.opam", one.name) for one in packages if "local = " in one.extra]
    options = ["prefer_oldest", "with_test"] if resolve == "other" else ["with_test"]
    base = {"default": "//3rdparty/debian:trixie", "other": "//3rdparty/debian:second"}[resolve]
    more = f"constraints = []\nopam_files = {toml_list(lines)}\noptions = {toml_list(options)}"
    return opam_lock(*packages, resolve=resolve, base=base).replace("constraints = []", more)


def files(default: Sequence[Pkg], oldest: Sequence[Pkg] = (), fields: str = "") -> Dict[str, str]:
    """Projects src/NAME, of the resolve `default`, and those that are among `oldest` of `other` too."""
    made = {
        "3rdparty/debian/BUILD": DEBIAN_BUILD,
        "3rdparty/debian/trixie.lock": debian_lock(),
        "3rdparty/debian/second.lock": debian_lock("second"),
        "3rdparty/opam/BUILD": "",
        LOCK["default"]: locked("default", *default),
        LOCK["other"]: locked("other", *oldest),
    }
    both = {one.name for one in oldest}
    for name in (one.name for one in default if "local = " in one.extra):
        resolve = 'parametrize("default", "other")' if name in both else '"default"'
        made[f"src/{name}/{name}.opam"] = name
        made[f"src/{name}/main.ml"] = "let () = ()"
        made[f"src/{name}/BUILD"] = f'opam_project(name="project", resolve={resolve}, {fields})\n'
    return made


def run(runner: RuleRunner, *args: str, options: Sequence[str] = WITHOUT) -> GoalRuleResult:
    return runner.run_goal_rule(OpamCi, global_args=[*OPTIONS, *options], args=args, env_inherit={"PATH"})


Row = Tuple[str, str, str, str]


def rows(done: GoalRuleResult) -> List[Row]:
    """Step, subject, resolve, result of the table, which the terminal gets, without times."""
    table = done.stdout[done.stdout.index("   step") :].splitlines()
    head = table[0]
    columns = [head.index(word) for word in ("step", "what", "resolve", "result")]
    found = []
    for text in table[1:-1]:
        cells = [text[begin:end].strip() for begin, end in zip(columns, [*columns[1:], None])]
        found.append((cells[0], cells[1], cells[2], re.sub(r" in [0-9.]+ s", "", cells[3])))
    return found


def reports(runner: RuleRunner) -> Path:
    return Path(runner.build_root, "dist/opam-ci")


def passed(*steps: Tuple[str, str, str]) -> List[Row]:
    return [(*step, "passed") for step in steps]


def test_all_is_well(rule_runner: RuleRunner) -> None:
    """Each opam file is linted once, and each resolve is built and tested."""
    package = here("a", depends=["b"])
    rule_runner.write_files(files([package, Pkg("b")], [package, Pkg("b")]))
    done = run(rule_runner, "src/a:", options=WITH_OLDEST)
    assert done.exit_code == 0, done.stdout
    one, two = "src/a:project#a@resolve=default", "src/a:project#a@resolve=other"
    assert rows(done) == passed(
        ("lock", LOCK["default"], "default"),
        ("lock", LOCK["other"], "other (lower bounds)"),
        ("lint", "src/a/a.opam", "default"),
        ("lint", "src/a/a.opam", "other"),
        ("build", one, "default"),
        ("build", two, "other (lower bounds)"),
        ("test", one, "default"),
        ("test", two, "other (lower bounds)"),
    )
    assert re.search(r"^8 passed in [0-9.]+ s\.$", done.stdout, re.M)
    assert "Reports: dist/opam-ci/report.md" in done.stderr
    assert sorted(path.name for path in reports(rule_runner).iterdir()) == ["junit.xml", "report.md", "report.txt"]
    assert (reports(rule_runner) / "report.txt").read_text() == done.stdout
    assert "## opam-ci passed: <code>src/a</code>" in (reports(rule_runner) / "report.md").read_text()
    suites = ElementTree.parse(reports(rule_runner) / "junit.xml").getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors"), suites.get("skipped")) == (
        *("8", "0", "0", "0"),
    )
    assert [suite.get("name") for suite in suites] == ["lock", "lint", "build", "test"]
    assert '"with_test": true' in "".join(one.text or "" for one in suites.iter("system-out"))


def test_without_lower_bounds(rule_runner: RuleRunner) -> None:
    """It is no failure, and all reports say so."""
    rule_runner.write_files(files([here("a")]))
    done = run(rule_runner, "src/a:project")
    assert done.exit_code == 0
    assert rows(done)[-1] == ("lower bounds", "src/a/a.opam", "", f"skipped: {NOT_CHECKED}")
    assert "4 passed, 1 skipped" in done.stdout
    assert "not checked" in (reports(rule_runner) / "report.md").read_text()
    suites = ElementTree.parse(reports(rule_runner) / "junit.xml").getroot()
    [skipped] = suites.iter("skipped")
    assert skipped.get("message") == NOT_CHECKED and suites.get("skipped") == "1"


def test_lower_bounds_that_are_not_asked_for(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files([here("a"), here("b")], [here("a")]))
    done = run(rule_runner, "src/a:project@resolve=default", "src/b:", options=WITH_OLDEST)
    assert done.exit_code == 0
    assert [row for row in rows(done) if row[0] == "lower bounds"] == [
        (
            *("lower bounds", "src/a/a.opam", ""),
            "skipped: not checked: this run leaves out src/a:project@resolve=other",
        ),
        ("lower bounds", "src/b/b.opam", "", f"skipped: {NOT_CHECKED}"),
    ]
    assert not [row for row in rows(done) if "other" in row[2]]


def test_lower_bounds_that_are_too_low(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        files([here("a"), here("b")], [here("a", f"{TESTS} fail"), here("b", f"{TESTS} failing_tests")])
    )
    done = run(rule_runner, "src::", options=WITH_OLDEST)
    assert done.exit_code == 1
    bad = [row for row in rows(done) if not row[3].startswith("passed")]
    assert bad == [
        ("build", "src/a:project#a@resolve=other", "other (lower bounds)", "failed: a does not compile"),
        ("test", "src/a:project#a@resolve=other", "other (lower bounds)", "not run: it was not built"),
        ("test", "src/b:project#b@resolve=other", "other (lower bounds)", "failed: b does not pass its tests"),
    ]


def test_nothing_stops_the_others(rule_runner: RuleRunner) -> None:
    """A failing build, a failing test, an opam file with an error, what stands on the first, and one that is well."""
    packages = [
        here("a", f"{TESTS} fail"),
        here("b"),
        here("c", depends=["a"]),
        here("d"),
        here("e", "build: [make]"),
    ]
    rule_runner.write_files(files(packages))
    rule_runner.write_files({"src/b/broken": "", "src/d/d.opam": "wrong"})
    lock = locked("default", *packages).replace(line("src/d/d.opam", "d"), line("src/d/d.opam", "wrong"))
    rule_runner.write_files({LOCK["default"]: lock})
    done = run(rule_runner, "src::")
    assert done.exit_code == 1
    found = [row for row in rows(done) if row[0] not in ("lower bounds", "lock")]
    assert found == [
        ("lint", "src/a/a.opam", "default", "passed"),
        ("lint", "src/b/b.opam", "default", "passed"),
        ("lint", "src/c/c.opam", "default", "passed"),
        ("lint", "src/d/d.opam", "default", "failed: opam lint ended with exit status 1"),
        ("lint", "src/e/e.opam", "default", "passed"),
        ("build", "src/a:project#a", "default", "failed: a does not compile"),
        ("build", "src/b:project#b", "default", "passed"),
        ("build", "src/c:project#c", "default", "not run: what it depends on was not built, because of a.1"),
        ("build", "src/d:project#d", "default", "passed"),
        ("build", "src/e:project#e", "default", "passed"),
        ("test", "src/a:project#a", "default", "not run: it was not built"),
        ("test", "src/b:project#b", "default", "failed: b does not pass its tests"),
        ("test", "src/c:project#c", "default", "not run: it was not built"),
        ("test", "src/d:project#d", "default", "passed"),
        ("test", "src/e:project#e", "default", "skipped: its opam file has no tests"),
    ]
    # At length, with the ends of logs.
    assert "build of src/a:project#a failed (default):\n" in done.stdout and "  | line 100 of a\n" in done.stdout
    assert '  | {"below":' in done.stdout and "  | src/d/d.opam Errors." in done.stdout
    logs = {path.name for path in (reports(rule_runner) / "logs").iterdir()}
    assert logs == {
        "build-default-src%2Fa%3Aproject%23a.log",
        "lint-default-src%2Fd%2Fd.opam.log",
        "test-default-src%2Fb%3Aproject%23b.log",
    }
    suites = ElementTree.parse(reports(rule_runner) / "junit.xml").getroot()
    assert (suites.get("failures"), suites.get("errors")) == ("3", "3")
    by_name = {one.get("name"): one for one in suites.iter("testcase") if one.get("classname") == "build default"}
    [failure] = by_name["src/a:project#a"].iter("failure")
    assert failure.get("message") == "a does not compile" and "line 100 of a" in (failure.text or "")
    page = (reports(rule_runner) / "report.md").read_text()
    assert page.startswith("## opam-ci failed: ") and page.index("### Failed (6)") < page.index("### Passed")
    # The next run's reports take the place of these.
    (Path(rule_runner.build_root) / "src/b/broken").unlink()
    assert run(rule_runner, "src/b:").exit_code == 0
    assert not (reports(rule_runner) / "logs").exists()


def test_a_released_package_that_fails(rule_runner: RuleRunner) -> None:
    """It has a step of its own, which says why, once."""
    rule_runner.write_files(
        files([here("a", depends=["x"]), here("b", depends=["x"]), Pkg("x", ["y"]), Pkg("y", opam="fail")])
    )
    done = run(rule_runner, "src::")
    assert done.exit_code == 1
    assert [row for row in rows(done) if row[0] == "build"] == [
        ("build", "src/a:project#a", "default", "not run: what it depends on was not built, because of y.1"),
        ("build", "src/b:project#b", "default", "not run: what it depends on was not built, because of y.1"),
        ("build", "y.1", "default", "failed: y does not compile"),
    ]
    assert "  | line 100 of y" in done.stdout


def test_a_package_of_a_project_that_fails_and_is_not_named(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files([here("a", depends=["b"]), here("b", "fail")]))
    done = run(rule_runner, "src/a:project#a")
    assert done.exit_code == 1
    assert [row[1:] for row in rows(done) if row[0] in ("build", "lint")] == [
        ("src/a/a.opam", "default", "passed"),
        ("b.1", "default", "failed: b does not compile"),
        ("src/a:project#a", "default", "not run: what it depends on was not built, because of b.1"),
    ]


def test_what_tests_need_fails(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files([here("a", tests=["x"]), Pkg("x", opam="fail")]))
    done = run(rule_runner, "src::")
    assert done.exit_code == 1
    told = [row[3] for row in rows(done) if row[0] in ("build", "test")]
    assert told[0] == "passed" and told[1].startswith("failed: x.1 failed: error: x does not compile")


@pytest.mark.parametrize(
    ("change", "said", "lint"),
    [
        # An opam file that changed, one that came, a lockfile that is gone, one that nobody can read.
        ({"src/a/a.opam": "changed"}, "it is out of date", "passed"),
        ({"src/a/new.opam": "new"}, "it is out of date", "not run: its lockfile does not have it"),
        ({LOCK["other"]: None}, "it does not exist", "not run: its lockfile does not have it"),
        ({LOCK["other"]: "nonsense"}, "not valid TOML", "not run: its lockfile does not have it"),
    ],
)
def test_a_lockfile_that_cannot_be_used(
    rule_runner: RuleRunner, change: Dict[str, "str | None"], said: str, lint: str
) -> None:
    """Of one resolve; the other one is built. The row says which lockfile, and the way out."""
    made = files([here("b")], [])
    made["src/a/BUILD"] = 'opam_project(name="project", resolve="other")\n'
    made["src/a/a.opam"] = "a"
    made[LOCK["other"]] = locked("other", here("a"))
    made.update({path: text for path, text in change.items() if text is not None})
    rule_runner.write_files({path: text for path, text in made.items() if change.get(path, "") is not None})
    done = run(rule_runner, "src::", options=WITH_OLDEST)
    assert done.exit_code == 1
    found = rows(done)
    assert ("build", "src/b:project#b", "default", "passed") in found
    [lock] = [row for row in found if row[0] == "lock" and row[1] == LOCK["other"]]
    assert lock[3].startswith(f"failed: The lockfile {LOCK['other']}: {said}")
    # What differs is at length above, and in the log.
    assert "opam files:" not in lock[3] and "`pants generate-lockfiles --resolve=other`" in lock[3]
    assert "`pants generate-lockfiles --resolve=other`" in done.stdout
    assert ("lint", "src/a/a.opam", "other", lint) in found
    for step in ("build", "test"):
        assert (step, "src/a:project#a", "other (lower bounds)", "not run: its lockfile cannot be used") in found


def test_a_project_with_a_problem(rule_runner: RuleRunner) -> None:
    """Its resolve's lockfile says nothing of it; the row does."""
    rule_runner.write_files({**files([here("b")]), "src/a/BUILD": 'opam_project(name="project", resolve="other")\n'})
    done = run(rule_runner, "src::", options=WITH_OLDEST)
    assert done.exit_code == 1
    [lock] = [row for row in rows(done) if row[1] == LOCK["other"]]
    assert "The `opam_project` target src/a:project@resolve=other has no opam file" in lock[3].replace(
        "src/a:project ", "src/a:project@resolve=other "
    )
    assert ("build", "src/b:project#b", "default", "passed") in rows(done)


@pytest.mark.parametrize("option", [True, False])
def test_what_is_left_out(rule_runner: RuleRunner, option: bool) -> None:
    """It is in the report, with the reason."""
    fields = "" if option else "skip_tests=True, skip_opam_lint=True"
    rule_runner.write_files(files([here("a")], fields=fields))
    more = ("--opam-test-skip", "--opam-lint-skip") if option else ()
    done = run(rule_runner, "src::", options=[*WITHOUT, *more])
    assert done.exit_code == 0
    whys = {row[0]: row[3] for row in rows(done)}
    assert whys["lint"] == (
        "skipped: by `[opam-lint].skip`" if option else "skipped: by `skip_opam_lint` of its target"
    )
    assert whys["test"] == ("skipped: by `[opam-test].skip`" if option else "skipped: by `skip_tests` of its target")
    assert whys["build"] == "passed"


def test_tests_that_are_not_locked(rule_runner: RuleRunner) -> None:
    made = files([here("a")])
    made[LOCK["default"]] = made[LOCK["default"]].replace('options = ["with_test"]', "")
    rule_runner.write_files(made)
    done = run(rule_runner, "src::", options=())
    assert done.exit_code == 1
    [test] = [row for row in rows(done) if row[0] == "test"]
    assert test[3].startswith("failed: What the tests of a.1 need is not locked: add 'default' to")


def test_a_base_that_cannot_be_made(rule_runner: RuleRunner) -> None:
    """Every step has the error, and none of them a traceback."""
    made = files([here("a")])
    made["3rdparty/debian/trixie.lock"] = debian_lock(suite="bookworm")
    rule_runner.write_files(made)
    done = run(rule_runner, "src::")
    assert done.exit_code == 1 and "Traceback" not in done.stdout
    [lint] = [row for row in rows(done) if row[0] == "lint"]
    assert lint[3].startswith("failed: The lockfile 3rdparty/debian/trixie.lock: it is out of date.")
    assert [row[3] for row in rows(done) if row[0] == "build"] == ["not run: its lockfile cannot be used"]


def test_a_failure_is_tried_again(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """And what passed is not."""
    notes = tmp_path / "notes"
    missing = tmp_path / "missing"
    rule_runner.write_files(
        files([here("a", f"note_in={notes}"), here("b", f"note_in={notes} fail_if_missing={missing}")])
    )
    assert run(rule_runner, "src::").exit_code == 1
    missing.write_text("")
    assert run(rule_runner, "src::").exit_code == 0
    assert sorted(notes.read_text().split()) == ["a.1", "b.1", "b.1"]


@pytest.mark.parametrize("target", ["3rdparty/opam:default#x", "3rdparty/debian:trixie"])
def test_targets_of_no_project(rule_runner: RuleRunner, target: str) -> None:
    rule_runner.write_files({**files([here("a"), Pkg("x")]), "3rdparty/opam/BUILD": 'opam_packages(name="default")\n'})
    with pytest.raises(ExecutionError) as raised:
        run(rule_runner, target)
    assert "`opam-ci` is for `opam_project` targets, such as" in str(raised.value.wrapped_exceptions[0])
    assert not reports(rule_runner).exists()


def test_no_project_has_changed(rule_runner: RuleRunner) -> None:
    """It is said, and no failure; the reports of the run before do not stay. (The rules' runner takes targets from arguments
    alone.)"""
    rule_runner.write_files(files([here("a", "fail")]))
    assert run(rule_runner, "src/a:").exit_code == 1 and (reports(rule_runner) / "logs").exists()
    done = run(rule_runner, "3rdparty/debian:trixie", options=[*WITHOUT, "--changed-since=HEAD"])
    said = "Nothing was checked: none of the targets that have changed is of a project."
    assert (done.exit_code, done.stdout) == (0, f"{said}\n") and "Reports: dist/opam-ci/report.md" in done.stderr
    assert sorted(path.name for path in reports(rule_runner).iterdir()) == ["junit.xml", "report.md", "report.txt"]
    assert (reports(rule_runner) / "report.txt").read_text() == f"{said}\n"
    assert said in (reports(rule_runner) / "report.md").read_text()
    suites = ElementTree.parse(reports(rule_runner) / "junit.xml").getroot()
    assert suites.get("tests") == "0" and not list(suites)


# Messages, in one line


def test_messages_of_lint() -> None:
    """As opam 2.3 writes them."""
    warnings = "           warning 25: Missing field 'authors'\n           warning 35: Missing field 'homepage'\n"
    errors = "             error  2: File format error at line 7, column 0: Parse error\n             error 57: Empty\n"
    assert lint_message(f"a.opam: Errors.\n{warnings}{errors}", 1) == (
        "error 2: File format error at line 7, column 0: Parse error; error 57: Empty"
    )
    strict = lint_message(f"a.opam: Warnings.\n{warnings}", 1)
    assert strict == "warning 25: Missing field 'authors'; warning 35: Missing field 'homepage'"
    assert lint_message('opam: "zzz" is no option', 2) == "opam lint ended with exit status 2"


# Reports alone


def report_of(text: str, count: int = 1) -> CiReport:
    steps = {
        StepResult(step, f"{text}{number}", text, outcome, True, text, f"{text}\n" * 3, 1.5)
        for number in range(count)
        for step in Step
        for outcome in Outcome
    }
    return CiReport((text,), in_order(steps), 61.0)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text: str) -> None:
    """Each line of the table is one step, Markdown has no markup of theirs, and XML can be read."""
    report = report_of(text)
    made = write_ci_reports(report)
    said = text_of(report)
    assert "\x1b" not in said and said.encode() and said.endswith("1 min 1 s.")
    assert len(said[said.index("   step") :].split("\n")) == 1 + len(report.steps) + 1
    ElementTree.fromstring(made["junit.xml"])
    for page_line in re.sub(r"<pre>.*?</pre>", "", made["report.md"].decode(), flags=re.S).split("\n"):
        assert set(re.findall(r"</?(\w+)", page_line)) <= {"code", "details", "summary"}
        if page_line.startswith("| "):
            assert page_line.count("|") == 5
        assert "@" not in page_line
    assert all(re.fullmatch(r"logs/[^/]+\.log|junit\.xml|report\.(md|txt)", path) for path in made)


def test_a_large_report() -> None:
    made = write_ci_reports(report_of("x" * 200, 200))
    text = made["report.md"].decode()
    assert len(text.encode()) <= LIMIT and text.count("<details>") == text.count("</details>")
    assert "more rows and logs had no room here: see `report.txt` and `logs/`." in text
