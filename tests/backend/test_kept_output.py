"""`package` leaves output alone only where nothing but the goal can have asked for it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Sequence

import pytest
from pants.core.goals.package import BuiltPackage, Package
from pants.core.goals.publish import Publish
from pants.engine.addresses import Address
from pants.engine.fs import Digest, Snapshot
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals import kept_output
from opam_oci.goals import publish as goal_publish
from opam_oci.goals.kept_output import packaged_specs, raw_specs
from opam_oci.run_end.dist_record import Output
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["package", "//images:a"], ["//images:a"]),
        (["package", "images:a", "images:b@x=y", "a:b#c"], ["images:a", "images:b@x=y", "a:b#c"]),
        (["--no-pantsd", "package", "-ldebug", "images::", "--tag=x", "-images/no:"], ["images::"]),
        (["package"], []),
        (["package", "images"], []),
        (["package", "images/BUILD"], []),
        (["package", "images/*:a"], []),
        (["package", "publish", "//images:a"], []),
        (["publish", "//images:a"], []),
        (["--changed-since=HEAD", "package"], []),
        (["package", "//images:a", "--", "x:y"], []),
        (["--spec-files=list", "package", "//images:a"], []),
        ([], []),
    ],
)
def test_what_a_command_line_says(words: Sequence[str], expected: Sequence[str]) -> None:
    assert packaged_specs(["pants", *words], in_build_root=True) == tuple(expected)


def test_what_a_command_line_publishes() -> None:
    assert packaged_specs(["pants", "publish", "images:a"], in_build_root=True, goal="publish") == ("images:a",)
    assert packaged_specs(["pants", "package", "images:a"], in_build_root=True, goal="publish") == ()


def test_in_another_directory_paths_are_other_ones() -> None:
    assert packaged_specs(["pants", "package", "images:a"], in_build_root=False) == ()
    assert packaged_specs(["pants", "package", "//images:a", "//b::"], in_build_root=False) == ("//images:a", "//b::")


def test_specs() -> None:
    literals, globs = raw_specs(["//images:a", "b:c", "images:", "//x/y::", "::"])
    assert literals.values == ("//images:a", "b:c")
    assert [glob.directory for glob in globs.dir_globs] == ["images"]
    assert [glob.directory for glob in globs.recursive_globs] == ["x/y", ""]


class Record:
    """Says that dist/ has whatever it is asked for."""

    def __init__(self) -> None:
        self.asked: "list[Output]" = []

    def holds(self, output: Output) -> bool:
        self.asked.append(output)
        return True


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    found = Record()
    monkeypatch.setattr(kept_output, "dist_record", lambda *_: found)
    return found


@pytest.fixture
def runner(rule_runner: RuleRunner, fake_tool: None) -> RuleRunner:
    """With an image, another one, and an archive of the first."""
    archive = 'archive(name="archive", packages=["//images:one"], format="tar", output_path="archive.tar")\n'
    rule_runner.write_files(
        {
            **project(Pkg("lwt"), image=image("lwt", name="one") + image("lwt", name="two")),
            "more/BUILD": archive,
        }
    )
    return rule_runner


def package(runner: RuleRunner, *specs: str, directory: str = "") -> "set[str]":
    """What is in dist/ after a run."""
    env = {"PATH": "/usr/bin:/bin", "PWD": directory or runner.build_root}
    done = runner.run_goal_rule(Package, global_args=OPTIONS, args=specs, env=env)
    assert done.exit_code == 0
    dist = Path(runner.build_root, "dist")
    return {path.relative_to(dist).as_posix() for path in dist.rglob("*") if path.is_file()}


@pytest.mark.parametrize("specs", [["//images:one"], ["images:one", "images:two"], ["images:"], ["//images::"]])
def test_what_only_the_goal_can_have_asked_for_is_left_alone(
    runner: RuleRunner, record: Record, specs: Sequence[str]
) -> None:
    assert package(runner, *specs) == set()
    asked = {output.paths for output in record.asked}
    assert ("images/one", *(f"images/one.{kind}.json" for kind in ("cdx", "provenance", "spdx"))) in asked
    assert {path for path, _ in record.asked[0].files} > set(record.asked[0].paths[1:])


@pytest.mark.parametrize("specs", [["//images:one", "//more:archive"], ["::"], ["more:archive", "images:"]])
def test_who_packages_an_image_gets_all_of_it(runner: RuleRunner, record: Record, specs: Sequence[str]) -> None:
    written = package(runner, *specs)
    assert "images/one/index.json" in written
    with tarfile.open(Path(runner.build_root, "dist/archive.tar")) as archive:
        packed = {name.lstrip("./") for name in archive.getnames()}
    assert {path for path in written if path.startswith("images/one")} <= packed


def test_from_another_directory_only_whole_addresses_say_what_they_are(runner: RuleRunner, record: Record) -> None:
    other = str(Path(runner.build_root, "more"))
    assert package(runner, "//images:one", directory=other) == set()
    assert "images/one/index.json" in package(runner, "images:one", directory=other)


def test_what_another_goal_asks_for_is_whole(runner: RuleRunner, record: Record) -> None:
    target = runner.get_target(Address("images", target_name="one"))
    built = runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])
    assert "images/one/index.json" in runner.request(Snapshot, [built.digest]).files
    assert [artifact.relpath for artifact in built.artifacts][0] == "images/one"
    assert record.asked == []


def compared(runner: RuleRunner, monkeypatch: pytest.MonkeyPatch, *specs: str) -> "list[str]":
    """What a run of `publish` reads and compares before it asks where the image goes to; then, what it hands out."""
    names = []

    async def noted(digest: Digest, name: str) -> Digest:
        names.append(name)
        return digest

    for module in (kept_output, goal_publish):
        monkeypatch.setattr(module, "verified", noted)
    env = {"PATH": "/usr/bin:/bin", "PWD": runner.build_root}
    # By then all that is published is known; what runs in the foreground wants a terminal, which a test has not.
    with pytest.raises(ExecutionError, match="Destination Logging"):
        runner.run_goal_rule(Publish, global_args=OPTIONS, args=specs, env=env)
    return names


def test_publish_compares_only_what_it_hands_out(
    runner: RuleRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = image("lwt", name="one", more=f'repositories=["oci:{tmp_path}/layout"],')
    runner.write_files({**project(Pkg("lwt"), image=images)})
    assert compared(runner, monkeypatch, "//images:one") == ["image images:one"]
    # The archive is not published, but another goal or plugin could ask for it: the image is compared for all.
    assert compared(runner, monkeypatch, "//images:one", "//more:archive") == ["image images:one"] * 2
