"""`generate-lockfiles`. The sandbox tool is fake_tool.py: what it is asked and what becomes of its answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pants.backend.project_info.list_targets import List
from pants.core.goals.generate_lockfiles import GenerateLockfilesGoal
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci import fetch
from opam_oci.lockfile import read_opam_lock
from opam_oci.repositories import Archive, InvalidRepositoryError, parse_location
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import DEBIAN_BUILD, Pkg, debian_lock, opam_lock

pytestmark = pytest.mark.usefixtures("fake_tool")

REPOSITORIES = "--opam-repositories={'overlay': 'overlay'}"

FILES = {
    "overlay/packages/a/a.1/opam": "",
    "3rdparty/debian/BUILD": DEBIAN_BUILD,
    # The lockfile that this target reads does not exist yet: locking must not expand it.
    "3rdparty/opam/BUILD": """
opam_packages(name="default")
opam_requirement(name="r", requirements=["a", "b=2"], constraints=["c<3"])
opam_requirement(name="o", requirements=["o"], resolve="other")
""",
}


def generate(
    runner: RuleRunner, *resolves: str, options: tuple[str, ...] = (), args: tuple[str, ...] = ()
) -> GoalRuleResult:
    result = runner.run_goal_rule(
        GenerateLockfilesGoal,
        global_args=[*OPTIONS, REPOSITORIES, *options],
        args=[*(f"--resolve={resolve}" for resolve in resolves), *args],
    )
    assert result.exit_code == 0
    return result


def problem(runner: RuleRunner, *resolves: str, options: tuple[str, ...] = ()) -> str:
    with pytest.raises(ExecutionError) as raised:
        generate(runner, *resolves, options=options)
    return str(raised.value.wrapped_exceptions[0])


def read(runner: RuleRunner, path: str) -> str:
    return Path(runner.build_root, path).read_text()


def seen(runner: RuleRunner, path: str = "3rdparty/opam/default.lock", resolve: str = "default") -> Any:
    """The request that made a lockfile."""
    lock = read_opam_lock(path, resolve, read(runner, path).encode())
    return json.loads(next(iter(lock.packages.values())).opam)


def test_a_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    generate(rule_runner, "trixie")
    assert read(rule_runner, "3rdparty/debian/trixie.lock") == debian_lock().rstrip("\n") + "\n"
    assert not Path(rule_runner.build_root, "3rdparty/opam/default.lock").exists()


def test_from_nothing(rule_runner: RuleRunner) -> None:
    """All resolves at once: opam's are solved in the bases that this very run locks."""
    rule_runner.write_files(FILES)
    generate(rule_runner)
    for path in ("debian/trixie.lock", "debian/second.lock", "opam/default.lock", "opam/other.lock"):
        assert Path(rule_runner.build_root, "3rdparty", path).exists(), path


def test_what_opam_is_asked(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    archive = Path(rule_runner.build_root, "upstream.tar.zst")
    archive.write_bytes(b"content")
    location = f"file://{archive}#sha256={hashlib.sha256(b'content').hexdigest()}&size=7"
    generate(
        rule_runner,
        "default",
        options=(
            f"--opam-repositories={{'upstream': '{location}', 'overlay': 'overlay'}}",
            "--opam-archive-mirrors=['file:///cache']",
            "--debian-source-suites=['sid']",
        ),
    )
    assert seen(rule_runner) == {
        "store": "store",
        "resolve": "default",
        "base": "//3rdparty/debian:trixie",
        "requirements": ["a", "b=2"],
        "constraints": ["c<3"],
        "layers": ["in/0", "in/1"],
        "kinds": ["base", "opam-root"],
        "repositories": [
            {"name": "upstream", "path": "repos/upstream.tar.zst"},
            {"name": "overlay", "path": "repos/overlay"},
        ],
        "mirrors": ["http://127.0.0.1:9/debian"],
        "source_suites": ["sid"],
        "archive_mirrors": ["file:///cache"],
        "suite": "trixie",
        "architecture": "amd64",
    }


def test_repositories_keep_the_order_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "pants.toml"
    config.write_text('[opam.repositories]\nz = "overlay"\nm = "overlay"\na = "overlay"\n')
    runner = new_runner(f"--pants-config-files={config}")
    runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    arguments = [f"--pants-config-files={config}", *OPTIONS]
    runner.run_goal_rule(GenerateLockfilesGoal, global_args=arguments, args=["--resolve=default"])
    assert [repository["name"] for repository in seen(runner)["repositories"]] == ["z", "m", "a"]


def test_another_resolve_on_another_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/second.lock": debian_lock("second")})
    generate(rule_runner, "other")
    request = seen(rule_runner, "3rdparty/opam/other.lock", "other")
    assert (request["base"], request["requirements"]) == ("//3rdparty/debian:second", ["o"])


def test_the_base_of_the_same_run_counts(rule_runner: RuleRunner) -> None:
    stale = debian_lock(packages=["opam", "old"])
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": stale})
    assert "3rdparty/debian/trixie.lock: it is out of date" in problem(rule_runner, "default")
    generate(rule_runner, "default", "trixie")
    assert "old" not in read(rule_runner, "3rdparty/debian/trixie.lock")


def test_diff(rule_runner: RuleRunner) -> None:
    old = opam_lock(Pkg("a", version="3"), Pkg("b", version="1.10"), Pkg("gone"))
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock(), "3rdparty/opam/default.lock": old})
    printed = generate(rule_runner, "default", args=("--diff",)).stderr
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "Lockfile diff: 3rdparty/opam/default.lock [default]" in lines
    assert "a 3 --> 2" in lines and "b 1.10 --> 2" in lines and "gone 1" in lines
    assert any("Downgraded" in line for line in lines)


