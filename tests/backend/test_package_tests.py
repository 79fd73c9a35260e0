"""`test`: which packages are tested, over which layers, and what becomes of it. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Sequence

import pytest
from pants.core.goals.test import Test, TestResult
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner, mock_console

from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from opam_oci.pants_engine.version import BY_NAME
from opam_oci.testing.run_tests import OpamTestFieldSet, OpamTestRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, project, toml_list
from tests.backend.projects import line

pytestmark = pytest.mark.usefixtures("fake_tool")

WITH_TEST = "--opam-resolves-with-test=['default']"
HAS_TESTS = 'build: [make]\nrun-test: [make "test"]\n'
ONLY_BUILDS = "build: [make]\n"


def files(
    *packages: Pkg,
    roots: Sequence[str] = (),
    overrides: "dict[str, object] | None" = None,
    fields: str = "",
    with_test: bool = True,
) -> dict[str, str]:
    """A repository whose projects are src/NAME for each package that `here` has made."""
    made = project(*packages, requirements=roots)
    names = [package.name for package in packages if "local = " in package.extra]
    lines = [line(f"src/{name}/{name}.opam", name) for name in names]
    told = f"constraints = []\nopam_files = {toml_list(lines)}" + ('\noptions = ["with_test"]' if with_test else "")
    made["3rdparty/opam/default.lock"] = made["3rdparty/opam/default.lock"].replace("constraints = []", told)
    made["3rdparty/opam/BUILD"] = made["3rdparty/opam/BUILD"].replace(
        'opam_packages(name="default")', f'opam_packages(name="default", overrides={overrides or {}!r})'
    )
    for name in names:
        made[f"src/{name}/{name}.opam"] = name
        made[f"src/{name}/main.ml"] = "let () = ()"
        made[f"src/{name}/BUILD"] = f"opam_project({fields})\n"
    return made


def here(name: str, opam: str = HAS_TESTS, tests: Sequence[str] = (), **fields: Any) -> Pkg:
    """A package of this repository. tests: what its tests need besides."""
    extra = f'local = "src/{name}/{name}.opam"\ntest_depends = {toml_list(tests)}\n'
    return Pkg(name, opam=opam, extra=extra, **fields)


def options(*more: str, with_test: bool = True) -> list[str]:
    return [*OPTIONS, *([WITH_TEST] if with_test else []), *more]


def run(runner: RuleRunner, *args: str, with_test: bool = True) -> GoalRuleResult:
    return runner.run_goal_rule(Test, global_args=options(with_test=with_test), args=args, env_inherit={"PATH"})


def result(runner: RuleRunner, package: str, *more: str, target: str = "", with_test: bool = True) -> TestResult:
    """Of a package of src/NAME, or of the target."""
    runner.set_options(options(*more, with_test=with_test), env_inherit={"PATH"})
    directory, _, rest = (target or f"src/{package}").partition(":")
    address = Address(directory, target_name=rest or None, generated_name=package)
    field_set = OpamTestFieldSet.create(runner.get_target(address))
    return runner.request(TestResult, [OpamTestRequest.Batch("", (field_set,), None)])


def output(done: TestResult) -> tuple[str, str]:
    if BY_NAME:
        return done.stdout_bytes.decode(), done.stderr_bytes.decode()
    return done.stdout, done.stderr


def report(runner: RuleRunner, name: str) -> ElementTree.Element:
    reports = Path(runner.build_root, "dist/test/reports")
    assert (reports / name).is_file(), list(reports.iterdir())
    return ElementTree.parse(reports / name).getroot()


def test_tests_that_pass(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(here("a", version="1.2")))
    done = run(rule_runner, "--report", "src/a:")
    assert done.exit_code == 0
    assert "src/a#a succeeded in" in done.stderr and "dist/test/reports" in done.stderr
    suites = report(rule_runner, "src.a@a.xml")
    [case] = suites.iter("testcase")
    assert (suites.get("tests"), suites.get("failures")) == ("1", "0")
    assert (case.get("name"), case.get("classname")) == ("a.1.2", "src/a#a")
    assert '"with_test": true' in (case.findtext("system-out") or "")
    assert float(case.get("time") or -1) >= 0


def test_tests_that_fail(rule_runner: RuleRunner) -> None:
    """The others run; what failed is said with all that it printed."""
    rule_runner.write_files({**files(here("a"), here("b")), "src/a/broken": ""})
    done = run(rule_runner, "--report", "src::")
    assert done.exit_code == 1
    assert "src/a#a failed in" in done.stderr and "src/b#b succeeded in" in done.stderr
    [failure] = report(rule_runner, "src.a@a.xml").iter("failure")
    assert failure.get("message") == "error: a does not pass its tests"
    assert '"with_test": true' in (failure.text or "")
    told = result(rule_runner, "a")
    out, err = output(told)
    assert (told.exit_code, json.loads(out)["with_test"]) == (1, True)
    assert err == "error: a does not pass its tests\n"


def test_none_are_found(rule_runner: RuleRunner) -> None:
    """No command of the opam file is for tests: nothing is built."""
    rule_runner.write_files(files(here("a", ONLY_BUILDS, depends=["broken"]), Pkg("broken", opam="fail")))
    done = run(rule_runner, "--report", "src/a:")
    assert (done.exit_code, done.stderr.count("src/a")) == (0, 0)
    assert result(rule_runner, "a").exit_code is None


@pytest.mark.parametrize(
    "opam",
    [
        'build: [["make"] ["make" "test"] {with-test}]',
        'build: ["dune" "build" "@runtest" {with-test}]',
        'install: ["make" "check"] {with-test & os = "linux"}',
        'run-test: ["make" "test"]',
    ],
)
def test_what_has_tests(rule_runner: RuleRunner, opam: str) -> None:
    rule_runner.write_files(files(here("a", opam)))
    assert result(rule_runner, "a").exit_code == 0


def test_layers(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """What tests need, with all below it, is below the tests, and not below the build."""
    rule_runner.write_files(
        files(
            here("a", f"tests_say={tmp_path}/said", ["c"], depends=["b"]),
            Pkg("b"),
            Pkg("c", depends=["d", "b"]),
            Pkg("d"),
            Pkg("other"),
        )
    )
    assert run(rule_runner, "src/a:").exit_code == 0
    [said] = [json.loads(said) for said in (tmp_path / "said").read_text().splitlines()]
    assert said["below"][:2] == ["trixie", "opam-root"]
    assert sorted(said["below"][2:]) == ["b", "c", "d"] and said["below"][-1] == "c"
    assert (said["with_test"], said["live"], said["attempt"]) == (True, False, "0")
    outcome = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "a")])
    assert sorted(outcome.layers) == ["a", "b"]
    contents = rule_runner.request(DigestContents, [outcome.layers["a"].digest])
    [blob] = [json.loads(file.content) for file in contents if "blobs/" in file.path]
    assert blob["below"] == ["base:trixie", "opam-root:opam-root", "package:b"]


def test_without_what_tests_need(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(here("a"), with_test=False))
    done = run(rule_runner, "src/a:", with_test=False)
    assert done.exit_code == 1
    told = result(rule_runner, "a", with_test=False)
    assert told.exit_code == 1
    err = output(told)[1]
    assert "What the tests of a.1 need is not locked: add 'default' to `[opam].resolves_with_test`" in err
    assert "generate-lockfiles --resolve=default`" in err


def locked(opam: str = HAS_TESTS, **fields: Any) -> Pkg:
    return Pkg("p", opam=opam, **fields)


TESTED: dict[str, object] = {"p": {"skip_tests": False}}
LOCKED = "3rdparty/opam:default"


@pytest.mark.parametrize("root", ["p", "p=1", "p>=1", "p<2", "p<=1", "p!=3", "p>0.1"])
def test_a_root_of_a_lockfile(rule_runner: RuleRunner, root: str) -> None:
    rule_runner.write_files(files(locked(), Pkg("q", opam=HAS_TESTS), roots=[root], overrides=TESTED))
    done = run(rule_runner, "3rdparty/opam:")
    assert done.exit_code == 0
    assert "3rdparty/opam:default#p succeeded" in done.stderr and "#q" not in done.stderr


@pytest.mark.parametrize("root", ["pq", "q", "p-q=1"])
def test_a_package_that_is_no_root(rule_runner: RuleRunner, root: str) -> None:
    rule_runner.write_files(files(locked(), roots=[root], overrides=TESTED))
    told = result(rule_runner, "p", target=LOCKED)
    assert told.exit_code == 1
    assert "as it is no root of the resolve 'default': name it in an `opam_requirement`" in output(told)[1]


def test_what_is_left_out(rule_runner: RuleRunner) -> None:
    """Others' packages, and what says so. Nothing is wrong then."""
    rule_runner.write_files(files(locked(), here("a"), roots=["p"], fields="skip_tests=True"))
    done = run(rule_runner, "::")
    assert (done.exit_code, "succeeded" in done.stderr) == (0, False)
    rule_runner.write_files(files(locked(), here("a"), roots=["p"]))
    done = run(rule_runner, "::")
    assert done.exit_code == 0 and "src/a#a succeeded" in done.stderr and "#p" not in done.stderr
    done = rule_runner.run_goal_rule(Test, global_args=options("--opam-test-skip"), args=["::"], env_inherit={"PATH"})
    assert (done.exit_code, "succeeded" in done.stderr) == (0, False)


