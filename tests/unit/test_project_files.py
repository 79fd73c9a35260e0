"""Opam files of the project: what they ask of a solution. tests/e2e/test_project_files.py compares with opam by hand."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.project_files import ProjectFile, deps_packages, pin_constraints, read_project_files
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.opam import opamfile
from tests.unit.test_locking import PIECES, repository, zipped

HEAD = 'opam-version: "2.0"\n'
ARCHIVE = "https://example.org/dep-3.tgz"
GIT = "git+https://example.org/dep.git#0123456789012345678901234567890123456789"
REPOSITORY = {
    "mylib.0.7": "",
    "mylib.0.8": 'available: os-family = "arch"',
    "mylib.0.9": "available: unheard-of",
    "new.1": "available: false",
    "dep.1": "",
    "dep.3": f'url {{\nsrc: "{ARCHIVE}"\nchecksum: "md5=d41d8cd98f00b204e9800998ecf8427e"\n}}',
    "dep.dev": f'x-pinned-url: "{GIT}"',
    "deep.1": f'url {{ src: "a" }}\npin-depends: [["dep.dev" "{GIT}"] ["deep.1" "a"]]',
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    top = tmp_path_factory.mktemp("packages")
    files = {title: {"opam": f"{HEAD}{text}\n".encode()} for title, text in REPOSITORY.items()}
    return zipped(top, [repository(top / "a", files)])


def read(packages: Packages, text: str, path: str = "src/mylib.opam", name: str = "mylib") -> ProjectFile:
    local: Any = [{"name": name, "opam": text, "path": path, "target": "src:mylib"}]
    [file] = read_project_files(local, packages, {"os-family": "debian"})
    return file


def test_what_opam_solves_with(packages: Packages) -> None:
    file = read(packages, HEAD + f'version: "1.2~dev"\nname: "x"\ndepends: ["a"]\npin-depends: ["dep.1" "{GIT}"]\n')
    items = {item.name: item.value for item in opamfile.parse(file.pinned(), "test")}
    assert items == {
        "opam-version": opamfile.Str("2.0"),
        "name": opamfile.Str("mylib"),
        "version": opamfile.Str("1.2~dev"),
        "depends": opamfile.ListOf((opamfile.Str("a"),)),
    }


@pytest.mark.parametrize(("name", "version"), [("mylib", "0.7"), ("new", "1"), ("unheard-of", "dev")])
def test_the_version_of_a_file_that_has_none(packages: Packages, name: str, version: str) -> None:
    """The newest that is available; what no repository has is `dev`."""
    assert read(packages, HEAD, name=name).version == version


@pytest.mark.parametrize(
    ("path", "field", "name"),
    [
        ("src/top/opam", "", "top"),
        ("src/top/opam/opam", "", "top"),
        ("opam", 'name: "zed"', "zed"),
        ("src/top/opam", 'name: "zed"', "zed"),
    ],
)
def test_names_of_plain_files(packages: Packages, path: str, field: str, name: str) -> None:
    assert read(packages, HEAD + field, path, "").name == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty: an opam file begins with"),
        ("# nothing\n", "is empty"),
        ('depends: ["a"]', "the field `opam-version` is missing"),
        ('opam-version: "1.2"', "the field `opam-version` is '1.2', and only files of version 2.0"),
        ('opam-version: "2.2"', "the field `opam-version` is '2.2'"),
        (HEAD + 'version: "1 2"', "the field `version` holds '1 2'"),
        (HEAD + 'version: ["1"]', "the field `version` does not hold one string"),
        (HEAD + 'depends: ["a"]\ndepends: ["b"]', "the field `depends` is there twice"),
        (HEAD + "depends: {}", "line 2: expected a value"),
        (HEAD + "}", "line 2: expected a field's name"),
    ],
)
def test_files_that_opam_would_not_take_as_a_whole(packages: Packages, text: str, reason: str) -> None:
    with pytest.raises(ToolError, match=r"src/mylib.opam \(`source` of src:mylib\)") as raised:
        read(packages, text)
    assert reason in str(raised.value)


@pytest.mark.parametrize(("path", "name"), [("1.opam", "1"), ("a.b.opam", "a.b"), ("z d.opam", "z d"), ("opam", "")])
def test_names_that_are_none(packages: Packages, path: str, name: str) -> None:
    with pytest.raises(ToolError, match=f"{path} .*: '{name}' is no name of an opam package"):
        read(packages, HEAD, path, name)


def test_two_files_of_one_package(packages: Packages) -> None:
    local: Any = [
        {"name": "zed", "opam": HEAD, "path": "zed.opam"},
        {"name": "", "opam": HEAD + 'name: "zed"', "path": "opam"},
    ]
    with pytest.raises(ToolError, match="opam and zed.opam are opam files of one package, zed"):
        read_project_files(local, packages, {})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return zipped(tmp_path_factory.mktemp("empty"), [])


@given(st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=60))
def test_an_opam_file_is_understood_or_refused(empty: Packages, text: str) -> None:
    """Nothing but a ToolError that names the file comes of any text."""
    try:
        file = read(empty, HEAD + text)
        file.pinned()
        pin_constraints([file], empty)
        deps_packages([file], {"x": "1", "mylib": "dev"}, {"os": "linux"})
    except ToolError as error:
        assert str(error).startswith("src/mylib.opam (`source` of src:mylib)")


# pin-depends


def pins(packages: Packages, value: str) -> List[str]:
    return pin_constraints([read(packages, f"{HEAD}pin-depends: {value}")], packages)


def test_pins_that_a_repository_has(packages: Packages) -> None:
    assert pins(packages, "[]") == []
    assert pins(packages, f'["dep.3" "{ARCHIVE}"]') == pins(packages, f'[["dep.3" "{ARCHIVE}"]]') == ["dep=3"]
    assert pins(packages, f'[["dep.dev" "{GIT}"]]') == ["dep=dev"]
    assert pins(packages, '[["deep.1" "a"]]') == ["deep=1", "dep=dev"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f'[["dep.2" "{GIT}"]]', f"pins dep.2 to {GIT}, and no repository has dep.2. Pins are not fetched"),
        (f'[["dep.1" "{GIT}"]]', f"pins dep.1 to {GIT}, and the dep.1 of the repositories is another one"),
        (f'[["dep.3" "{GIT}"]]', f'add the field `x-pinned-url: "{GIT}"` to its opam file'),
        (f'[["dep.dev" "{GIT[:-1]}8"]]', "the dep.dev of the repositories is another one"),
        (f'[["dep.3" "{ARCHIVE}"] ["dep.dev" "{GIT}"]]', "pins dep."),
        (f'[["mylib.1" "{GIT}"]]', "but src/mylib.opam (`source` of src:mylib) is an opam file of that package"),
        ('"x"', "is not a list of"),
        ('[["dep" "x"]]', "is not a list of"),
        ('["dep.1"]', "is not a list of"),
        ('[["dep.1" "x" "y"]]', "is not a list of"),
    ],
)
def test_pins_that_nobody_has(packages: Packages, value: str, reason: str) -> None:
    with pytest.raises(ToolError, match=r"the field `pin-depends`") as raised:
        pins(packages, value)
    assert "src/mylib.opam (`source` of src:mylib)" in str(raised.value) and reason in str(raised.value)


# depexts


def deps(packages: Packages, text: str, solution: Dict[str, str]) -> Any:
    known: Any = {"os-family": "debian", "with-test": False, "with-doc": False, "build": True, "dev": False}
    return deps_packages([read(packages, HEAD + text)], {"mylib": "0.7", **solution}, known)


DEPEXTS = 'depexts: [["libpq-dev" "a"] {os-family = "debian"} ["pq"] {os-family = "arch"} ["t"] {with-test}]\n'


def test_depexts_are_those_of_a_package(packages: Packages) -> None:
    depends = 'depends: ["dep" {>= "1"} "after" {post} "check" {with-test} "other" {= version}]\n'
    found, [note] = deps(
        packages, depends + DEPEXTS, {"dep": "1", "after": "2", "check": "1", "other": "0.7", "x": "1"}
    )
    [item] = found
    assert (item["name"], item["version"], item["depexts"]) == ("deps-of-mylib", "0.7", ["a", "libpq-dev"])
    assert (item["depends"], item["post"]) == (["after", "dep", "other"], [])
    items = {one.name: one.value for one in opamfile.parse(item["opam"], "test")}
    assert '"dep" {= "1"}' in item["opam"] and '"other" {= "0.7"}' in item["opam"]
    assert items["depexts"] == opamfile.ListOf((opamfile.ListOf((opamfile.Str("a"), opamfile.Str("libpq-dev"))),))
    assert "a, libpq-dev, are those of the package deps-of-mylib" in note


def test_no_depexts_for_this_base(packages: Packages) -> None:
    assert deps(packages, 'depends: ["dep"]\ndepexts: [["pq"] {os-family = "arch"}]', {"dep": "1"}) == ([], [])


def test_a_package_of_that_name(packages: Packages) -> None:
    with pytest.raises(ToolError, match="need a package deps-of-mylib, but the solution has another one"):
        deps(packages, DEPEXTS, {"deps-of-mylib": "1"})