def test_a_broken_lockfile_is_replaced(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": "nonsense"})
    generate(rule_runner, "trixie", args=("--diff",))
    assert "lock_version" in read(rule_runner, "3rdparty/debian/trixie.lock")


def test_the_tools_reason_is_shown(rule_runner: RuleRunner) -> None:
    build = 'debian_rootfs(name="trixie", suite="trixie", packages=["no-such-package"])'
    rule_runner.write_files({**FILES, "3rdparty/debian/BUILD": build})
    message = problem(rule_runner, "trixie")
    assert "Cannot generate the lockfile of the resolve `trixie`" in message
    assert "error: there is no package no-such-package" in message


def test_no_target_for_a_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/BUILD": ""})
    assert "No `debian_rootfs` target has the resolve `trixie`" in problem(rule_runner, "trixie")


def test_two_targets_for_a_base(rule_runner: RuleRunner) -> None:
    build = DEBIAN_BUILD + 'debian_rootfs(name="again", suite="sid", resolve="trixie")\n'
    rule_runner.write_files({**FILES, "3rdparty/debian/BUILD": build})
    message = problem(rule_runner, "trixie")
    assert "3rdparty/debian:again and 3rdparty/debian:trixie both have the resolve `trixie`" in message


def test_no_roots(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/opam/BUILD": ""})
    message = problem(rule_runner, "default")
    assert "The resolve `default` has no roots" in message and "`opam_requirement`" in message


def test_no_repository(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    message = problem(rule_runner, "default", options=("--opam-repositories={}",))
    assert "No opam repository is set" in message


def test_a_repository_that_is_not_there(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    message = problem(rule_runner, "default", options=("--opam-repositories={'o': 'nowhere'}",))
    assert "`[opam].repositories`, o" in message and "nowhere/**" in message


def test_no_mirror(rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "apt_mirrors", lambda _: ())
    rule_runner.write_files(FILES)
    message = problem(rule_runner, "trixie", options=("--debian-mirrors=[]",))
    assert "no Debian mirror is known" in message and "`[debian].mirrors`" in message


SHA = "ab" * 32


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("3rdparty/opam/overlay/", "3rdparty/opam/overlay"),
        (f"https://h.example/r.tar.gz#sha256={SHA}&size=12", Archive("https://h.example/r.tar.gz", SHA, 12, ".tar.gz")),
        (f"file:///a/../r.tgz#size=1&sha256={SHA}", Archive("file:///a/../r.tgz", SHA, 1, ".tgz")),
        (f"https://h.example/archive#sha256={SHA}&size=1", Archive("https://h.example/archive", SHA, 1, "")),
    ],
)
def test_locations(location: str, expected: object) -> None:
    assert parse_location("name", location) == expected


@pytest.mark.parametrize("location", ["/abs", "../up", ".", "https://h/r.tar", f"https://h/r.tar#sha256={SHA}"])
def test_wrong_locations(location: str) -> None:
    with pytest.raises(InvalidRepositoryError, match=r"`\[opam\].repositories` has name = "):
        parse_location("name", location)


def test_a_missing_lockfile_is_an_error_again_after_generating(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    generate(rule_runner, "trixie")
    with pytest.raises(ExecutionError, match="3rdparty/opam/default.lock: it does not exist"):
        rule_runner.run_goal_rule(List, global_args=OPTIONS, args=["::"])