def test_tests_that_need_what_needs_the_package(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(here("a", tests=["c"]), Pkg("c", depends=["b"]), Pkg("b", depends=["a"])))
    told = result(rule_runner, "a")
    assert told.exit_code == 1
    assert "The tests of a.1 need c, which needs a itself: opam cannot run them either." in output(told)[1]


@pytest.mark.parametrize("kind", ["depends", "tests"])
def test_a_dependency_that_fails(rule_runner: RuleRunner, kind: str) -> None:
    """Of the build or of the tests alone. Tests of other packages run."""
    needs: dict[str, Any] = {kind: ["b"]}
    rule_runner.write_files(files(here("a", **needs), here("x"), Pkg("b", depends=["c"]), Pkg("c", opam="fail")))
    done = run(rule_runner, "--report", "src::")
    assert done.exit_code == 1 and "src/x#x succeeded" in done.stderr
    told = result(rule_runner, "a")
    assert told.exit_code == 1
    assert output(told)[1] == "What it depends on was not built, because of c.1."
    [failure] = report(rule_runner, "src.a@a.xml").iter("failure")
    assert "because of c.1" in (failure.get("message") or "")
    rule_runner.write_files(files(here("a", **needs), here("x"), Pkg("b", opam="fail")))
    assert "b.1 failed: error: b does not compile" in output(result(rule_runner, "a"))[1]


