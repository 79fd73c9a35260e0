"""Depexts of a resolve are locked by apt as one installation: what goes together, what does not, and what the error says."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Dict, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.apt import Apt
from opam_sandbox.locking.apt_lists import Lists
from opam_sandbox.locking.lock_debs import Answer, resolve, smallest_conflict
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.root_nodes import Described, Graph
from opam_sandbox.locking.write_roots_lockfile import Debs

STATUS = """Package: base
Status: install ok installed
Architecture: amd64
Version: 1
Maintainer: x
Description: x

Package: old
Status: install ok installed
Architecture: amd64
Version: 1
Maintainer: x
Description: x
"""
PACKAGES = {
    "one": "Depends: lib (>= 1), common",
    "two": "Depends: lib, common\nConflicts: three",
    "three": "Conflicts: two",
    "needs-three": "Depends: three",
    "lib": "",
    "common": "",
    "either": "Depends: first | second",
    "first": "Conflicts: second",
    "second": "Conflicts: first",
    "any": "Depends: virtual",
    "by-a": "Provides: virtual",
    "by-b": "Provides: virtual",
    "only": "Provides: by-one",
    "against-base": "Conflicts: base",
    "new-old": "Depends: old (>= 2)",
    "old": "",
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Lists:
    """An archive's lists as a run keeps them: no network, and apt's own reading of them."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine lacks apt-get")
    top = tmp_path_factory.mktemp("lists")
    for name in ("lists/partial", "etc", "cache"):
        (top / name).mkdir(parents=True)
    (top / "sources.list").write_text("deb [arch=amd64 trusted=yes] http://localhost/debian trixie main\n")
    stanzas = [
        f"Package: {name}\nArchitecture: amd64\nVersion: 2\nMaintainer: x\n{fields}{chr(10) if fields else ''}Description: x\n"
        f"Filename: pool/main/{name}_2_amd64.deb\nSize: 5\nSHA256: {number:064x}\n"
        for number, (name, fields) in enumerate(PACKAGES.items())
    ]
    (top / "lists/localhost_debian_dists_trixie_main_binary-amd64_Packages").write_text("\n".join(stanzas))
    return Lists(top, "amd64")


def ask(lists: Lists, wanted: Dict[str, Sequence[str]], record: bool = False) -> Answer:
    with Apt(lists, STATUS) as apt:
        return resolve(apt, wanted, record)


def test_each_package_gets_what_it_needs(lists: Lists) -> None:
    found = ask(lists, {"a.1": ["one"], "b.1": ["two", "base"], "c.1": ["base"]})
    assert found.own == {"a.1": {"one", "lib", "common"}, "b.1": {"two", "lib", "common"}, "c.1": set()}
    assert [(deb.name, deb.version, deb.path) for deb in found.debs] == [
        (name, "2", f"pool/main/{name}_2_amd64.deb") for name in ("common", "lib", "one", "two")
    ]
    assert found.out_of_reach == {}


def test_an_alternative_that_goes_with_the_others(lists: Lists) -> None:
    """Alone, apt takes the first one."""
    assert ask(lists, {"a.1": ["either"]}).own == {"a.1": {"either", "first"}}
    assert ask(lists, {"a.1": ["either"], "b.1": ["second"]}).own == {"a.1": {"either", "second"}, "b.1": {"second"}}
    assert ask(lists, {"a.1": ["only"], "b.1": ["by-one"]}).own == {"a.1": {"only"}, "b.1": {"only"}}


def test_a_newer_package_than_the_bases(lists: Lists) -> None:
    assert ask(lists, {"a.1": ["new-old"], "b.1": ["lib"]}).own == {"a.1": {"new-old", "old"}, "b.1": {"lib"}}


@pytest.mark.parametrize("third", ["three", "needs-three"])
def test_what_conflicts_is_named(lists: Lists, third: str) -> None:
    """Who asks for what, and apt's reason; nobody else."""
    wanted = {"a.1": ["one"], "b.1": ["lib", "two"], "c.1": ["either"], "d.1": [third], "e.1": ["common"]}
    with pytest.raises(ToolError) as caught:
        ask(lists, wanted)
    text = str(caught.value)
    assert text.startswith(f"the depexts of b.1 (lib, two), d.1 ({third}) cannot be installed together: ")
    assert "Conflicts: three" in text or "conflicts with three" in text.lower()
    assert "different resolves" in text and "a.1" not in text and "e.1" not in text

    found = ask(lists, wanted, record=True)
    assert set(found.own) == {"a.1", "b.1", "c.1", "e.1"} and set(found.out_of_reach) == {"d.1"}
    assert "cannot be installed together" in found.out_of_reach["d.1"] and "\n" not in found.out_of_reach["d.1"]


