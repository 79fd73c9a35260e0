"""The benchmarks' own parts: what they change in lockfiles, and how they show figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
import zipfile
from pathlib import Path

import pytest

from bench.examples import EXAMPLES, CannotChange, Example, change_base, change_package
from bench.figures import Row, plot, table, write_json
from bench.roots import Measured, chosen, lockfile, rows
from bench.scale import generate, packages_of
from opam_oci.layers.opam_text import seen_by_builds
from opam_oci.resolves.health_lock import read_health_lock
from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_sandbox.layer.description import read_layer
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.root_nodes import Described
from tests.support.checkout import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The locks and configuration of this checkout, to be changed."""
    for name in ("3rdparty/opam", "3rdparty/debian"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pants.toml", tmp_path)
    return tmp_path


@pytest.fixture(params=sorted(EXAMPLES))
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


def test_one_package_changes(root: Path, example: Example) -> None:
    before = example.opam_lock(root).packages
    for name in (example.leaf, example.middle):
        change_package(root, example, name, "another")
    after = example.opam_lock(root).packages
    assert {name for name in before if before[name] != after[name]} == {example.leaf, example.middle}
    changed, unchanged = after[example.leaf].opam, before[example.leaf].opam
    assert changed == 'post-messages: "another"\n' + unchanged
    # Else nothing would be built.
    assert seen_by_builds(changed) != seen_by_builds(unchanged)
    with pytest.raises(CannotChange):
        change_package(root, example, "no-such-package", "another")


def test_nothing_stands_on_the_leaf_and_much_on_the_middle(example: Example) -> None:
    packages = example.packages(ROOT)
    above = {name: {p.name for p in packages if name in p.depends} for name in (example.leaf, example.middle)}
    assert not above[example.leaf] and above[example.middle]


def test_the_base_gets_one_more_deb(root: Path, example: Example) -> None:
    before = example.debian_lock(root)
    change_base(root, example)
    after = example.debian_lock(root)
    assert set(after.debs) - set(before.debs) == {example.more[0]} and set(before.debs) <= set(after.debs)
    assert after.debs[example.more[0]] == example.added_deb(ROOT)
    [target] = re.findall(rf'debian_rootfs\(name="{example.base}".*?\)', (root / "3rdparty/debian/BUILD").read_text())
    assert sorted(re.findall(r'"([^"]+)"', target.partition("packages=")[2])) == sorted(after.packages)
    with pytest.raises(CannotChange):
        change_base(root, example)


def test_the_second_image_shares_all_but_its_last_layers(example: Example) -> None:
    lock = example.opam_lock(ROOT)
    first, second = (set(lock.image_closure(names)) for names in (example.roots, example.second))
    assert second < first and len(second) >= 0.8 * len(first)


def test_generated_images_have_fifty_layers(root: Path) -> None:
    generate(root, "trixie", 3)
    content = (root / "bench/generated/bench.lock").read_bytes()
    lock = read_opam_lock("bench.lock", "bench", content)
    for image in range(3):
        closure = lock.image_closure(packages_of(image))
        assert len(closure) + 3 == 50  # the base, opam's root, the state
    assert 'bench = "bench/generated/bench.lock"' in (root / "pants.toml").read_text()


def test_figures(tmp_path: Path) -> None:
    rows = [
        Row("a", "one & two", 2.0, "base <line>", 8.0, goal=0.2),
        Row("b", "bytes", 3e6, "more bytes", 1e6, "B"),
    ]
    text = table(rows)
    assert "0.25  <= 0.2 MISSED" in text and "3.0 MB" in text and "3.00" in text
    drawn = xml.etree.ElementTree.fromstring(plot(rows, "a < b"))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "a: one & two" in texts and "0.25" in texts
    write_json(tmp_path / "x/figures.json", rows, {"image": "hello"})
    written = json.loads((tmp_path / "x/figures.json").read_text())
    assert written["rows"][0]["ratio"] == 0.25 and written["image"] == "hello"


def test_a_health_check_of_solutions(tmp_path: Path) -> None:
    """What `opam-health` reads, with a node for each package over other dependencies, and a root without a solution."""
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        for title, text in {"a.1": 'depends: "b"', "b.1": "", "b.2": 'depends: "c" {post}', "c.1": ""}.items():
            archive.writestr(
                f"{title.partition('.')[0]}.{title.partition('.')[2]}/opam", f'opam-version: "2.0"\n{text}\n'
            )
    roots = [
        {"name": "a", "version": "1", "packages": {"a": "1", "b": "1"}},
        {"name": "b", "version": "2", "packages": {"b": "2", "c": "1"}},
        {"name": "d", "version": "1", "reason": "none"},
    ]
    made = lockfile(Described(Packages(tmp_path / "packages.zip"), {}), chosen(roots, 9))
    lock = read_health_lock("health.lock", "health", json.dumps(made).encode())
    assert sorted(node.partition("/")[0] for node in lock.nodes) == ["a.1", "b.1", "b.2", "c.1"]
    found = {root.name: root for root in lock.roots}
    assert found["d"].reason and [one.partition("/")[0] for one in found["b"].later] == ["c.1"]
    assert [node.package.name for node in lock.below(found["a"].node)] == ["b"]
    assert len(chosen(roots, 2)) == 2 and chosen(roots, 2) == chosen(roots[::-1], 2)


def test_rows_of_roots() -> None:
    """Per root and per node of the lockfile."""
    small = Measured(100, 200, 0, 10.0, 2.0, 400, 2000, 1.0, 0.5)
    large = Measured(400, 600, 3, 60.0, 9.0, 1000, 6000, 4.5, 0.5)
    made = rows([small, large])
    ratios = {row.subject.partition(",")[0]: round(row.ratio, 3) for row in made}
    assert ratios == {
        "a root of 400 roots": 1.5,
        "a node of 400 roots": 2.0,
        "pantsd's processor time for a node of 400 roots": 1.5,
        "nodes of Pants' graph for a node of 400 roots": 1.0,
        "pantsd's peak after 400 roots": 2.5,
        "a root of 100": 0.01,
        "a root of 400": 0.02,
    }
    assert [(row.goal, row.missed) for row in made if row.goal] == [(0.04, False), (0.04, False)]


def test_the_fake_builder_makes_layers(tmp_path: Path) -> None:
    request = {"package": {"name": "a", "version": "1"}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    tool = ROOT / "bench/fake_builder/tool.py"
    subprocess.run([sys.executable, str(tool), "build", "request.json", "--sha256", ""], cwd=tmp_path, check=True)
    layer = read_layer(tmp_path)
    assert (layer.name, layer.version, layer.kind) == ("a", "1", "package") and layer.blob.exists()
