"""opamfile: real files are understood, wrong ones are errors with a line, and nothing else ever comes out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.opam.opamfile import (
    Binary,
    Group,
    Ident,
    Int,
    Item,
    ListOf,
    Option_,
    Prefix,
    Str,
    Value,
    parse,
    without,
)
from opam_sandbox.opam.strings import quote
from tests.support.snapshot import opam_files

LWT = '''opam-version: "2.0"
synopsis: "Promises \\"and\\" more"  # a comment: "not a string
(* another (* nested *) comment: [ *)
description: """
A "quoted" text, ""twice"",
with \\"escapes\\"."""
depends: [
  "cppo" {build & >= "1.1.0"}
  "ocaml" {>= "4.08" & != "4.14.0~beta1" | = "5.0"}
  ("a" | "b" {with-test})
  "result" {!post}
]
build: [
  ["dune" "subst"] {dev}
  ["dune" "build" "-p" name "-j" jobs "@runtest" {with-test}]
]
available: arch != "arm32" & os-family = "debian"
flags: avoid-version
x-number: -12
url {
  src: "https://example.org/lwt.tar.gz"
  checksum: ["md5=00" "sha256=11"]
}
extra-source "fix.patch" {
  src: "https://example.org/fix.patch"
}
'''


def fields(text: str) -> Dict[str, Item]:
    return {item.name: item for item in parse(text, "t")}


def value(text: str) -> Value:
    found = fields(f"x: {text}")["x"].value
    assert found is not None
    return found


def test_a_real_file() -> None:
    items = fields(LWT)
    assert items["synopsis"].value == Str('Promises "and" more')
    description = items["description"].value
    assert isinstance(description, Str) and description.value.endswith('""twice"",\nwith "escapes".')
    depends = items["depends"].value
    assert isinstance(depends, ListOf)
    assert depends.items[0] == Option_(Str("cppo"), (Binary("&", Ident("build"), Prefix(">=", Str("1.1.0"))),))
    assert depends.items[2] == Group((Binary("|", Str("a"), Option_(Str("b"), (Ident("with-test"),))),))
    assert depends.items[3] == Option_(Str("result"), (Prefix("!", Ident("post")),))
    assert items["x-number"].value == Int(-12)
    assert items["flags"].value == Ident("avoid-version")
    assert [item.name for item in items["url"].items] == ["src", "checksum"]
    assert (items["extra-source"].label, items["extra-source"].value) == ("fix.patch", None)


def test_precedence() -> None:
    """`&` binds tighter than `|`, relations tighter than both, `!` tightest."""
    a, b, c = Ident("a"), Ident("b"), Ident("c")
    assert value("a | b & c") == Binary("|", a, Binary("&", b, c))
    assert value("a & b | c") == Binary("|", Binary("&", a, b), c)
    assert value('!a & b != "x"') == Binary("&", Prefix("!", a), Binary("!=", b, Str("x")))
    assert value("(a | b) & c") == Binary("&", Group((Binary("|", a, b),)), c)


@pytest.mark.parametrize(
    "literal, meaning",
    [
        (r'"a\\b\"c\n\t"', 'a\\b"c\n\t'),
        (r'"\065\x42"', "AB"),
        ('"a\\\n   b"', "ab"),
        ('""', ""),
        ('""""a" b"""', '"a" b'),
        ('"# (* no comment *)"', "# (* no comment *)"),
        ('"é\udcff"', "é\udcff"),
    ],
)
def test_strings(literal: str, meaning: str) -> None:
    assert value(literal) == Str(meaning)


@given(st.text())
def test_quote_is_read_back(text: str) -> None:
    assert value(quote(text)) == Str(text)


@pytest.mark.parametrize(
    "text, line",
    [
        ('a: "1"\nb: ]', 2),
        ('a: [\n"x"\n', 3),
        ('a: "x" {\n\n>= }', 3),
        ('\n\na: "open', 3),
        ("a: (* open", 1),
        ("a {\n b: 1\n", 3),
        ("\n5", 2),
        ("a: 1 & ", 1),
        ("\n$", 2),
        ("a:", 1),
        ("a", 1),
    ],
)
def test_errors_name_the_line(text: str, line: int) -> None:
    with pytest.raises(ToolError, match=f"lwt.1: line {line}: "):
        parse(text, "lwt.1")


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 100_000, "a: " + "(" * 5000 + ")" * 5000, "a: " + "!" * 100_000, "a {" * 50_000, "(*" * 100_000],
    ids=["lists", "groups", "negations", "sections", "comments"],
)
def test_endless_nesting(text: str) -> None:
    """An error, not the end of Python's stack."""
    with pytest.raises(ToolError):
        parse(text, "t")


