"""Paths that two packages' layers hold differently, though neither was built over the other."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from opam_sandbox.beside import overlaps
from opam_sandbox.building import build
from opam_sandbox.errors import ToolError
from opam_sandbox.imaging import state
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.switch import SWITCH_STATE_DIR
from tests.unit.conftest import (
    FAKE_OPAM,
    Namespaces,
    build_request,
    make_base_layer,
    make_layer,
    make_opam_root,
    make_tar,
    member,
)

Member = Tuple[tarfile.TarInfo, bytes]

SWITCH = "home/opam/.opam/default"
OPAQUE = ".wh..wh..opq"


def directory(name: str, **fields: Any) -> Member:
    return member(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target)


def with_xattr(name: str, attribute: str, value: str) -> Member:
    info, content = member(name, content=b"1")
    info.pax_headers = {f"SCHILY.xattr.{attribute}": value}
    return info, content


def package(
    top: Path, name: str, members: Sequence[Member], below: Sequence[str] = (), dpkg: Optional[Dict[str, Any]] = None
) -> Layer:
    """A package's layer, which was built over those called `below`; with its opam file, so that it differs from others."""
    opam = member(f"{SWITCH_STATE_DIR}/packages/{name}.1/opam", content=b'opam-version: "2.0"\n')
    layer = make_layer(top / name, make_tar([*members, opam]), name=name, dpkg=dpkg)
    data = json.loads((layer.directory / "layer.json").read_text())
    data["opam"]["below"] = [f"{one}.1" for one in below]
    (layer.directory / "layer.json").write_text(json.dumps(data))
    return Layer(directory=layer.directory, **data)


def check(top: Path, layers: Sequence[Layer], *allowed: str) -> List[str]:
    """The lines of the error, one for each path."""
    store = Store(top / "store", rootless=False)
    for layer in layers:
        store.get(layer)
    try:
        overlaps.check(store, layers, allowed, "the image", "`a_field`")
    except overlaps.OverlapError as error:
        return [line[4:] for line in str(error).split("\n") if line.startswith("  * ")]
    return []


HOLDS_DIFFERENTLY = {
    "content": ([member("x", content=b"1")], [member("x", content=b"2")], "has a file (mode 644, 1 bytes) (sha256 "),
    "size": (
        [member("x", content=b"1")],
        [member("x", content=b"22")],
        "/x: a.1 has a file (mode 644, 1 bytes), b.1 has a file (mode 644, 2 bytes)",
    ),
    "mode": ([member("x")], [member("x", mode=0o755)], "a.1 has a file (mode 644, 0 bytes), b.1 has a file (mode 755"),
    "setgid": ([member("x", mode=0o755)], [member("x", mode=0o2755)], "b.1 has a file (mode 2755, 0 bytes)"),
    "link": ([link("x", "a")], [link("x", "b")], "a.1 has a link (sha256 "),
    "file and link": ([member("x")], [link("x", "b")], "a.1 has a file (mode 644, 0 bytes), b.1 has a link"),
    "file and directory": ([member("x")], [directory("x")], "b.1 has a directory (mode 755)"),
    "link and directory": ([link("x", "/")], [directory("x"), member("x/y")], "b.1 has a directory (mode 755)"),
    "mode of a directory": ([directory("x")], [directory("x", mode=0o700)], "b.1 has a directory (mode 700)"),
    "attributes": (
        [with_xattr("x", "user.a", "1")],
        [with_xattr("x", "user.a", "2")],
        "b.1 has a file (mode 644, 1 bytes) with other attributes",
    ),
    "deletion of what is changed": ([member(".wh.x")], [member("x")], "a.1 removes it, b.1 has a file"),
    "change of what is deleted": (
        [member("x")],
        [member(".wh.x")],
        "a.1 has a file (mode 644, 0 bytes), b.1 removes it",
    ),
    "deletion of a directory": (
        [member(".wh.x")],
        [directory("x"), member("x/y")],
        "/x: a.1 removes it, b.1 has a dir",
    ),
    "a directory anew": (
        [directory("x"), member("x/" + OPAQUE)],
        [directory("x"), member("x/y")],
        "or hides what it held",
    ),
    "fifo": ([member("x", tarfile.FIFOTYPE)], [member("x")], "a.1 has a special file (mode 644)"),
    "deep": ([member("a/b/c", content=b"1")], [member("a/b/c", content=b"2")], "/a/b/c: a.1 has"),
    "a name with a newline": ([member("x\ny", content=b"1")], [member("x\ny")], "'/x\\ny': a.1 has"),
}


