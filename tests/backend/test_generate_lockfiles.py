"""`generate-lockfiles`. The sandbox tool is fake_tool.py: what it is asked and what becomes of its answer."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pants.backend.project_info.list_targets import List
from pants.core.goals.generate_lockfiles import GenerateLockfilesGoal
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.downloads import debian_mirrors
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_oci.resolves.opam_repositories import (
    Archive,
    GitCommit,
    InvalidRepositoryError,
    OpamRepository,
    OpamRepositoryRequest,
    parse_location,
)
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
    """The requests that made a lockfile, by step."""
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
            "--opam-repository-order=['upstream', 'overlay']",
            "--opam-archive-mirrors=['file:///cache']",
            "--debian-source-suites=['sid']",
        ),
    )
    steps = seen(rule_runner)
    assert steps["repositories"] == {
        "step": "repositories",
        "store": "store",
        "layers": ["in/0", "in/1"],
        "kinds": ["base", "opam-root"],
        "repositories": [
            {"name": "upstream", "path": "repos/upstream.tar.zst"},
            {"name": "overlay", "path": "repos/overlay"},
        ],
    }
    assert steps["solve"] == {
        "step": "solve",
        "store": "store",
        "layers": ["in/0", "in/1"],
        "kinds": ["base", "opam-root"],
        "prepared": "prepared",
        "repositories": ["upstream", "overlay"],
        "requirements": ["a", "b=2"],
        "constraints": ["c<3"],
        "local": [],
        "with_test": False,
        "with_doc": False,
        "prefer_oldest": False,
        "solver": "",
    }
    assert steps["indexes"].pop("time") > 0
    assert steps["indexes"] == {
        "step": "indexes",
        "store": "store",
        "suite": "trixie",
        "architecture": "amd64",
        "mirrors": ["http://127.0.0.1:9/debian"],
        "source_suites": ["sid"],
    }
    fingerprints = steps["lock"].pop("repositories")
    assert fingerprints[0] == f"upstream sha256:{hashlib.sha256(b'content').hexdigest()}"
    assert re.fullmatch("overlay tree:[0-9a-f]{64}", fingerprints[1])
    assert steps["lock"] == {
        "step": "lock",
        "store": "store",
        "resolve": "default",
        "base": "//3rdparty/debian:trixie",
        "requirements": ["a", "b=2"],
        "constraints": ["c<3"],
        "options": [],
        "opam_files": [],
        "solution": "solution.json",
        "base_json": "prepared/base.json",
        "indexes": "indexes.json",
        "sources": "sources.txt",
        "mirrors": ["http://127.0.0.1:9/debian"],
        "archive_mirrors": ["file:///cache"],
        "suite": "trixie",
        "architecture": "amd64",
        "record_out_of_reach": False,
    }


def test_options_of_a_resolve(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    generate(
        rule_runner,
        "default",
        options=(
            "--opam-resolves-to-ocaml={'default': '5.3.0', '__default__': '4.14.2'}",
            "--opam-resolves-with-test=default",
            "--opam-resolves-with-doc=other",
            "--opam-resolves-prefer-oldest=default",
            "--opam-solver=builtin-0install",
            "--opam-out-of-reach=record",
        ),
    )
    steps = seen(rule_runner)
    assert steps["solve"]["requirements"] == ["a", "b=2", "ocaml=5.3.0"]
    chosen = {name: steps["solve"][name] for name in ("with_test", "with_doc", "prefer_oldest", "solver")}
    assert chosen == {"with_test": True, "with_doc": False, "prefer_oldest": True, "solver": "builtin-0install"}
    assert steps["lock"]["record_out_of_reach"] is True
    lock = read_opam_lock("p", "default", read(rule_runner, "3rdparty/opam/default.lock").encode())
    assert lock.options == ("prefer_oldest", "with_test", "solver=builtin-0install")


@pytest.mark.parametrize(
    ("value", "root"),
    [
        ("5.3.0", "ocaml=5.3.0"),
        (">= 5.2, <5.4", "ocaml>=5.2,<5.4"),
        ("ocaml-variants = 5.3.0+options", "ocaml-variants=5.3.0+options"),
        ("ocaml-system", "ocaml-system"),
    ],
)
def test_the_ocaml_of_a_resolve(rule_runner: RuleRunner, value: str, root: str) -> None:
    rule_runner.write_files(FILES)
    rule_runner.set_options([*OPTIONS, f"--opam-resolves-to-ocaml={{'__default__': '{value}'}}"])
    inputs = rule_runner.request(ResolveInputs, [ResolveInputsRequest("other")])
    assert inputs.requirements == tuple(sorted(("o", root)))


def test_an_option_for_a_resolve_that_is_not_there(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    message = problem(rule_runner, "default", options=("--opam-resolves-with-test=defualt",))
    assert "The resolve `defualt`, named by `[opam].resolves_with_test`, is not defined" in message


def test_what_is_the_same_for_all_resolves_is_done_once(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    base = "--opam-resolves-to-base={'default': '//3rdparty/debian:trixie', 'other': '//3rdparty/debian:trixie'}"
    generate(rule_runner, "default", "other", options=(base,))
    first = seen(rule_runner)
    second = seen(rule_runner, "3rdparty/opam/other.lock", "other")
    assert first["indexes"] == second["indexes"]  # the time included
    assert first["repositories"] == second["repositories"]


def test_notes_are_warnings(rule_runner: RuleRunner, caplog: pytest.LogCaptureFixture) -> None:
    build = 'opam_requirement(name="r", requirements=["old"])'
    rule_runner.write_files({**FILES, "3rdparty/opam/BUILD": build, "3rdparty/debian/trixie.lock": debian_lock()})
    generate(rule_runner, "default")
    assert "The resolve `default`: old is deprecated." in caplog.text


def test_unsolvable(rule_runner: RuleRunner) -> None:
    build = 'opam_requirement(name="r", requirements=["unsolvable"])'
    rule_runner.write_files({**FILES, "3rdparty/opam/BUILD": build, "3rdparty/debian/trixie.lock": debian_lock()})
    message = problem(rule_runner, "default")
    assert message == "Cannot generate the lockfile of the resolve `default`:\nerror: opam finds no solution"
    assert not Path(rule_runner.build_root, "3rdparty/opam/default.lock").exists()


def test_one_that_fails_keeps_no_other_from_being_written(rule_runner: RuleRunner) -> None:
    build = FILES["3rdparty/opam/BUILD"].replace('["o"]', '["unsolvable"]')
    before = opam_lock(resolve="other")
    rule_runner.write_files(
        {
            **FILES,
            "3rdparty/opam/BUILD": build,
            "3rdparty/opam/other.lock": before,
            "3rdparty/debian/trixie.lock": debian_lock(),
            "3rdparty/debian/second.lock": debian_lock("second"),
        }
    )
    text = problem(rule_runner, "default", "other")
    assert "resolve `other`" in text and "opam finds no solution" in text
    assert "3rdparty/opam/other.lock was not written" in text
    assert read(rule_runner, "3rdparty/opam/other.lock") == before
    assert 'resolve = "default"' in read(rule_runner, "3rdparty/opam/default.lock")
    # Alone, it is an error like any other.
    assert "was not written" not in problem(rule_runner, "other")


@pytest.fixture
def git_repository(tmp_path: Path) -> Path:
    repository = tmp_path / "git"
    (repository / "packages/a/a.1").mkdir(parents=True)
    (repository / "packages/a/a.1/opam").write_text("one")
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=one"]):
        subprocess.run(["git", *command], cwd=repository, env=environment, check=True)
    (repository / "packages/a/a.1/opam").write_text("two")
    subprocess.run(["git", "commit", "--quiet", "--all", "--message=two"], cwd=repository, env=environment, check=True)
    return repository


def commit_of(repository: Path, revision: str) -> str:
    done = subprocess.run(["git", "rev-parse", revision], cwd=repository, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("revision", ["HEAD", "HEAD~1"])
def test_a_git_repository_at_a_commit(rule_runner: RuleRunner, git_repository: Path, revision: str) -> None:
    commit = commit_of(git_repository, revision)
    location = f"git+file://{git_repository}#{commit}"
    rule_runner.set_options([*OPTIONS])
    found = rule_runner.request(OpamRepository, [OpamRepositoryRequest("upstream", location)])
    assert (found.path, found.fingerprint) == ("repos/upstream/repository.tar", f"git:{commit}")
    [entry] = rule_runner.request(DigestContents, [found.digest])
    with tarfile.open(fileobj=io.BytesIO(entry.content)) as archive:
        content = archive.extractfile("packages/a/a.1/opam")
        assert content is not None
        assert content.read() == (b"two" if revision == "HEAD" else b"one")


def test_a_commit_that_is_not_there(rule_runner: RuleRunner, git_repository: Path) -> None:
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(
            OpamRepository, [OpamRepositoryRequest("upstream", f"git+file://{git_repository}#{'1' * 40}")]
        )
    message = str(raised.value.wrapped_exceptions[0])
    first, *said, remedy = message.splitlines()
    assert f"The commit {'1' * 40} of the opam repository upstream" in first and str(git_repository) in first
    assert said and all(line.startswith("  ") for line in said) and len(set(said)) == len(said)
    assert remedy.startswith(
        "Correct the URL or the commit, or name a copy of the repository that this machine reaches"
    )


def test_a_git_repository_that_is_not_there(rule_runner: RuleRunner, tmp_path: Path) -> None:
    location = f"git+file://user:hunter2@{tmp_path}/none#{'1' * 40}"
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(OpamRepository, [OpamRepositoryRequest("upstream", location)])
    message = str(raised.value.wrapped_exceptions[0])
    assert f"cannot be fetched from file://{tmp_path}/none:" in message and "hunter2" not in message
    assert "does not appear to be a git repository" in message


def test_empty_directories_of_a_repository_do_not_count(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({"overlay/packages/a/a.1/opam": "one", "overlay/packages/a/a.1/files/gen.sh": "true"})
    Path(rule_runner.build_root, "overlay/packages/a/a.1/files/gen.sh").chmod(0o755)
    request = OpamRepositoryRequest("overlay", "overlay")
    before = rule_runner.request(OpamRepository, [request])
    Path(rule_runner.build_root, "overlay/packages/b/b.1").mkdir(parents=True)
    assert rule_runner.request(OpamRepository, [request]) == before
    contents = {file.path: file for file in rule_runner.request(DigestContents, [before.digest])}
    assert contents["repos/overlay/packages/a/a.1/files/gen.sh"].is_executable


_THREE = '[opam.repositories]\nz = "overlay"\nm = "overlay"\na = "overlay"\n'


@pytest.mark.parametrize(
    "order", ["", '["z", "m"]', '["z", "m", "a", "b"]', '["z", "z", "m", "a"]'], ids=["none", "few", "more", "twice"]
)
def test_the_order_of_several_repositories_has_to_be_said(rule_runner: RuleRunner, order: str) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    repositories = "--opam-repositories={'z': 'overlay', 'm': 'overlay', 'a': 'overlay'}"
    message = problem(
        rule_runner, "default", options=(repositories, *([f"--opam-repository-order={order}"] if order else []))
    )
    assert 'names the repositories "a", "m", "z", but `[opam].repository_order` is' in message


def test_repositories_are_read_in_the_order_that_is_said(tmp_path: Path) -> None:
    config = tmp_path / "pants.toml"
    config.write_text(f'[opam]\nrepository_order = ["z", "m", "a"]\n{_THREE}')
    runner = new_runner(f"--pants-config-files={config}")
    runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    arguments = [f"--pants-config-files={config}", *OPTIONS]
    runner.run_goal_rule(GenerateLockfilesGoal, global_args=arguments, args=["--resolve=default"])
    assert [repository["name"] for repository in seen(runner)["repositories"]["repositories"]] == ["z", "m", "a"]


def test_another_resolve_on_another_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/second.lock": debian_lock("second")})
    generate(rule_runner, "other")
    request = seen(rule_runner, "3rdparty/opam/other.lock", "other")
    assert (request["lock"]["base"], request["lock"]["requirements"]) == ("//3rdparty/debian:second", ["o"])


def test_the_base_of_the_same_run_counts(rule_runner: RuleRunner) -> None:
    stale = debian_lock(packages=["opam", "old"])
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": stale})
    assert "3rdparty/debian/trixie.lock: it is out of date" in problem(rule_runner, "default")
    generate(rule_runner, "default", "trixie")
    assert "old" not in read(rule_runner, "3rdparty/debian/trixie.lock")


def test_diff(rule_runner: RuleRunner) -> None:
    old = opam_lock(Pkg("a", version="3"), Pkg("b", version="1.10"), Pkg("gone"))
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock(), "3rdparty/opam/default.lock": old})
    assert "Lockfile diff" not in generate(rule_runner, "default", args=("--no-diff",)).stderr
    rule_runner.write_files({"3rdparty/opam/default.lock": old})
    printed = generate(rule_runner, "default").stderr
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
    assert message.startswith("`[opam].repositories` has o = 'nowhere', and Pants finds no file in that directory")
    assert "correct the path" in message


def test_an_archive_that_is_not_there(rule_runner: RuleRunner) -> None:
    """Which repository, which place, and what to do: not what helps with a file that a lockfile names."""
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock()})
    place = f"file://{rule_runner.build_root}/none/upstream.tar.gz"
    location = f"{place}#sha256={SHA}&size=12"
    message = problem(rule_runner, "default", options=(f"--opam-repositories={{'o': '{location}'}}",))
    first, where, remedy = message.splitlines()
    assert first == (
        f"Cannot fetch upstream.tar.gz for the opam repository o of `[opam].repositories` (sha256 {SHA}, 12 bytes):"
    )
    assert where.startswith(f"  * {place}: ") and "No such file" in where
    assert "`[opam].repositories`" in remedy and "generate-lockfiles" not in remedy and "[debian]" not in remedy


def test_no_mirror(rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_mirrors, "apt_mirrors", lambda _: ())
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
        (f"git+https://h.example/r.git#{'1a' * 20}", GitCommit("https://h.example/r.git", "1a" * 20)),
        (f"https://h.example/archive#sha256={SHA}&size=1", Archive("https://h.example/archive", SHA, 1, "")),
    ],
)
def test_locations(location: str, expected: object) -> None:
    assert parse_location("name", location) == expected


@pytest.mark.parametrize(
    "location",
    [
        "/abs",
        "../up",
        ".",
        "https://h/r.tar",
        "git+https://h/r",
        "git+https://h/r#main",
        f"https://h/r.tar#sha256={SHA}",
    ],
)
def test_wrong_locations(location: str) -> None:
    with pytest.raises(InvalidRepositoryError, match=r"`\[opam\].repositories` has name = "):
        parse_location("name", location)


def test_a_missing_lockfile_is_an_error_again_after_generating(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(FILES)
    generate(rule_runner, "trixie")
    with pytest.raises(ExecutionError, match="3rdparty/opam/default.lock: it does not exist"):
        rule_runner.run_goal_rule(List, global_args=OPTIONS, args=["::"])


def test_projects(rule_runner: RuleRunner) -> None:
    """Before a lockfile has their packages; then they are in it, and their targets are there."""
    files = {
        "src/app/BUILD": 'opam_project(name="p")\n',
        "src/app/app.opam": "an opam file",
        "src/lib/BUILD": 'opam_requirement(name="r", source="lib.opam")\n',
        "src/lib/lib.opam": "",
    }
    rule_runner.write_files({**FILES, **files, "3rdparty/debian/trixie.lock": debian_lock()})
    assert "Lockfile diff" in generate(rule_runner, "default", args=("--diff",)).stderr
    steps = seen(rule_runner)
    assert steps["solve"]["local"] == [
        {
            "name": "app",
            "opam": "an opam file",
            "path": "src/app/app.opam",
            "target": "src/app:p",
            "build": True,
            "directory": "src/app",
        },
        {"name": "lib", "opam": "", "path": "src/lib/lib.opam", "target": "src/lib:r"},
    ]
    assert "root" not in steps["solve"]
    text = read(rule_runner, "3rdparty/opam/default.lock")
    lock = read_opam_lock("p", "default", text.encode())
    assert {package.name: package.local for package in lock.packages.values()} == {
        "a": "",
        "app": "src/app/app.opam",
        "b": "",
    }
    rule_runner.write_files({"3rdparty/opam/default.lock": text})
    rule_runner.set_options([*OPTIONS, REPOSITORIES])
    plan = rule_runner.request(BuildPlan, [BuildPlanRequest("default")])
    assert plan.lock == dataclasses.replace(lock, path="3rdparty/opam/default.lock")
    # An opam file with a path of this machine: where the build root is decides on what it means.
    rule_runner.write_files({"src/app/app.opam": f'pin-depends: ["x.1" "file://{rule_runner.build_root}/src/lib"]'})
    generate(rule_runner, "default")
    assert seen(rule_runner)["solve"]["root"] == rule_runner.build_root


def test_a_project_with_nothing_to_build(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**FILES, "3rdparty/debian/trixie.lock": debian_lock(), "src/BUILD": "opam_project()\n"})
    assert "`opam_project` target src:src has no opam file" in problem(rule_runner, "default")
    generate(rule_runner, "other", "second")
