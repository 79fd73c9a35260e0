"""The tables of dpkg's helpers: each is written as its own program writes it, and what layers add makes the union."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from opam_sandbox import dpkg, dpkg_records
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import write_json
from opam_sandbox.layer.description import read_layer

FILES = {
    "var/lib/dpkg/diversions": "/bin/a b\n/bin/a b.old\npackage\n/x\n/x.real\n:\n",
    "var/lib/dpkg/statoverride": "#1 #2 4755 /a file\nroot ssl-cert 710 /etc/ssl/private\n",
    "var/lib/dpkg/triggers/File": "/usr/share/mime shared-mime-info\n",
    "var/lib/dpkg/triggers/update-x": "one\ntwo/noawait\n",
    "var/lib/dpkg/alternatives/editor": (
        "auto\n/usr/bin/editor\neditor.1\n/man/editor.1\neditor.fr.1\n/man/fr/editor.1\n\n"
        "/bin/nano\n40\n/man/nano.1\n\n/usr/bin/vim\n15\n/man/vim.1\n/man/fr/vim.1\n\n"
    ),
    "var/lib/dpkg/alternatives/alone": "manual\n/usr/bin/alone\n\n/bin/a\n-5\n\n",
    "var/cache/debconf/config.dat": "Name: a/b\nTemplate: a/b\nValue: x y\nOwners: a\n\nName: c\nTemplate: c\nOwners: c\n\n",
    "var/lib/ucf/hashfile": "0123456789abcdef0123456789abcdef  /etc/default/x\n",
    "var/lib/ucf/registry": "package\t/etc/default/x\n",
}


def write(root: Path, files: Dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def contents(root: Path) -> Dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_written_as_it_was(tmp_path: Path, name: str) -> None:
    kind = dpkg_records.format_of(name)
    table = kind.parse(FILES[name])
    assert table and kind.print(table) == FILES[name]
    kind.print(kind.parse("")), kind.print(kind.parse("nonsense"))
    write(tmp_path, FILES)
    assert dpkg_records.read(tmp_path)[name] == table


def test_it_goes_through_a_layers_description(tmp_path: Path) -> None:
    """What a layer brought is there again in another view."""
    facts = dpkg.difference(dpkg.Database({}, {}), write(tmp_path / "one", FILES))
    fields: Dict[str, Any] = {
        "kind": "package", "name": "p", "version": "1", "diff_id": "sha256:" + "0" * 64, "digest": "sha256:" + "0" * 64,
        "size": 1, "media_type": "x", "files": 1, "opam": {"package": "p.1"}, "dpkg": facts,
    }  # fmt: skip
    write_json(str(tmp_path / "layer.json"), fields)
    (tmp_path / "two").mkdir()
    assert dpkg.merge(tmp_path / "two", [read_layer(tmp_path).dpkg])
    found = contents(tmp_path / "two")
    assert found.pop("var/lib/dpkg/status") == "" and found == FILES


def test_what_dpkg_is_doing_is_no_table(tmp_path: Path) -> None:
    names = ["triggers/Lock", "triggers/Unincorp", "triggers/x.new", "alternatives/y.dpkg-tmp", "diversions-old"]
    write(tmp_path, {f"var/lib/dpkg/{name}": "x\n" for name in names})
    assert dpkg_records.read(tmp_path) == {}


@pytest.mark.parametrize("name", ["etc/passwd", "var/lib/dpkg/triggers/../status", "var/lib/dpkg/alternatives/"])
def test_no_other_file_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError):
        dpkg.merge(tmp_path, [{"records": {name: {"x": ""}}}])
    assert contents(tmp_path) == {}


def test_what_a_layer_takes_away(tmp_path: Path) -> None:
    """Of the base, and of a layer below; also while another layer adds something."""
    base = write(tmp_path / "base", FILES)
    before = dpkg.read(base)
    less = write(
        tmp_path / "less", {**FILES, "var/lib/dpkg/diversions": "/x\n/x.other\n:\n", "var/lib/dpkg/triggers/File": ""}
    )
    facts = dpkg.difference(before, less)
    assert facts == {
        "status": {},
        "triggers": [],
        "records": {"var/lib/dpkg/diversions": {"/x": "/x.other\n:"}},
        "replaced": {"var/lib/dpkg/diversions": {"/x": "/x.real\n:"}},
        "gone": {
            "var/lib/dpkg/diversions": ["/bin/a b"],
            "var/lib/dpkg/triggers/File": ["/usr/share/mime shared-mime-info"],
        },
    }
    dpkg.merge(base, [{"records": {"var/lib/dpkg/diversions": {"/y": "/y.old\ny"}}}, facts])
    assert (base / "var/lib/dpkg/diversions").read_text() == "/x\n/x.other\n:\n/y\n/y.old\ny\n"
    assert (base / "var/lib/dpkg/triggers/File").read_text() == ""


def test_layers_that_contradict(tmp_path: Path) -> None:
    """Of diversions and statoverrides; one that was made over the other does not contradict it."""
    name = "var/lib/dpkg/statoverride"
    one: Any = {"records": {name: {"/a": "root root 755"}}}
    other: Any = {"records": {name: {"/a": "root root 700"}}}
    for top in ("a", "b"):
        (tmp_path / top).mkdir()
    with pytest.raises(
        ToolError, match=r"override the owner or mode of /a, each in its own way \(root root 755; root root 700\)"
    ):
        dpkg.merge(tmp_path / "a", [one, other])
    dpkg.merge(tmp_path / "b", [one, one, {**other, "replaced": {name: {"/a": "root root 755"}}}])
    assert (tmp_path / "b" / name).read_text() == "root root 700 /a\n"


def test_alternatives_of_two_layers(tmp_path: Path) -> None:
    """Each brought a program of its own, one with a manual page: as update-alternatives writes it."""
    name = "var/lib/dpkg/alternatives/editor"
    nano = "auto\n/usr/bin/editor\n\n/bin/nano\n40\n\n"
    vim = "auto\n/usr/bin/editor\neditor.1\n/man/editor.1\n\n/usr/bin/vim\n15\n/man/vim.1\n\n"
    added = [
        dpkg.difference(dpkg.Database({}, {}), write(tmp_path / text[20:30], {name: text})) for text in (nano, vim)
    ]
    assert dpkg.changed(added, dpkg_records.ALTERNATIVES) == ["editor"]
    root = write(tmp_path / "union", {name: vim})
    dpkg.merge(root, added)
    expected = "auto\n/usr/bin/editor\neditor.1\n/man/editor.1\n\n/bin/nano\n40\n\n/usr/bin/vim\n15\n/man/vim.1\n\n"
    assert (root / name).read_text() == expected


def test_a_question_of_two_layers(tmp_path: Path) -> None:
    """It belongs to the packages of both, and has the upper layer's answer."""
    name = "var/cache/debconf/config.dat"
    texts = [f"Name: shared/x\nTemplate: shared/x\nValue: {owner}\nOwners: {owner}\n\n" for owner in ("one", "two")]
    added = [dpkg.difference(dpkg.Database({}, {}), write(tmp_path / text[-5:-2], {name: text})) for text in texts]
    root = write(tmp_path / "union", {name: texts[1]})
    dpkg.merge(root, added)
    assert (root / name).read_text() == "Name: shared/x\nTemplate: shared/x\nValue: two\nOwners: one, two\n\n"
