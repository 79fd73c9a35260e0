"""This repository is whole: its configuration names nothing outside of it, and the example needs no other opam repository."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_sandbox.opam.opamfile import Item, parse
from tests.support.checkout import ROOT, tool
from tests.support.snapshot import opam_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OVERLAY = ROOT / "3rdparty/opam/overlay/packages"
# Fields that name files in an image, or a page for people.
OF_NO_FILE_HERE = {"entrypoint", "cmd", "env", "workdir", "labels", "annotations", "url", "project_urls"}
# What these fields of an `oci_image_test` name is in its image.
OF_THE_IMAGE = {"config", "files", "users", "commands"}
CONFIGURATION = tomllib.loads((ROOT / "pants.toml").read_text())


def outside(text: str) -> bool:
    """Whether a value names something outside of this repository: a path that leaves it, a URL, someone's home."""
    text = text.replace("%(buildroot)s", ".")
    absolute = text.startswith("/") and not text.startswith("//")
    return absolute or "://" in text or text.startswith(("~", "file:")) or ".." in re.split("[/:]", text)


def strings(value: Any) -> Iterator[str]:
    """The strings in a TOML value, keys of tables included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *strings(item))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def build_strings(text: str) -> Iterator[str]:
    """The strings in a BUILD file, but those of fields that name no file of this repository."""

    class Finder(ast.NodeVisitor):
        def __init__(self) -> None:
            self.found: list[str] = []

        def visit_Call(self, node: ast.Call) -> None:
            tested = isinstance(node.func, ast.Name) and node.func.id == "oci_image_test"
            for keyword in node.keywords:
                if keyword.arg not in OF_NO_FILE_HERE and not (tested and keyword.arg in OF_THE_IMAGE):
                    self.visit(keyword.value)
            for argument in node.args:
                self.visit(argument)

        def visit_Constant(self, node: ast.Constant) -> None:
            if isinstance(node.value, str):
                self.found.append(node.value)

    finder = Finder()
    finder.visit(ast.parse(text))
    yield from finder.found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3rdparty/opam/overlay", False),
        ("%(buildroot)s/src", False),
        ("//3rdparty/debian:trixie", False),
        ("%(buildroot)s/../shared/x.tar", True),
        ("../shared", True),
        ("file:///srv/x", True),
        ("https://example.org/x", True),
        ("/srv/x", True),
        ("~/x", True),
    ],
)
def test_what_is_outside(text: str, expected: bool) -> None:
    assert outside(text) is expected


def test_pants_toml_names_nothing_outside() -> None:
    found = list(strings(CONFIGURATION))
    assert len(found) > 20 and [text for text in found if outside(text)] == []


def test_build_files_name_nothing_outside() -> None:
    paths = [
        path for path in tool("git", "-C", str(ROOT), "ls-files").stdout.splitlines() if Path(path).name == "BUILD"
    ]
    assert {"3rdparty/opam/BUILD", "images/BUILD"} <= set(paths)
    for path in paths:
        found = list(build_strings((ROOT / path).read_text()))
        assert [text for text in found if outside(text)] == [], path


def test_the_overlay_is_the_only_repository() -> None:
    assert CONFIGURATION["opam"]["repositories"] == {"overlay": "3rdparty/opam/overlay"}


@pytest.mark.parametrize("resolve", sorted(CONFIGURATION["opam"]["resolves"]))
def test_lockfiles_take_all_from_the_overlay(resolve: str) -> None:
    path = CONFIGURATION["opam"]["resolves"][resolve]
    lock = read_opam_lock(path, resolve, (ROOT / path).read_bytes())
    assert lock.repositories is not None
    assert [line.partition(":")[0] for line in lock.repositories] == ["overlay tree"]
    assert len(lock.packages) > 10
    for package in lock.packages.values():
        directory = OVERLAY / package.name / f"{package.name}.{package.version}"
        assert package.opam == (directory / "opam").read_text(), directory
        files = directory / "files"
        here = {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()}
        assert {file.path: file.content for file in package.files} == here, directory


# What users read, and what nothing is built from.
WORDS = {"synopsis", "description", "x-commit-hash", "x-maintained", "x-maintenance-intent"}


def directories() -> list[Path]:
    return sorted(path.parent for path in OVERLAY.glob("*/*/opam"))


def facts(text: str, origin: str) -> list[tuple[object, ...]]:
    """The fields and sections of an opam file but for words, in an order that does not depend on the file's."""

    def plain(items: "tuple[Item, ...] | list[Item]") -> "list[tuple[object, ...]]":
        kept = [item for item in items if item.name not in WORDS]
        return sorted(((i.name, i.label, i.value, plain(i.items)) for i in kept), key=lambda fact: str(fact[:2]))

    return plain(parse(text, origin))


def test_every_opam_file_says_what_differs_from_upstreams() -> None:
    assert len(directories()) > 25
    for directory in directories():
        head = (directory / "opam").read_text().partition("opam-version:")[0]
        assert re.match(
            rf"# (Differs from the opam-repository's {re.escape(directory.name)} in|Not in the opam-repository|A stand-in for)",
            head,
        ), directory.name


def test_facts_see_what_matters() -> None:
    text = 'opam-version: "2.0"\nsynopsis: "a"\ndepends: ["ocaml" {>= "4.08"}]\nurl { src: "a" checksum: ["md5=a"] }\n'
    other = 'opam-version: "2.0"\nurl { checksum: ["md5=a"] src: "a" }\ndepends: ["ocaml" {>= "4.08"}]\nsynopsis: "b"\n'
    assert facts(text, "a") == facts(other, "b")
    for old, new in (
        ("4.08", "4.09"),
        ("md5=a", "md5=b"),
        ('src: "a"', 'src: "b"'),
        (">=", ">"),
        ("depends", "depopts"),
    ):
        assert facts(text, "a") != facts(other.replace(old, new), "b"), new


def test_where_only_words_differ_the_facts_are_upstreams(public_repository: Path) -> None:
    ours = {path.name: (path / "opam").read_text() for path in directories()}
    ours = {title: text for title, text in ours.items() if "in nothing but words" in text.partition("opam-version:")[0]}
    assert len(ours) > 15
    seen = set()
    for name, version, text in opam_files(public_repository):
        title = f"{name}.{version}"
        if title in ours:
            seen.add(title)
            assert facts(ours[title], title) == facts(text, title), title
    assert seen == set(ours), "the snapshot has not all of these releases"
