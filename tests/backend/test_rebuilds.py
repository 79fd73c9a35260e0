"""What a change of a lockfile builds again: the package itself and what depends on it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from pants.testutil.rule_runner import RuleRunner

from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from tests.backend.locktext import Pkg, project

pytestmark = pytest.mark.usefixtures("fake_tool")

GRAPH = {
    "bottom": (),
    "left": ("bottom",),
    "right": ("bottom",),
    "top": ("left", "right"),
    "beside": ("right",),
    "unrelated": (),
}


@pytest.fixture
def built(rule_runner: RuleRunner, tmp_path: Path) -> Callable[..., "list[str]"]:
    """Writes a lockfile with these versions (default 1), asks for all packages, and says which were really built."""
    notes = tmp_path / "notes"

    def build(**versions: str) -> "list[str]":
        notes.write_text("")
        rule_runner.write_files(
            project(
                *(
                    Pkg(name, depends=depends, version=versions.get(name, "1"), opam=f"note_in={notes}")
                    for name, depends in GRAPH.items()
                )
            )
        )
        for name in GRAPH:
            outcome = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", name)])
            assert outcome.ok, outcome
        return sorted(notes.read_text().split())

    return build


def test_a_change_of_one_version(built: Callable[..., "list[str]"]) -> None:
    assert built() == ["beside.1", "bottom.1", "left.1", "right.1", "top.1", "unrelated.1"]
    assert built() == []
    assert built(left="2") == ["left.2", "top.1"]
    assert built(left="2", unrelated="3") == ["unrelated.3"]
    assert built(left="2", unrelated="3", right="4") == ["beside.1", "right.4", "top.1"]
    assert built(bottom="5") == ["beside.1", "bottom.5", "left.1", "right.1", "top.1"]
    # What was built once is not built again.
    assert built() == []


def test_what_a_lockfile_says_of_its_making_builds_nothing(
    rule_runner: RuleRunner, built: Callable[..., "list[str]"], tmp_path: Path
) -> None:
    """Neither its header, nor its options, nor where sources can be had."""
    built()
    path = Path(rule_runner.build_root, "3rdparty/opam/default.lock")
    text = path.read_text().replace("constraints = []", "constraints = []\noptions = []")
    rule_runner.write_files({"3rdparty/opam/default.lock": "# Another header\n" + text})
    notes = tmp_path / "notes"
    notes.write_text("")
    for name in GRAPH:
        assert rule_runner.request(PackageOutcome, [PackageLayerRequest("default", name)]).ok
    assert notes.read_text() == ""


def test_what_builds_do_not_see_of_an_opam_file_builds_nothing(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """Nor does another place to have a source from."""
    notes = tmp_path / "notes"

    def build(text: str) -> "list[str]":
        notes.write_text("")
        above = Pkg("above", depends=["a"], opam=f"flags: [ note_in={notes} ]\n")
        rule_runner.write_files(project(Pkg("a", opam=f"flags: [ note_in={notes} ]\n{text}"), above))
        outcome = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "above")])
        assert outcome.ok, outcome
        return notes.read_text().split()

    assert build('synopsis: "A" url { src: "https://one/a.tgz" checksum: "md5=0" }\n') == ["a.1", "above.1"]
    assert build('(* B *) tags: ["c"] depexts: [["m4"]] url { src: "https://two/v/b.tgz" checksum: "md5=0" }\n') == []
    assert build('synopsis: "B" url { src: "https://two/v/b.tgz" checksum: "md5=1" }\n') == ["a.1", "above.1"]
