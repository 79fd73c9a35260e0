"""project_tree: files of the monorepo as an archive, the same bytes whoever packs them; what opam's `tar` makes of it."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opam_sandbox.building import prepare_opam, project_tree
from opam_sandbox.errors import ToolError
from opam_sandbox.opam.package import OpamPackage

PACKAGE = OpamPackage("hello", "dev", 'opam-version: "2.0"', ())
FILES: Dict[str, bytes] = {
    "dune-project": b"(lang dune 3.0)\n",
    "bin/hello.ml": b"let () = print_endline {|hi|}\n",
    "run.sh": b"#!/bin/sh\n",
    "empty": b"",
    # As large as a block of the archive's, one byte less, and one more.
    **{f"data/{size}": bytes(size % 251 for _ in range(size)) for size in (65535 - 512, 65535, 65536, 200_000)},
    "long/" + "x" * 200: b"long\n",
    "na\u00efve \udcff file": b"odd\n",
}


def tree(top: Path, files: Dict[str, bytes]) -> List[Any]:
    """The files as Pants puts them, and as a request has them."""
    entries = []
    for name, content in files.items():
        path = top / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entries.append({"path": name, "sha256": hashlib.sha256(content).hexdigest(), "executable": name == "run.sh"})
    return entries


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tar_unpacks_it(here: Path) -> None:
    entries = tree(here, FILES)
    sha256 = project_tree.pack(PACKAGE, entries, here / "archive")
    assert sha256 == hashlib.sha256((here / "archive").read_bytes()).hexdigest()
    (here / "out").mkdir()
    subprocess.run(["tar", "xfz", "../archive"], cwd=here / "out", check=True)
    top = here / "out/hello.dev"
    found = {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    assert found == FILES
    assert {name for name in FILES if os.access(top / name, os.X_OK)} == {"run.sh"}
    assert {int((top / name).stat().st_mtime) for name in FILES} == {315532800}


def test_the_same_bytes_in_any_order(here: Path) -> None:
    entries = tree(here, FILES)
    one = project_tree.pack(PACKAGE, entries, here / "one")
    os.chmod(here / "tree/run.sh", 0o600)
    os.utime(here / "tree/empty", (5, 5))
    assert project_tree.pack(PACKAGE, entries[::-1], here / "two") == one
    # Of this very content: what comes of the archive may be in a layer.
    assert len(gzip.decompress((here / "one").read_bytes())) % 512 == 0
    small = project_tree.pack(PACKAGE, tree(here, {"a": b"b"}), here / "three")
    assert small == SMALL


SMALL = "e7dd46e328c05eeed2c55fc4f81ddde1befcbe7fa4b10fd6dd120a711218be08"


def test_a_project_without_files(here: Path) -> None:
    project_tree.pack(PACKAGE, [], here / "archive")
    assert subprocess.run(["tar", "tfz", "archive"], check=True, stdout=subprocess.PIPE).stdout == b""


@pytest.mark.parametrize("change", ["content", "gone"])
def test_a_damaged_file(here: Path, change: str) -> None:
    entries = tree(here, {"a": b"right"})
    (here / "tree/a").write_bytes(b"wrong") if change == "content" else (here / "tree/a").unlink()
    with pytest.raises(ToolError, match="tree/a"):
        project_tree.pack(PACKAGE, entries, here / "archive")


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", ""])
def test_a_path_that_leads_elsewhere(here: Path, path: str) -> None:
    with pytest.raises(ToolError, match="unsafe path"):
        project_tree.pack(PACKAGE, [{"path": path, "sha256": "0" * 64, "executable": False}], here / "archive")


def test_opam_finds_it(here: Path) -> None:
    """The opam file that opam is shown names the archive, which lies where opam keeps downloads."""
    entries = tree(here, {"a": b"b"})
    downloads = here / "downloads"
    downloads.mkdir()
    text = prepare_opam._write_tree(downloads, PACKAGE, entries)
    assert text.startswith(PACKAGE.opam + "\n") and f'checksum: "sha256={SMALL}"' in text
    assert (downloads / "sha256" / SMALL[:2] / SMALL).is_file() and sorted(os.listdir(downloads)) == ["sha256"]