@pytest.mark.parametrize(
    "depext, words",
    [
        ("nothing", ["Unable to locate package nothing"]),
        ("virtual", ["is a virtual package provided by", "by-a 2", "by-b 2", "with one of those as its depext"]),
        ("against-base", ["will be REMOVED", "base", "leave it out of the base's `packages`"]),
        ("/etc/passwd", ["'/etc/passwd' is not the name of a Debian package"]),
        ("base-", ["'base-' is not the name of a Debian package"]),
    ],
)
def test_what_cannot_be_installed_is_said(lists: Lists, depext: str, words: List[str]) -> None:
    wanted = {"a.1": ["one"], "b.1": [depext]}
    with pytest.raises(ToolError) as caught:
        ask(lists, wanted)
    text = str(caught.value)
    assert text.startswith("b.1: its depexts: ") and "out_of_reach" in text and "/dev/null" not in text
    assert [word for word in words if word not in text] == []
    found = ask(lists, wanted, record=True)
    assert set(found.own) == {"a.1"} and set(found.out_of_reach) == {"b.1"}


def test_nothing_is_wanted(lists: Lists) -> None:
    assert ask(lists, {}) == Answer()


@given(st.integers(1, 12), st.data())
def test_the_smallest_conflict(count: int, data: st.DataObject) -> None:
    items = [f"p{number}" for number in range(count)]
    bad = [
        set(part) for part in data.draw(st.lists(st.lists(st.sampled_from(items), min_size=1), min_size=1, max_size=3))
    ]

    def fails(part: Sequence[str]) -> bool:
        return any(one <= set(part) for one in bad)

    found = smallest_conflict(items, fails)
    assert fails(found) and not any(fails([item for item in found if item != left_out]) for left_out in found)


def node_debs(
    lists: Lists, directory: Path, opam_files: Dict[str, str], roots: Dict[str, Dict[str, str]]
) -> Dict[str, object]:
    """Per package of a health check: its .debs, or why it has none."""
    with zipfile.ZipFile(directory / "packages.zip", "w") as archive:
        for title, text in opam_files.items():
            archive.writestr(f"{title}/opam", f'opam-version: "2.0"\n{text}\n')
    described = Described(Packages(directory / "packages.zip"), {"os-family": "debian"})
    graph = Graph(described)
    for root, solution in roots.items():
        graph.add(root, solution, ())
    depexts = {
        node.title: described.facts(node.title).depexts for node in graph.nodes if described.facts(node.title).depexts
    }
    with Apt(lists, STATUS) as apt:
        debs = Debs(apt, depexts, graph)
    return {node.title: debs.missing(number) or debs.of(number) for number, node in enumerate(graph.nodes)}


def test_what_conflicts_with_other_roots_is_locked_alone(lists: Lists, tmp_path: Path) -> None:
    conf = 'depexts: [["%s"] {os-family = "debian"}]'
    files = {
        "conf-two.1": conf % "two",
        "conf-three.1": conf % "three",
        "conf-none.1": conf % "not-there",
        "a.1": 'depends: ["conf-two"]',
        "b.1": 'depends: ["conf-three"]',
        "c.1": 'depends: ["conf-two" "conf-three"]',
    }
    roots = {
        "a": {"a": "1", "conf-two": "1"},
        "b": {"b": "1", "conf-three": "1"},
        "c": {"c": "1", "conf-two": "1", "conf-three": "1"},
        "conf-none": {"conf-none": "1"},
    }
    found = node_debs(lists, tmp_path, files, roots)
    assert found["conf-two.1"] == ["common", "lib", "two"]
    # Together apt refuses them, and one of the two is asked for alone.
    assert found["conf-three.1"] == ["three"]
    assert "not-there" in str(found["conf-none.1"])
    assert found["a.1"] == found["b.1"] == found["c.1"] == []


def test_what_is_below_brings_its_own(lists: Lists, tmp_path: Path) -> None:
    conf = 'depexts: [["%s"]]'
    files = {"conf-one.1": conf % "one", "conf-two.1": conf % "two" + '\ndepends: ["conf-one"]'}
    found = node_debs(lists, tmp_path, files, {"conf-two": {"conf-two": "1", "conf-one": "1"}})
    assert found == {"conf-one.1": ["common", "lib", "one"], "conf-two.1": ["two"]}