def test_what_takes_too_long(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(here("a", "tests_take=60"), fields="timeout=1"))
    done = run(rule_runner, "--timeouts", "--report", "src/a:")
    assert done.exit_code != 0 and "src/a#a failed" in done.stderr
    out, err = output(result(rule_runner, "a", "--test-timeouts"))
    assert "timeout of 1" in out + err
    [failure] = report(rule_runner, "src.a@a.xml").iter("failure")
    assert "timeout of 1" in (failure.get("message") or "")


def test_no_timeout_where_none_are_asked_for(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(files(here("a", "tests_take=1.2"), fields="timeout=1"))
    assert run(rule_runner, "--no-timeouts", "src/a:").exit_code == 0


def test_what_has_not_changed_is_not_run_again(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """But with `--test-force`. Tests that failed are run again."""
    said = tmp_path / "said"
    rule_runner.write_files(files(here("a", f"tests_say={said}")))
    for args, times in (((), 1), ((), 1), (("--force",), 2), ((), 2)):
        assert run(rule_runner, *args, "src/a:").exit_code == 0
        assert len(said.read_text().splitlines()) == times
    rule_runner.write_files({"src/a/main.ml": "changed"})
    assert run(rule_runner, "src/a:").exit_code == 0 and len(said.read_text().splitlines()) == 3
    rule_runner.write_files({"src/a/broken": ""})
    for times in (4, 5):
        assert run(rule_runner, "src/a:").exit_code == 1 and len(said.read_text().splitlines()) == times


def test_words_in_another_encoding(rule_runner: RuleRunner) -> None:
    """Compilers print what sources have."""
    rule_runner.write_files(files(here("a", "tests_print=ff"), here("b", "tests_print=e9 failing_tests")))
    done = run(rule_runner, "--report", "src::")
    assert done.exit_code == 1 and "src/a#a succeeded" in done.stderr and "src/b#b failed" in done.stderr
    assert "\N{REPLACEMENT CHARACTER}" in (report(rule_runner, "src.a@a.xml").findtext(".//system-out") or "")


def test_words_that_xml_cannot_have(rule_runner: RuleRunner) -> None:
    """Colours of terminals, a NUL, what ends CDATA: the report is XML still."""
    rule_runner.write_files(files(here("a", "tests_print=1b5b33316d5d5d3e3c00")))
    assert run(rule_runner, "--report", "src/a:").exit_code == 0
    assert "]]><" in (report(rule_runner, "src.a@a.xml").findtext(".//system-out") or "")


# In the foreground


def debug(runner: RuleRunner, *args: str) -> GoalRuleResult:
    runner.set_options([*options(), "test", "--debug", *args], env_inherit={"PATH"})
    with mock_console(runner.options_bootstrapper):
        return run(runner, "--debug", *args)


def test_in_the_foreground(rule_runner: RuleRunner, tmp_path: Path) -> None:
    said = tmp_path / "said"
    rule_runner.write_files(files(here("a", f"tests_say={said}", ["b"]), here("c"), Pkg("b")))
    assert debug(rule_runner, "src/a:").exit_code == 0
    [seen] = [json.loads(one) for one in said.read_text().splitlines()]
    assert seen["live"] is True and seen["below"] == ["trixie", "opam-root", "b"]
    rule_runner.write_files({"src/a/broken": ""})
    assert debug(rule_runner, "src/a:").exit_code == 1


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (here("a", ONLY_BUILDS), "The opam file of a.1 has no tests."),
        (here("a", depends=["b"]), "b.1 failed: error: b does not compile"),
    ],
)
def test_nothing_for_the_foreground(rule_runner: RuleRunner, package: Pkg, message: str) -> None:
    rule_runner.write_files(files(package, Pkg("b", opam="fail")))
    with pytest.raises(ExecutionError) as raised:
        debug(rule_runner, "src/a:")
    assert message in str(raised.value.wrapped_exceptions[0])