@pytest.mark.parametrize("case", HOLDS_DIFFERENTLY)
def test_what_is_held_differently(tmp_path: Path, root_user: None, case: str) -> None:
    lower, upper, text = HOLDS_DIFFERENTLY[case]
    layers = [package(tmp_path, "a", lower), package(tmp_path, "b", upper)]
    [line] = check(tmp_path, layers)
    assert text in line and "a.1" in line and "b.1" in line
    # One of them was built over the other, or a third package over both, where they were compared.
    over = package(tmp_path / "over", "b", upper, ["a"])
    assert check(tmp_path, [layers[0], over]) == []
    assert check(tmp_path, [*layers, package(tmp_path, "c", [], ["a", "b"])]) == []


SAME = {
    "files": [member("x", content=b"1", mode=0o755)],
    "directories": [directory("x"), directory("x/y", mode=0o700)],
    "links": [link("x", "a")],
    "deletions": [member(".wh.x")],
    "hidden directories": [directory("x"), member("x/" + OPAQUE), member("x/y")],
    "attributes": [with_xattr("x", "user.a", "1")],
}


@pytest.mark.parametrize("case", SAME)
def test_what_is_held_alike(tmp_path: Path, root_user: None, case: str) -> None:
    later = [(info, content) for info, content in SAME[case]]
    layers = [package(tmp_path, "a", SAME[case])]
    for info, _ in later:
        info.mtime = 7  # of no account
    assert check(tmp_path, [*layers, package(tmp_path, "b", later)]) == []


def test_who_was_compared_with_whom(tmp_path: Path, root_user: None) -> None:
    a, b = (package(tmp_path, name, [member("x", content=name.encode())]) for name in "ab")
    c = package(tmp_path, "c", [member("x", content=b"c")], ["a"])
    d = package(tmp_path, "d", [member("y")], ["b"])
    found = check(tmp_path, [a, b, c, d])
    assert [line.split(" has ")[0] for line in found] == ["/x: a.1", "/x: b.1"]
    assert ", b.1 has" in found[0] and ", c.1 has" in found[1]
    # A package over c, and so over a, but not over b.
    e = package(tmp_path, "e", [], ["a", "c"])
    assert len(check(tmp_path, [a, b, c, e])) == 2
    assert check(tmp_path, [a, c, e]) == []
    # What lies below all, opam's root, may be changed by one.
    assert (
        check(tmp_path, [make_opam_root(tmp_path / "root"), package(tmp_path, "f", [directory("home", mode=0o700)])])
        == []
    )


def test_owners_go_by_name(tmp_path: Path, root_user: None) -> None:
    def owned(name: str, number: str, group: str) -> Layer:
        facts = {"owners": {"x": f"0:{number}"}, "users": {}, "groups": {number: group}}
        return package(tmp_path / name / number / group, name, [member("x", gid=int(number))], dpkg=facts)

    ssh = owned("a", "101", "_ssh")
    assert check(tmp_path, [ssh, owned("b", "102", "_ssh")]) == []
    [line] = check(tmp_path, [ssh, owned("b", "101", "mail")])
    assert "of 0:_ssh" in line and "of 0:mail" in line
    assert len(check(tmp_path, [ssh, package(tmp_path, "b", [member("x")])])) == 1


def test_files_that_differ_by_right(tmp_path: Path, root_user: None) -> None:
    """Accounts are united by the state layer; a compiled file is right if its source is."""
    cache = "usr/lib/python3/dist-packages/m/__pycache__/m.cpython-313.pyc"

    def layer(name: str, source: bytes) -> Layer:
        mine = name.encode()
        files = {"etc/passwd": mine, "etc/group-": mine, cache: mine, "usr/lib/python3/dist-packages/m/m.py": source}
        return package(tmp_path / source.decode(), name, [member(path, content=text) for path, text in files.items()])

    assert check(tmp_path, [layer("a", b"1"), layer("b", b"1")]) == []
    [line] = check(tmp_path, [layer("a", b"2"), layer("b", b"3")])
    assert line.startswith("/usr/lib/python3/dist-packages/m/m.py: ")


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("__pycache__/m.pyc", True),
        ("usr/lib/a\nb/__pycache__/m.pyc", True),
        ("usr/lib/my__pycache__/m.pyc", False),
        ("usr/lib/__pycache__/.pyc", False),
        ("usr/lib/__pycache__/m.py", False),
        ("usr/lib/__pycache__/deeper/m.pyc", False),
        ("m.pyc", False),
        ("etc/xml/catalog.old", True),
        ("var/lib/sgml-base/supercatalog.old", True),
        ("etc/xml/.old", False),
        ("etc/xml/deeper/catalog.old", False),
        ("usr/etc/xml/catalog.old", False),
        ("etc/xml/catalog", False),
    ],
)
def test_which_files_may_differ(tmp_path: Path, root_user: None, path: str, right: bool) -> None:
    layers = [package(tmp_path, name, [member(path, content=name.encode())]) for name in ("a", "b")]
    assert len(check(tmp_path, layers)) == (0 if right else 1)


