"""Opam files of the project: what they ask of a solution. tests/e2e/test_project_files.py compares with opam by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.pin_depends import pin_constraints
from opam_sandbox.locking.project_files import ProjectFile, deps_packages, read_project_files
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.solution import described_solution
from opam_sandbox.locking.solve import check_known
from opam_sandbox.locking.write_lockfile import PackageToLock, _package_tables
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
    "user.1": 'depends: ["dep"]',
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


@pytest.mark.parametrize(
    "url", ["../mylib", "./../mylib", "../../src/mylib/", "file://../mylib", "file:///top/src/mylib"]
)
def test_a_pin_to_the_directory_of_a_project(packages: Packages, url: str) -> None:
    assert pin_of_own(packages, url) == []


@pytest.mark.parametrize(
    "url",
    [
        "mylib",
        "../other",
        "../../../src/mylib",
        "/src/mylib",
        "file:///else/src/mylib",
        "git+file:///top/src/mylib",
        "",
    ],
)
def test_a_pin_to_another_directory(packages: Packages, url: str) -> None:
    with pytest.raises(
        ToolError, match="src/app/app.opam: .*pins mylib.0.7 to .*: pin its directory, src/mylib, by a path"
    ):
        pin_of_own(packages, url)


def test_pins_of_own_packages_that_do_not_hold(packages: Packages) -> None:
    with pytest.raises(
        ToolError, match='its version is 0.7 here: write that into the pin, or the field `version: "dev"`'
    ):
        pin_of_own(packages, "../mylib", "mylib.dev")
    with pytest.raises(ToolError, match="but src/mylib/mylib.opam is an opam file of that package: remove one of them"):
        pin_of_own(packages, "../mylib", build=False)


def pin_of_own(packages: Packages, url: str, title: str = "mylib.0.7", build: bool = True) -> List[str]:
    mylib: Any = {
        "name": "mylib",
        "opam": HEAD,
        "path": "src/mylib/mylib.opam",
        "build": build,
        "directory": "src/mylib",
    }
    app: Any = {"name": "app", "opam": f'{HEAD}pin-depends: ["{title}" "{url}"]', "path": "src/app/app.opam"}
    return pin_constraints(read_project_files([mylib, app], packages, {}), packages, "/top")


# Packages that are built


def solved(
    packages: Packages, *files: "tuple[str, str, bool]", asked: Sequence[str] = (), **versions: str
) -> Dict[str, Any]:
    local: Any = [
        {
            "name": name,
            "opam": HEAD + text,
            "path": f"src/{name}/{name}.opam",
            "target": f"src/{name}:{name}",
            "build": build,
        }
        for name, text, build in files
    ]
    known = {"os-family": "debian"}
    own = read_project_files(local, packages, known)
    solution = {**{file.name: file.version for file in own}, **versions}
    answer = described_solution(solution, packages, known, ["dep"], asked, own)
    return {item["name"]: item for item in answer["packages"]}


def test_packages_that_are_built(packages: Packages) -> None:
    """They are as others are: what they need, each for what, and their own depexts."""
    app = 'depends: ["mylib" {= "0.7"} "dep" "later" {post} "check" {with-test} "paper" {with-doc}]\n' + DEPEXTS
    found = solved(
        packages,
        ("app", 'version: "4"\nurl { src: "x" }\n' + app, True),
        ("mylib", "", True),
        asked=("test", "doc"),
        dep="1",
        **{"new": "1"},
    )
    assert sorted(found) == ["app", "dep", "mylib", "new"]
    item = found["app"]
    assert (item["version"], item["local"], item["files"]) == ("4", "src/app/app.opam", [])
    assert (item["depends"], item["post"], item["test"], item["depexts"]) == (
        ["dep", "mylib"],
        [],
        [],
        ["a", "libpq-dev"],
    )
    assert item["opam"].startswith('opam-version: "2.0"\nname: "app"\nversion: "4"\n') and "url" not in item["opam"]
    assert "local" not in found["dep"] and found["mylib"]["version"] == "0.7"


def test_what_tests_and_docs_of_own_packages_need(packages: Packages) -> None:
    text = 'depends: ["dep" {with-test} "new" {with-doc} "deep" {post}]'
    needs = [
        (item["depends"], item["post"], item["test"], item["doc"])
        for asked in ((), ("test",), ("test", "doc"))
        for item in [solved(packages, ("app", text, True), asked=asked, dep="1", new="1", deep="1")["app"]]
    ]
    assert needs == [([], ["deep"], [], []), ([], ["deep"], ["dep"], []), ([], ["deep"], ["dep"], ["new"])]


def test_a_directory_in_place_of_a_released_package(packages: Packages) -> None:
    found = solved(packages, ("dep", 'version: "9"', True), user="1")
    assert found["user"]["depends"] == ["dep"] and found["dep"]["local"] == "src/dep/dep.opam"


def test_own_packages_that_are_not_built(packages: Packages) -> None:
    """What is built cannot depend on them; what they need may be built."""
    for app in (("app", 'depends: ["mylib"]', True), ("app", 'depends: ["mylib" {with-test}]', True)):
        with pytest.raises(ToolError, match="depends on mylib, of which src/mylib/mylib.opam .* is only the opam file"):
            solved(packages, app, ("mylib", "", False), asked=("test",))
    with pytest.raises(ToolError, match="user.1 depends on dep, of which"):
        solved(packages, ("dep", "", False), user="1")
    found = solved(packages, ("app", f'depends: ["mylib"]\n{DEPEXTS}', False), ("mylib", DEPEXTS, True))
    assert sorted(found) == ["deps-of-app", "mylib"] and found["deps-of-app"]["depends"] == ["mylib"]


def test_files_that_only_repositories_have(packages: Packages) -> None:
    text = 'extra-files: ["x.patch" "md5=d41d8cd98f00b204e9800998ecf8427e"]'
    with pytest.raises(
        ToolError, match=r"src/app/app.opam \(of src/app:app\): its opam file has 'x.patch' in `extra-files`"
    ):
        solved(packages, ("app", text, True))


def test_requirements_that_own_packages_meet(packages: Packages) -> None:
    check_known(["app=1", "dep"], packages, ["r"], {"app": "1"})
    with pytest.raises(ToolError, match="no package app in the opam repositories r"):
        check_known(["app"], packages, ["r"])


def test_a_lockfile_says_where_own_packages_are() -> None:
    package = PackageToLock("app", "1", HEAD, [], (), (), [], [], [], "src/app.opam")
    [table] = _package_tables(package)
    assert table.startswith('[[package]]\nname = "app"\nversion = "1"\nlocal = "src/app.opam"\ndepends = []\n')
    [table] = _package_tables(replace(package, local=""))
    assert "local" not in table


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
