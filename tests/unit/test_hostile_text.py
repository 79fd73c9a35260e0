"""What packages, archives and registries write: the right value, or an error that names it, however long or deep it is.

tests/fuzz looks for more of these. Here is what was found, and what it means now.
"""

from __future__ import annotations

import sys
from typing import Dict

import pytest

from opam_oci.images import licenses
from opam_oci.images import sbom_documents as sbom
from opam_oci.layers.opam_text import strings_of_field
from opam_sandbox.debian_versions import compare_versions
from opam_sandbox.errors import ToolError
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.opam.opamfile import DEEPEST, Str
from opam_sandbox.publishing import skopeo

LONG = 100_000

# opam files


def value_of(text: str) -> opamfile.Value:
    [item] = opamfile.parse(f"x: {text}", "p.1: opam file")
    assert item.value is not None
    return item.value


@pytest.mark.parametrize("opening", ["(", "[", "! ", '"a" {', "(! ", "x {"])
def test_nested_too_deeply(opening: str) -> None:
    text = "y: 1\n" + ("" if opening.startswith("x") else "x: ") + opening * LONG
    with pytest.raises(ToolError, match=rf"^p\.1: opam file: line 2: it is nested more than {DEEPEST} deep$"):
        opamfile.parse(text, "p.1: opam file")


def test_filters_on_one_value() -> None:
    with pytest.raises(ToolError, match="nested more than"):
        value_of('"a"' + " {build}" * LONG)


def test_as_deep_as_it_may_be() -> None:
    """All that walks through a file gets to the bottom, on Pythons that stop after a thousand calls."""
    assert sys.getrecursionlimit() <= 1000
    deep = value_of("(" * (DEEPEST - 2) + '"a" {build}' + ")" * (DEEPEST - 2))
    assert list(formulas.atoms(deep)) == [("a", (opamfile.Ident("build"),))]
    assert formulas.strings(deep) == ["a"]
    [(_, filters)] = formulas.atoms(value_of('"a" {' + "!" * (DEEPEST - 2) + "dev}"))
    assert formulas.evaluate(filters[0], {"dev": True}) is (DEEPEST % 2 == 0)
    nested = value_of('"a" {' + "(build & " * (DEEPEST - 2) + "build" + ")" * (DEEPEST - 2) + "}")
    assert formulas.not_at_run_time([nested]) == {"a"}


def test_long_chains() -> None:
    """They are no deeper than two operands."""
    many = " & ".join(["build"] * LONG)
    [(name, filters)] = formulas.atoms(value_of(f'"a" {{{many} & false}}'))
    assert name == "a" and formulas.evaluate(filters[0], {"build": True}) is False
    assert formulas.not_at_run_time([value_of(f'"a" {{{many}}}')]) == {"a"}
    either = value_of(" | ".join(f'"p{number}" {{>= "1"}}' for number in range(LONG)))
    found = formulas.dependencies([either], "x", "1", {"p7": "2", "p99999": "1", "p8": "0"}, {})
    assert found.build == ("p7", "p99999")


def test_strings_take_no_more_memory_than_they_are_long() -> None:
    import tracemalloc

    text = 'x: """' + 'a\\"' * LONG + '"""'
    tracemalloc.start()
    [item] = opamfile.parse(text, "p.1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert item.value == Str('a"' * LONG) and peak < 100 * LONG


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{v}%", "1"),
        ("a%{v}%%{v}%b", "a11b"),
        ("%{v}", "%{v}"),
        ("%{%{v}%", ""),
        ("%{v}x%{v}%", "%{v}x1"),
        ("%{none}%.", "."),
        ("%{" * LONG, "%{" * LONG),
        ("%{v}x" * LONG + "%{v}%", "%{v}x" * LONG + "1"),
    ],
    ids=range(8),
)
def test_variables_in_strings(text: str, expected: str) -> None:
    assert formulas._text(Str(text), {"v": "1"}) == expected


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("1." + "9" * 5000, "1." + "9" * 4999 + "8", 1),
        ("0" * 5000 + "1", "1", 0),
        ("9" * 5000, "1" + "0" * 5000, -1),
        ("1" * 5000 + "~", "1" * 5000, -1),
    ],
)
def test_versions_of_thousands_of_digits(left: str, right: str, order: int) -> None:
    found = compare_versions(left, right)
    assert (found > 0) - (found < 0) == order
    assert formulas.evaluate(value_of(f'>= "{right}"'), {}, left) is (order >= 0)


# SBOM


def test_words_of_licenses_that_look_alike() -> None:
    """Nothing of what packages say is lost: each text has an identifier of its own, and the first keeps the plain one."""
    references: Dict[str, str] = {}
    names = [licenses.expression([text], references) for text in ("A B", "A-B", "A B", "é", "è")]
    assert names[0] == names[2] == "LicenseRef-A-B" and names[3] == "LicenseRef-unnamed"
    assert len(references) == 4 and sorted(references.values()) == sorted(["A B", "A-B", "é", "è"])
    assert [references[name] for name in names] == ["A B", "A-B", "A B", "é", "è"]


def test_bytes_that_are_no_text_in_an_sbom() -> None:
    opam = 'license: "caf\udce9"\nhomepage: "https://x/\udcff"\n'
    licenses_of, [homepage] = strings_of_field(opam, "license"), strings_of_field(opam, "homepage")
    package = sbom.OpamFacts("a", "1", licenses_of, homepage, (), (("https://\udcff/", ""),))
    contents = sbom.Contents("i", "sha256:00", "1970-01-01T00:00:01Z", sbom.components_of([package], [], "s"))
    for form in sbom.FORMATS:
        document = sbom.encode(form.document(contents)).decode("utf-8")
        assert "caf\ufffd" in document and "https://x/\ufffd" in document and "https://\ufffd/" in document


def test_skopeos_words() -> None:
    text = 'level=fatal msg="' + '\\"' * LONG + "unauthorized" + '"\n'
    assert skopeo.last_line(text).endswith("unauthorized") and not skopeo._is_passing(text)
