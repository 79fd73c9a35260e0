"""Processes are the same on every machine: the keys of a shared cache depend on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pants.engine.fs import EMPTY_DIGEST, Digest, DigestContents, FileContent, Snapshot
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.process import ProcessCacheScope
from pants.testutil.rule_runner import RuleRunner
from pants.util.frozendict import FrozenDict

from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from opam_oci.layers.requests import build_request
from opam_oci.resolves.lockfile import Deb
from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_oci.sandbox import tool as sandbox
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.process import Call, request_file, tool_process
from opam_oci.sandbox.tool import SandboxTool
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import Pkg, opam_lock, project, source_toml

LAYER = Layer("base", "trixie", "", "sha256:1", "sha256:2", 1, "application/x", EMPTY_DIGEST, "3" * 64)


TOOL = SandboxTool(FrozenDict({"build": EMPTY_DIGEST, "state": Digest("1" * 64, 1)}))


def call(command: str = "build") -> Call:
    return Call(command, "Build opam package a.1", {}, (LAYER, LAYER), ("layer.json",))


def test_the_process() -> None:
    process = tool_process(TOOL, call(), EMPTY_DIGEST)
    request = request_file({}, (LAYER, LAYER)).content
    assert json.loads(request) == {"inputs": {"in/0/layer.json": "3" * 64, "in/1/layer.json": "3" * 64}}
    sha256 = hashlib.sha256(request).hexdigest()
    assert process.argv == (*"/usr/bin/env python3 -sSEB __tool build request.json --sha256".split(), sha256)
    assert dict(process.env) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }
    assert set(process.immutable_input_digests) == {"__tool", "in/0", "in/1"}
    assert dict(process.append_only_caches) == {"opam_oci_layers": "store"}
    assert process.cache_scope == ProcessCacheScope.SUCCESSFUL
    assert process.description == "Build opam package a.1"


def test_a_process_has_the_part_of_the_tool_that_it_runs() -> None:
    for command in ("build", "state"):
        process = tool_process(TOOL, call(command), EMPTY_DIGEST)
        assert process.immutable_input_digests["__tool"] == TOOL.parts[command]


def test_parts_are_apart() -> None:
    """A change of images, lockfiles or publishing builds no package anew, and a change of builds makes no image anew."""
    runner = new_runner()
    tool = runner.request(SandboxTool, [])
    parts = {
        "building": ("rootfs", "opam-root", "build", "test", "shell"),
        "checking": ("check-image",),
        "comparing": ("compare-files", "describe", "statements"),
        "documenting": ("document",),
        "entering": ("enter",),
        "exporting": ("export",),
        "imaging": ("state", "repack", "merge", "runtime", "archive"),
        "importing": ("fetch-image", "join-image"),
        "linting": ("lint",),
        "locking": ("lock-debian", "lock-opam"),
        "looking": ("contents",),
        "publishing": ("plan-push", "push", "push-about", "sign", "run", "load", "add", "remove"),
    }
    for part, commands in parts.items():
        files = set(runner.request(Snapshot, [tool.parts[part]]).files)
        assert {"__main__.py", f"opam_sandbox/{part}/cli.py", "filelock/__init__.py"} <= files
        rooms = {file.split("/")[1] for file in files if file.startswith("opam_sandbox/")}
        assert rooms & set(parts) == {part}
        assert all(tool.parts[command] == tool.parts[part] for command in commands)
    assert len(set(tool.parts.values())) == len(parts)


def test_requests_are_the_same_bytes_for_the_same_values() -> None:
    assert request_file({"b": 1, "a": ["é", {"d": 2, "c": 3}]}) == request_file({"a": ["é", {"c": 3, "d": 2}], "b": 1})


def test_options_for_depexts_are_in_requests_with_debs_only() -> None:
    package = read_opam_lock("l", "default", opam_lock(Pkg("a")).encode()).packages["a"]
    deb = Deb("gcc", "2-1", "amd64", "pool/gcc.deb", "cd" * 32, 4)
    plain = build_request(package, package.opam, [], [LAYER])
    assert build_request(package, package.opam, [], [LAYER], twice=True, left_out=["/b", "/a"]) == plain
    assert "twice" not in plain and "left_out" not in plain
    asked = build_request(package, package.opam, [deb], [LAYER], twice=True, left_out=["/b", "/a"])
    assert (asked["twice"], asked["left_out"]) == (True, ["/a", "/b"])


def test_the_request_of_a_build() -> None:
    source = source_toml(["https://h.example/a.tbz", "debian:pool/a"], "ab" * 32, 3)
    text = opam_lock(
        Pkg("a", opam="build: []\n", extra=source + '[[package.file]]\npath = "f"\ncontent = "x"\nexecutable = true\n')
    )
    package = read_opam_lock("l", "default", text.encode()).packages["a"]
    assert build_request(
        package, package.opam, [Deb("gcc", "2-1", "amd64", "pool/gcc.deb", "cd" * 32, 4)], [LAYER]
    ) == {
        "store": "store",
        "layers": ["in/0"],
        "package": {
            "name": "a",
            "version": "1",
            "opam": "build: []\n",
            "files": [{"path": "f", "content": "eA==", "executable": True}],
            "sources": [
                {
                    "name": "",
                    "sha256": "ab" * 32,
                    "size": 3,
                    "file": f"sources/{'ab' * 32}",
                }
            ],
            "debs": [
                {
                    "name": "gcc",
                    "version": "2-1",
                    "architecture": "amd64",
                    "sha256": "cd" * 32,
                    "size": 4,
                    "file": "debs/gcc.deb",
                }
            ],
        },
        "with_test": False,
        "later": [],
    }


def test_overlapping_files_in_builds() -> None:
    """Only of packages below which two can differ: of no others does the option change the key."""
    for depends, expected in (([], None), (["a"], None), (["a", "b"], ["/etc/*"])):
        package = read_opam_lock(
            "l", "default", opam_lock(*map(Pkg, "ab"), Pkg("c", depends=depends)).encode()
        ).packages["c"]
        assert (
            build_request(package, package.opam, [], [LAYER], overlapping_files=["/etc/*"]).get("overlapping_files")
            == expected
        )
        assert "overlapping_files" not in build_request(package, package.opam, [], [LAYER])


def test_the_tool(rule_runner: RuleRunner) -> None:
    tool = rule_runner.request(SandboxTool, [])
    files = {f.path: f.content for f in rule_runner.request(DigestContents, [tool.parts["build"]])}
    assert {"__main__.py", "opam_sandbox/cli.py", "opam_sandbox/__init__.py", "filelock/__init__.py"} <= set(files)
    assert [file for file in files if not file.endswith(".py")] == ["opam_sandbox/building/sorted_readdir.c"]
    assert b"opam_sandbox.building.cli" in files["__main__.py"]


def test_a_part_with_a_file_that_is_not_there() -> None:
    part = sandbox.Part("building", "__init__.py", (), ("__init__.py", "gone/"))
    with pytest.raises(sandbox.MissingToolError, match="gone/"):
        sandbox.files_of_part([FileContent("opam_sandbox/__init__.py", b"")], part)


def test_filelock_is_not_installed(rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(SandboxTool, [])
    message = str(raised.value.wrapped_exceptions[0])
    assert "`opam_sandbox` is not installed" in message and "PANTS_PLUGINS" in message


def outcome(runner: RuleRunner, name: str) -> PackageOutcome:
    return runner.request(PackageOutcome, [PackageLayerRequest("default", name)])


@pytest.mark.usefixtures("fake_tool")
def test_other_cores_another_directory_and_another_run_hit_the_cache(tmp_path: Path) -> None:
    """The log of `a` has the number of cores and the time of its build: the second run must not make a new one."""
    logs = []
    digests: list[Digest] = []
    for cores in (1, 3):
        runner = new_runner(f"--local-store-dir={tmp_path}", f"--process-execution-local-parallelism={cores}")
        runner.set_options([*OPTIONS, "--opam-show-build-logs"])
        runner.write_files(project(Pkg("a", opam="environment"), Pkg("b", depends=["a"])))
        built = outcome(runner, "b")
        digests.append(built.layers["b"].digest)
        logs.append(runner.request(DigestContents, [built.layers["a"].digest])[0].content)
    assert digests[0] == digests[1]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("fake_tool")
def test_what_a_build_can_see(rule_runner: RuleRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rule_runner.write_files(project(Pkg("a", opam="environment")))
    rule_runner.set_options([*OPTIONS, "--opam-show-build-logs"])
    assert outcome(rule_runner, "a").ok
    [log] = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Build log of a.1:")]
    seen = json.loads(log.splitlines()[1])
    assert seen["argv"][:-1] == ["__tool", "build", "request.json", "--sha256"]
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "LANG"}
    # build.log itself is being written.
    assert set(seen["files"]) - {"build.log"} == {"__tool", "in", "request.json", "store"}


@pytest.mark.usefixtures("fake_tool")
def test_a_warning_is_seen_when_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a build that succeeds. The next Pants finds its result in the cache, where nothing is damaged."""
    caplog.set_level("WARNING")
    seen = []
    for _ in range(2):
        runner = new_runner(f"--local-store-dir={tmp_path / 'store'}")
        runner.write_files(project(Pkg("a", opam="warn"), Pkg("b", depends=["a"])))
        runner.set_options(OPTIONS)
        assert outcome(runner, "b").ok
        seen.append([r.getMessage() for r in caplog.records if "damaged" in r.getMessage()])
        caplog.clear()
    assert seen == [["Build opam package a.1: a is damaged"], []]


@pytest.mark.usefixtures("fake_tool")
def test_the_same_package_of_two_resolves_is_built_once(rule_runner: RuleRunner) -> None:
    files = project(Pkg("a"), Pkg("b"))
    files["3rdparty/opam/other.lock"] = project(Pkg("a"))["3rdparty/opam/default.lock"].replace('"default"', '"other"')
    rule_runner.write_files(files)
    rule_runner.set_options(
        [
            *OPTIONS,
            "--opam-resolves-to-base={'default': '//3rdparty/debian:trixie', 'other': '//3rdparty/debian:trixie'}",
        ]
    )
    other = rule_runner.request(PackageOutcome, [PackageLayerRequest("other", "a")])
    assert other.layers["a"].digest == outcome(rule_runner, "a").layers["a"].digest