def test_patterns(tmp_path: Path, root_user: None) -> None:
    names = ("etc/a.conf", "etc/b/c.conf", "usr/[x]")
    a, b = ([member(path, content=text) for path in names] for text in (b"1", b"2"))
    layers = [package(tmp_path, "a", a), package(tmp_path, "b", b)]
    assert len(check(tmp_path, layers)) == 3
    assert [line.split(":")[0] for line in check(tmp_path, layers, "/etc/*")] == ["/usr/[x]"]
    assert [line.split(":")[0] for line in check(tmp_path, layers, "/etc", "etc/*", "/usr/[[]x]")] == [
        "/etc/a.conf",
        "/etc/b/c.conf",
    ]
    assert check(tmp_path, layers, "/etc/*.conf", "/usr/?x?") == []


def test_many_are_not_all_named(tmp_path: Path, root_user: None) -> None:
    a, b = ([member(f"f{n:02}", content=text) for n in range(25)] for text in (b"1", b"2"))
    found = check(tmp_path, [package(tmp_path, "a", a), package(tmp_path, "b", b)])
    assert len(found) == 21 and found[0].startswith("/f00:") and found[-1] == "and 5 more"


# -- the commands

OPAM = {"opam": FAKE_OPAM, "ldconfig": "#!/bin/sh\nexit 0\n"}
LINES = f"{SWITCH}/lib/ocaml/ld.conf"
OTHER = f"{SWITCH}/lib/ocaml/other"
CHANGES = [
    [member(LINES, content=b"d\n" + text, uid=1000, gid=1000), member(OTHER, content=text, uid=1000, gid=1000)]
    for text in (b"a\n", b"b\n")
]


@pytest.fixture(name="layers")
def three_layers(
    tmp_path: Path, tiny_root: Path, namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> List[Layer]:
    """A base, opam's root, and packages a and b, which both change files of d."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    below = package(tmp_path, "d", [member(name, content=b"d\n", uid=1000, gid=1000) for name in (LINES, OTHER)])
    ground = [make_base_layer(tmp_path / "base", tiny_root, OPAM), make_opam_root(tmp_path / "opam-root")]
    return [*ground, below, *(package(tmp_path, name, change, ["d"]) for name, change in zip("ab", CHANGES))]


def directories(layers: Sequence[Layer]) -> List[str]:
    return [str(layer.directory) for layer in layers]


def content(name: str) -> bytes:
    """Of a file of the layer that was made."""
    digest = json.loads(Path("layer.json").read_text())["digest"].partition(":")[2]
    with tarfile.open(Path("blobs/sha256") / digest) as archive:
        found = archive.extractfile(name)
        assert found is not None and archive.getmember(name).uid == 1000
        return found.read()


ALLOWED = [f"/{SWITCH}/lib/ocaml/*"]


def test_a_build_over_both(tmp_path: Path, layers: List[Layer], capfd: pytest.CaptureFixture[str]) -> None:
    request = build_request(tmp_path / "store", layers)
    assert build.run(request, 1) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: dependencies of t.1: packages that do not depend on one another ")
    assert f"/{OTHER}: a.1 has a file" in error and LINES not in error and "`[opam].overlapping_files`" in error
    assert not Path("layer.json").exists()
    assert build.run({**request, "overlapping_files": ALLOWED}, 1) == 0
    made = json.loads(Path("layer.json").read_text())
    assert made["opam"] == {"package": "t.1", "below": ["a.1", "b.1", "d.1"]}
    assert content(LINES) == b"d\na\nb\n"


def test_an_image_with_both(tmp_path: Path, layers: List[Layer], capfd: pytest.CaptureFixture[str]) -> None:
    request: Any = {"store": str(tmp_path / "store"), "layers": directories(layers), "packages": [], "roots": []}
    assert state.run(request, 1) == 1
    error = capfd.readouterr().err
    assert (
        error.startswith("error: the image: packages that do not ") and "the image's field `overlapping_files`" in error
    )
    assert not Path("layer.json").exists()
    assert state.run({**request, "overlapping_files": ALLOWED}, 1) == 0
    assert content(LINES) == b"d\na\nb\n"


def test_a_damaged_inventory(tmp_path: Path, root_user: None) -> None:
    layers = [package(tmp_path, name, [member("x", content=name.encode())]) for name in "ab"]
    store = Store(tmp_path / "store", rootless=False)
    for layer in layers:
        inventory = store.get(layer).parent / "inventory"
    inventory.write_bytes(inventory.read_bytes()[:-10])
    with pytest.raises(ToolError, match="b.1 is damaged in the store: its inventory is; run again"):
        overlaps.check(store, layers, (), "the image", "`a_field`")
    assert not store.has(layers[1].diff_id)
    assert len(check(tmp_path, layers)) == 1
