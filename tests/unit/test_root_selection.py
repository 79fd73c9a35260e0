"""Roots: what a selection means, how opam's universe is read, and how the solver's words become opam's."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.list_roots import synopsis_of
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.reverse_dependencies import reverse_dependencies
from opam_sandbox.locking.root_requests import RootSelection
from opam_sandbox.locking.root_selection import Available, check_selection, select
from opam_sandbox.locking.root_solver import package
from opam_sandbox.locking.run_root_solver import Solver
from opam_sandbox.locking.universe import BEYOND, Universe, declared

TEXT = b"""preamble:
property: version-lag: nat = [0], opam-version: string, opam-name: string

package: lib%5fa
version: 2
depends: ocaml >= 3 | ocaml-system , dune
opam-name: lib_a
opam-version: 1.9

package: lib%5fa
version: 3
depends: ocaml < 4
opam-name: lib_a
opam-version: 1.10

package: lib%5fa
version: 4
opam-name: lib_a
opam-version: 2.0~beta
avoid-version: 1

package: dune
version: 5
opam-name: dune
opam-version: 3.17

package: only-avoided
version: 1
opam-name: only-avoided
opam-version: 1
avoid-version: 1

request:

#v2v:lib_a:1=1.8
#v2v:dune:6=4:odd=1
#v2v:windows:1=1
#v2v:only_named:2=1.5
"""
VERSIONS = {"lib_a": ["1.8", "1.9", "1.10", "2.0~beta"], "dune": ["3.17"], "only-avoided": ["1"], "windows": ["1"]}


def packages(path: Path, versions: Dict[str, List[str]], texts: Dict[str, str]) -> Packages:
    with zipfile.ZipFile(path / "packages.zip", "w") as archive:
        for name, listed in versions.items():
            for version in listed:
                archive.writestr(f"{name}.{version}/opam", texts.get(f"{name}.{version}", ""))
    return Packages(path / "packages.zip")


def everything(universe: Universe) -> Set[Tuple[str, str]]:
    return {(name, version) for name in universe.names for version in universe.names[name].available.values()}


@pytest.mark.parametrize(
    ("texts", "options", "expected"),
    [
        (["lib_a"], {}, [("lib_a", "1.10")]),
        (["lib_a"], {"latest": 5}, [("lib_a", "1.10"), ("lib_a", "1.9")]),
        (["lib_a"], {"latest": 5, "available": False}, [("lib_a", "1.10"), ("lib_a", "1.9"), ("lib_a", "1.8")]),
        (["lib_a.2.0~beta", "lib_a"], {}, [("lib_a", "2.0~beta"), ("lib_a", "1.10")]),
        (["lib_a<1.10"], {}, [("lib_a", "1.9")]),
        (["lib_a.1.8"], {}, [("lib_a", "1.8")]),
        (["lib_a>=3"], {}, [("lib_a", "")]),
        (["*"], {}, [("dune", "3.17"), ("lib_a", "1.10"), ("only-avoided", "1")]),
        (["*"], {"available": False}, [("dune", "3.17"), ("lib_a", "1.10"), ("only-avoided", "1"), ("windows", "1")]),
        (["[dl]*", "dune*"], {}, [("dune", "3.17"), ("lib_a", "1.10")]),
        (["windows"], {}, [("windows", "")]),
        ([], {}, []),
    ],
)
def test_a_selection(
    tmp_path: Path, texts: Sequence[str], options: Dict[str, Any], expected: Sequence[Tuple[str, str]]
) -> None:
    universe = Universe(TEXT)
    known = packages(tmp_path, VERSIONS, {})
    selection: RootSelection = {"packages": list(texts), **options}
    assert select(selection, known, Available(universe, everything(universe))) == expected
    # What does not go with the compiler is left out, but not what is named by its version.
    none = select(selection, known, Available(universe, set()))
    if options.get("available", True):
        assert [root for root in none if root[1]] == [root for root in expected if ".".join(root) in texts]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"packages": ["lib_b"]}, r"no package lib_b in the opam repositories r \(did you mean lib_a\?\)"),
        ({"packages": ["dun?e*"]}, r"no package of the opam repositories r matches 'dun\?e\*' \(did you mean dune\?\)"),
        ({"packages": ["dune.9"]}, "no version 9 of dune in the opam repositories r; they have 3.17"),
        ({"packages": ["-x"]}, "'-x' is not an opam requirement"),
        ({"packages": ["*"], "latest": 0}, "the newest 0 versions: it should be 1 or more"),
    ],
)
def test_a_selection_of_nothing(tmp_path: Path, selection: Any, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        check_selection(selection, packages(tmp_path, VERSIONS, {}), ["r"])


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (("=", "1.9"), "= 2"),
        (("=", "1.09"), "= 2"),
        (("=", "7"), f"= {BEYOND}"),
        (("!=", "1.10"), "!= 3"),
        ((">=", "1.9"), ">= 2"),
        ((">=", "1.9.5"), ">= 3"),
        ((">", "1.9"), ">= 3"),
        ((">", "9"), f">= {BEYOND}"),
        (("<", "1.10"), "< 3"),
        (("<", "1.9.5"), "< 3"),
        (("<=", "1.10"), "< 4"),
        (("<=", "9"), f"< {BEYOND}"),
        (("<", "0"), "< 1"),
    ],
)
def test_bounds_in_numbers(bound: Tuple[str, str], expected: str) -> None:
    assert Universe(TEXT).bound("lib_a", bound) == f"lib%5fa {expected}"


def test_what_opam_describes() -> None:
    universe = Universe(TEXT)
    assert universe.names["lib_a"].versions == {1: "1.8", 2: "1.9", 3: "1.10", 4: "2.0~beta"}
    assert universe.names["dune"].versions[6] == "4:odd=1" and not universe.names["windows"].available
    assert universe.newest("lib_a") == [3, 2, 4]
    assert [one.name for one in universe.alternatives("lib_a", 2)] == ["ocaml", "ocaml-system", "dune"]
    first = declared(TEXT).split(b"\n")[1]
    assert first.startswith(b"property: ") and b"avoid-version: nat = [0]" in first and first.count(b"property") == 1
    with pytest.raises(ToolError, match="opam's description of its packages is not understood"):
        Universe(b"package: x\nversion: one\nopam-name: x\nopam-version: 1\n")


def test_the_librarys_reason() -> None:
    lines = [
        "Can't find all required implementations:",
        "- dune -> dune.5",
        "    lib%5fa 3 requires >= 5",
        "- lib%5fa -> (problem)",
        "    dune 5 requires >= 3",
        "    User requested = 2",
        "    Rejected candidates:",
        "      lib%5fa.3: Incompatible with restriction: < 3",
        "      lib%5fa.2: Requires dune = 6",
        "      lib%5fa.1: Requires only%5fnamed >= 2",
    ]
    solver: Any = Solver
    told = solver(None, Universe(TEXT), b"", b"", 1).in_opams_words(lines)
    assert told.splitlines() == [
        "no version of lib_a goes with the others:",
        "  dune.3.17 requires lib_a >= 1.10",
        "  User requested = 1.9",
        "  lib_a.1.10: Incompatible with restriction: < 1.10",
        "  lib_a.1.9: Requires dune = 4:odd=1",
        "  lib_a.1.8: Requires only_named >= 1.5",
    ]
    assert "cannot be installed together" in solver(None, Universe(TEXT), b"", b"", 1).in_opams_words([])


def test_who_depends(tmp_path: Path) -> None:
    universe = Universe(TEXT)
    texts = {"only-avoided.1": 'depopts: ["dune" {>= "3"} "x"]'}
    known = packages(tmp_path, VERSIONS, texts)
    roots = [("dune", "3.17"), ("lib_a", "1.9"), ("only-avoided", "1")]
    found = reverse_dependencies(universe, known, roots, ("dune", "3.17"), TEXT)
    assert [(one["name"], one["distance"], one["by"]) for one in found] == [
        ("lib_a", 1, "depends"),
        ("only-avoided", 1, "depopts"),
    ]
    tests = TEXT.replace(b"version: 3\ndepends: ocaml < 4", b"version: 3\ndepends: ocaml < 4 , dune >= 4")
    newer = [("lib_a", "1.10")]
    assert [one["by"] for one in reverse_dependencies(universe, known, newer, ("dune", "3.17"), tests)] == ["test"]
    refused = tests.replace(b"dune >= 4", b"dune >= 6")
    assert reverse_dependencies(universe, known, newer, ("dune", "3.17"), refused) == []


def test_the_package_of_the_solver() -> None:
    """Its opam file says the checksum of the source that comes with it, without which opam does not unpack it."""
    fields = package()
    assert (
        fields["files"][0]["path"] == "root_solver.ml" and "sha256=" in fields["opam"] and "%{bin}%" in fields["opam"]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('opam-version: "2.0"\nsynopsis: "One line"\n', "One line"),
        ('synopsis:\n  "In the next line"\ndescription: "synopsis: not this"', "In the next line"),
        ('synopsis: "A \\"quoted\\" word"', 'A "quoted" word'),
        ('synopsis: """Three "quotes" and\n two lines"""\n', 'Three "quotes" and two lines'),
        ('description: """\nsynopsis is not here\n"""', ""),
        ("synopsis: [", ""),
        ("", ""),
    ],
)
def test_what_a_package_says_of_itself(text: str, expected: str) -> None:
    assert synopsis_of(text) == expected
