"""What builds see of opam files: all that the tool's parser reads, but for what is for people."""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

import pytest

from opam_oci.layers.opam_text import commands_of_field, seen_by_builds, texts_seen_by_builds
from opam_sandbox.opam import opamfile
from tests.support import snapshot

WHOLE = r'''opam-version: "2.0" # a comment "with a quote
(* another one (* nested *) synopsis: "no" *)
synopsis: "A \"quoted\" tool: {not} a section"
description: """
Several lines. build: [ "no" ] \"""
"""
maintainer: ["a" "b"]  authors: "c" license: "ISC"
tags: ["org:x" "y"] homepage: "https://h" doc: "https://d" bug-reports: "https://b" dev-repo: "git+https://g"
depends: ["b" {>= "1" & !build} "c"]
depexts: [["m4"] {os-family = "debian"}]
flags: plugin
build: [make "-j" jobs "prefix=%{prefix}%" {os != "win32"}]
x-commit-hash: "abc" x-env-path-rewrite: [[PATH false]]
x-maintenance-intent: ["(latest)"]
setenv: [[A += "x # no comment"]]
url {
  src: "https://h.example/v1/a-1.tar.gz" # here
  mirrors: ["https://m.example/a.tar.gz"]
  checksum: ["md5=00" "sha256=11"]
}
extra-source "p.patch" { src: "http://h.example/p.patch?raw=true" checksum: "md5=22" }
'''
SEEN = r"""opam-version: "2.0"
depends: [ "b" { >= "1" & !build } "c" ]
flags: plugin
build: [ make "-j" jobs "prefix=%{prefix}%" { os != "win32" } ]
x-env-path-rewrite: [ [ PATH false ] ]
setenv: [ [ A += "x # no comment" ] ]
url { src: "https://localhost/source.tar.gz" checksum: [ "md5=00" "sha256=11" ] }
extra-source "p.patch" { src: "https://localhost/p.patch?raw=true" checksum: "md5=22" }
"""


def test_what_is_for_people_is_not_seen() -> None:
    assert seen_by_builds(WHOLE) == SEEN
    assert seen_by_builds(SEEN) == SEEN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('synopsis: "a"\n', ""),
        ("", 'tags: "x"\nx-other: [1 2]\n'),
        ("", "(* a comment *) # and one more\n"),
        ('description: """a"""', 'description: """\nbuild: ["x"]\n"""'),
        (
            'url { src: "https://a/x.tgz" checksum: "md5=0" }',
            'url { src: "ftp://b/c/y.tgz" mirrors: "https://c/y" checksum: "md5=0" }',
        ),
        (
            'extra-source "p" { src: "https://a/p" checksum: "md5=0" }',
            'extra-source "p" { src: "https://b/p" checksum: "md5=0" }',
        ),
    ],
)
def test_changes_that_builds_do_not_see(before: str, after: str) -> None:
    rest = 'build: ["make"]\n'
    assert seen_by_builds(rest + before) == seen_by_builds(rest + after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('version: "1"', 'version: "2"'),
        ('build: ["a b"]', 'build: ["a  b"]'),
        ('build: ["a" "b"]', 'build: ["ab"]'),
        ('post-messages: "a"', ""),
        ('url { src: "https://a/x.tgz" checksum: "md5=0" }', 'url { src: "https://a/x.tgz" checksum: "md5=1" }'),
        # How it is packed, and the name of a file that is no archive, do matter.
        ('url { src: "https://a/x.tgz" checksum: "md5=0" }', 'url { src: "https://a/x.zip" checksum: "md5=0" }'),
        ('url { src: "https://a/x.ml" checksum: "md5=0" }', 'url { src: "https://a/y.ml" checksum: "md5=0" }'),
        # Without a checksum, the address says what it is.
        ('url { src: "https://a/x.tgz" }', 'url { src: "https://b/x.tgz" }'),
        ('url { git: "git://a/x" checksum: "md5=0" }', 'url { git: "git://b/x" checksum: "md5=0" }'),
    ],
)
def test_changes_that_builds_see(before: str, after: str) -> None:
    assert seen_by_builds(before + "\n") != seen_by_builds(after + "\n")


@pytest.mark.parametrize(
    "text",
    [
        '"no field"',
        'build: ["make"',
        "build: ]",
        'synopsis: "no end',
        "(* no end",
        "synopsis: \x00\n[",
        'note_in="a"\n',
    ],
)
def test_what_is_not_understood_is_left_as_it_is(text: str) -> None:
    assert seen_by_builds(text) == text


def test_who_asks_where_an_opam_file_lies_may_read_it() -> None:
    text = 'synopsis: "x"\nbuild: ["cat" {}]\n'
    files = {
        "plain": text.format("a"),
        "own": text.format("%{_:opamfile}%"),
        "reader": text.format("%{read+also:opamfile}%"),
        "read": text.format("b"),
        "also": text.format("c"),
    }
    seen = texts_seen_by_builds(files.items())
    assert {name for name, text in files.items() if seen[name] == text} == {"own", "read", "also"}
    assert "synopsis" not in seen["plain"] + seen["reader"]


UNSEEN = {
    *(
        "synopsis",
        "description",
        "maintainer",
        "author",
        "authors",
        "license",
        "tags",
        "homepage",
        "doc",
        "bug-reports",
    ),
    *("dev-repo", "depexts", "messages"),
}


def meaning(text: str) -> "List[Tuple[Any, ...]]":
    """What the tool's parser reads of it, without what builds do not see."""

    def within(item: opamfile.Item) -> "Iterator[Tuple[Any, ...]]":
        for field in item.items:
            if field.name != "mirrors":
                yield field.name, None if field.name in ("src", "archive", "http") else field.value

    return [
        (item.name, item.label, item.value, list(within(item)))
        for item in opamfile.parse(text, "opam")
        if item.name not in UNSEEN and (not item.name.startswith("x-") or item.name == "x-env-path-rewrite")
    ]


def test_real_opam_files_keep_their_meaning() -> None:
    try:
        archive = snapshot.find_snapshot()
    except snapshot.NoSnapshotError as error:
        pytest.skip(str(error))
    tried = 0
    for number, (name, version, text) in enumerate(snapshot.opam_files(archive)):
        if number % 20:
            continue
        seen = seen_by_builds(text)
        assert len(seen) < len(text), f"{name}.{version}"
        assert meaning(seen) == meaning(text), f"{name}.{version}"
        tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('["make" "test"]', ("make test",)),
        (
            '[["dune" "runtest" "-p" name "-j" jobs] ["sh" "-c" "a; b"] {os = "linux"}]',
            ("dune runtest -p", "sh -c a; b"),
        ),
        ("[]", ()),
        ('[[make "test"]]', ()),
        ('"make"', ("make",)),
    ],
)
def test_how_commands_begin(field: str, expected: Tuple[str, ...]) -> None:
    assert commands_of_field(f'opam-version: "2.0"\nrun-test: {field}\nbuild: ["x"]\n', "run-test") == expected
    assert commands_of_field("build: [", "build") == ()
