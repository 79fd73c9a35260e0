"""Solutions of many roots as one graph, and the lockfile that is made of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Dict, List

import pytest

from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.root_nodes import CycleError, Described, Graph

VARIABLES = {"os-distribution": "debian", "os-version": "13", "arch": "x86_64", "opam-version": "2.3.0"}


def described(directory: Path, opam_files: Dict[str, str]) -> Described:
    """Of packages ("a.1" -> text of the opam file)."""
    with zipfile.ZipFile(directory / "packages.zip", "w") as archive:
        for title, text in opam_files.items():
            archive.writestr(f"{title}/opam", f'opam-version: "2.0"\n{text}\n')
    return Described(Packages(directory / "packages.zip"), dict(VARIABLES))


def names(graph: Graph, numbers: "List[int] | frozenset[int] | tuple[int, ...]") -> List[str]:
    return sorted(graph.nodes[number].title for number in numbers)


def test_equal_packages_over_equal_dependencies_are_one_node(tmp_path: Path) -> None:
    packages = described(
        tmp_path, {"a.1": "", "a.2": "", "b.1": 'depends: ["a"]', "x.1": 'depends: ["b"]', "y.1": 'depends: ["b"]'}
    )
    graph = Graph(packages)
    x = graph.add("x", {"x": "1", "b": "1", "a": "1"}, ())
    y = graph.add("y", {"y": "1", "b": "1", "a": "1"}, ())
    again = graph.add("y", {"y": "1", "b": "1", "a": "2"}, ())
    assert names(graph, graph.below(x.node)) == ["a.1", "b.1", "x.1"]
    assert graph.nodes[x.node].depends == graph.nodes[y.node].depends
    assert again.node != y.node
    assert [node.title for node in graph.nodes].count("b.1") == 2  # over a.1, over a.2


def test_an_optional_dependency_makes_another_node(tmp_path: Path) -> None:
    packages = described(
        tmp_path, {"o.1": "", "a.1": 'depopts: ["o"]', "x.1": 'depends: ["a"]', "y.1": 'depends: ["a" "o"]'}
    )
    graph = Graph(packages)
    x = graph.add("x", {"x": "1", "a": "1"}, ())
    y = graph.add("y", {"y": "1", "a": "1", "o": "1"}, ())
    assert names(graph, graph.below(x.node)) == ["a.1", "x.1"]
    assert names(graph, graph.below(y.node)) == ["a.1", "o.1", "y.1"]


def test_post_dependencies_come_later(tmp_path: Path) -> None:
    packages = described(
        tmp_path,
        {
            "ocaml.5": 'depends: ["base"]',
            "base.5": 'depends: ["conf" {post} "ocaml" {post} "z-more" {post}]',
            "conf.1": 'depends: ["low"]',
            "low.1": "",
            "z-more.1": "",
        },
    )
    graph = Graph(packages)
    solution = {"ocaml": "5", "base": "5", "conf": "1", "low": "1", "z-more": "1"}
    root = graph.add("ocaml", solution, ())
    assert names(graph, graph.below(root.node)) == ["base.5", "ocaml.5"]
    assert names(graph, root.later) == ["conf.1", "low.1", "z-more.1"]
    base = next(number for number, node in enumerate(graph.nodes) if node.title == "base.5")
    assert graph.later(base) == ("conf.1", "ocaml.5", "z-more.1")
    assert graph.later(root.node) == ("conf.1", "z-more.1")


def test_later_is_sorted_by_name(tmp_path: Path) -> None:
    packages = described(tmp_path, {"a.1": 'depends: ["base" {post} "base-x" {post}]', "base.1": "", "base-x.1": ""})
    graph = Graph(packages)
    root = graph.add("a", {"a": "1", "base": "1", "base-x": "1"}, ())
    assert graph.later(root.node) == ("base.1", "base-x.1")


def test_tests_are_of_the_root_only(tmp_path: Path) -> None:
    text = 'depends: ["t" {with-test}]'
    packages = described(tmp_path, {"t.1": "", "a.1": text, "x.1": 'depends: ["a" "t" {with-test}]'})
    graph = Graph(packages)
    x = graph.add("x", {"x": "1", "a": "1", "t": "1"}, ("test",))
    assert names(graph, graph.nodes[x.node].depends) == ["a.1", "t.1"]
    a = next(node for node in graph.nodes if node.title == "a.1")
    assert a.depends == () and a.asked == ()
    assert graph.nodes[x.node].asked == ("test",)
    alone = graph.add("a", {"a": "1", "t": "1"}, ("test",))
    assert names(graph, graph.nodes[alone.node].depends) == ["t.1"]


def test_a_circle_is_named(tmp_path: Path) -> None:
    packages = described(tmp_path, {"r.1": 'depends: ["a"]', "a.1": 'depends: ["b"]', "b.1": 'depends: ["a"]'})
    graph = Graph(packages)
    with pytest.raises(CycleError, match="a -> b -> a"):
        graph.add("r", {"r": "1", "a": "1", "b": "1"}, ())


def test_a_long_chain_needs_no_recursion(tmp_path: Path) -> None:
    length = 3000
    files = {f"p{n}.1": f'depends: ["p{n + 1}"]' for n in range(length)}
    files[f"p{length}.1"] = ""
    graph = Graph(described(tmp_path, files))
    root = graph.add("p0", {f"p{n}": "1" for n in range(length + 1)}, ())
    assert len(graph.below(root.node)) == length + 1


def test_accepted_failures_are_those_of_the_base(tmp_path: Path) -> None:
    packages = described(
        tmp_path,
        {"a.1": 'x-ci-accept-failures: ["debian-13" "centos-7"]', "b.1": 'x-ci-accept-failures: ["debian-12"]'},
    )
    assert packages.facts("a.1").accept_failures
    assert not packages.facts("b.1").accept_failures