@pytest.mark.parametrize(
    "text",
    [
        'a: "' + "\\" * 200_000,
        'a: """' + '"\\"' * 100_000,
        "#" * 300_000,
        "a: [" + '"x" {>= "1"} ' * 20_000 + "]",
        "a: " + "9" * 50_000,
    ],
    ids=["backslashes", "quotes", "comment", "list", "number"],
)
def test_long_texts_take_no_time(text: str) -> None:
    """Linear, whatever the text: this test hangs otherwise."""
    try:
        parse(text, "t")
    except ToolError:
        pass


_pieces = st.sampled_from(
    [
        "a",
        ":",
        "b-c",
        '"x"',
        '"',
        '"""',
        "\\",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "&",
        "|",
        "!",
        "?",
        ">=",
        "=",
        "#",
        "(*",
        "*)",
        "\n",
        " ",
        "1",
        "-",
    ]
)


def only_tool_errors(text: str) -> None:
    try:
        items = parse(text, "t")
    except ToolError:
        return
    # Spans are in order, and a file without nothing is itself.
    assert all(0 <= item.start < item.end <= len(text) for item in items)
    assert all(one.end <= other.start for one, other in zip(items, items[1:]))
    assert without(text, items, ()) == text


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(_pieces, max_size=30).map("".join)))
def test_any_text(text: str) -> None:
    only_tool_errors(text)


@given(st.integers(0, len(LWT)), st.integers(0, len(LWT)), _pieces)
def test_torn_files(start: int, end: int, piece: str) -> None:
    only_tool_errors(LWT[:start])
    only_tool_errors(LWT[start:])
    only_tool_errors(LWT[:start] + piece + LWT[end:])


@pytest.mark.parametrize(
    "name", ["depends", "description", "url", "extra-source", "available", "opam-version", "build"]
)
def test_without_removes_just_the_field(name: str) -> None:
    """What is left is what was there, in the same bytes and with the same meaning."""
    items = parse(LWT, "t")
    text = without(LWT, items, [name])
    left = parse(text, "t")
    assert [(item.name, item.label, item.value) for item in left] == [
        (item.name, item.label, item.value) for item in items if item.name != name
    ]
    assert [text[item.start : item.end] for item in left] == [
        LWT[item.start : item.end] for item in items if item.name != name
    ]
    assert "# a comment" in text and "(* another" in text


def test_the_public_repository(public_repository: Path) -> None:
    """Some hundred files, taken evenly from the public opam-repository, all parse, and lose just the fields they are to lose."""
    if public_repository.suffix == ".zst" and shutil.which("zstd") is None:
        pytest.skip("needs the program zstd")
    files = enumerate(opam_files(public_repository))
    texts = [(f"{name}.{version}", text) for number, (name, version, text) in files if number % 60 == 0]
    assert len(texts) > 100
    for name, text in texts:
        items = parse(text, name)
        left = parse(without(text, items, ["depends", "url"]), name)
        assert [item.value for item in left] == [item.value for item in items if item.name not in ("depends", "url")]
        assert "opam-version" in {item.name for item in items}


def test_escapes_are_bytes() -> None:
    r"""\195\169 is the character é of UTF-8; a byte that is no character stays a byte."""
    assert value(r'"Ren\195\169 \xc3\xa9 \233 \065"') == Str("René é \udce9 A")
    assert value('"caf\udcc3\\169"') == Str("café")
