"""opam files, which packages bring: the parser, and what is read out of what it gives."""

from __future__ import annotations

from typing import Dict, List, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.opam import formulas, opamfile

SEEDS: List[bytes] = [
    b"""opam-version: "2.0"
synopsis: "Promises \\"and\\" more \\065\\x41\\n" # "comment
(* nested (* comment *) *)
description: \"\"\"
A "quoted" text, \\"escaped\\".\"\"\"
depends: [
  "cppo" {build & >= "1.1.0"}
  "ocaml" {>= "4.08" & != "4.14.0~beta1" | = "5.0" & os-family = "debian"}
  ("a" | "b" {with-test & !?post})
  "result" {!post & version = "%{version}%"}
]
depopts: ["x" {post} "y" {dev}]
build: [["dune" "build" "-p" name "-j" jobs {with-test}]]
available: arch != "arm32" & (os-family = "debian" | os = "macos")
depexts: [["libssl-dev"] {os-family = "debian"} ["gmp"] {os-distribution = "arch"}]
flags: [avoid-version deprecated]
license: ["MIT" "LGPL-2.1-only WITH OCaml-LGPL-linking-exception"]
x-number: -12
url { src: "https://example.org/x.tgz" checksum: ["md5=00" "sha256=11"] subpath: "y" }
extra-source "fix.patch" { src: "https://example.org/fix.patch" }
""",
    b'opam-version: "2.0"\n',
    b"x: [" + b"(" * 50 + b")" * 50 + b"]",
    b"(* " * 40 + b"*) " * 40,
]
TOKENS = b"""
(* *) \"\"\" " [ ] ( ) { } & | ! ? : >= != < = += =+ := =+= ~ x: depends: depexts: url { "a" {build} & \\065 \\999 \\xff #
""".split()

_VARIABLES: Dict[str, Union[bool, str]] = {"os-family": "debian", "build": True, "with-test": False, "arch": "x86_64"}


def run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        items = opamfile.parse(text, "p.1: opam file")
    except ToolError as error:
        assert str(error).startswith("p.1: opam file: ")
        return
    rest = opamfile.without(text, items, {"depends", "url", "extra-source"})
    assert {item.name for item in opamfile.parse(rest, "rest")} == {item.name for item in items} - {
        "depends",
        "url",
        "extra-source",
    }
    values = [item.value for item in items if item.value is not None]
    needed = formulas.dependencies(values, "p", "1", {"a": "1", "cppo": "1.2~x", "ocaml": "5.0"}, _VARIABLES)
    assert not set(needed.build) & set(needed.post)
    formulas.not_at_run_time(values)
    for value in values:
        formulas.depexts(value, _VARIABLES)
        formulas.idents(value)
        formulas.strings(value)
