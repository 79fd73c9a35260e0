"""Which packages the sweeps take: those all of whose sources a mirror of Debian's pool serves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict

import pytest

from opam_sandbox.locking.cache import Memo
from tests.support.file_server import file_server
from tests.sweeps.pool import look


def source(section: str, *checksums: str) -> str:
    listed = " ".join(f'"{checksum}"' for checksum in checksums)
    return f'{section} {{\n  src: "https://upstream.invalid/x.tar.gz"\n  checksum: [{listed}]\n}}\n'


def checksum(kind: str, content: bytes) -> str:
    return f"{kind}={hashlib.new(kind, content).hexdigest()}"


def test_which_packages_the_pool_serves(tmp_path: Path) -> None:
    pool = {"a/a_1.orig.tar.gz": b"a", "b/b_1.orig.tar.gz": b"b", "o/ocaml-c/ocaml-c_2.orig.tar.gz": b"c"}
    index = "".join(
        f"pool/{path}\t{len(content)}\t{hashlib.md5(content).hexdigest()}\t{hashlib.sha256(content).hexdigest()}\n"
        for path, content in pool.items()
    )
    (tmp_path / "sources.txt").write_text(index)
    for path in ("a/a_1.orig.tar.gz", "o/ocaml-c/ocaml-c_2.orig.tar.gz"):  # b's is listed, and not there
        (tmp_path / "mirror/pool" / path).parent.mkdir(parents=True)
        (tmp_path / "mirror/pool" / path).write_bytes(pool[path])
    patch = source('extra-source "x.patch"', checksum("sha256", b"patch"))
    texts: Dict[str, str] = {
        "a.1": source("url", checksum("md5", b"a")),
        "again.1": source("url", checksum("sha256", b"a"), checksum("sha512", b"a")),
        "b.1": source("url", checksum("sha256", b"b")),
        "c.2": source("url", checksum("sha512", b"c")),  # found by its name and version, and looked at
        "d.2": source("url", checksum("sha512", b"c")),  # by then it is known
        "patched.1": source("url", checksum("md5", b"a")) + patch,
        "patched-b.1": source("url", checksum("md5", b"b")) + patch,
        "elsewhere.1": source("url", checksum("sha256", b"other")),
        "unchecked.1": source("url"),
        "without.1": 'description: "url { src }"\n',
        "broken.1": "url {\n",
    }
    opam_files = [(title.partition(".")[0], title.partition(".")[2], text) for title, text in texts.items()]
    (tmp_path / "known").mkdir()
    found = look(opam_files, tmp_path / "sources.txt", [(tmp_path / "mirror").as_uri()], Memo(tmp_path / "known"))
    assert found.served == ("a.1", "again.1", "c.2", "d.2")
    assert found.listed == ("b.1", "patched-b.1")
    assert found.partly == ("patched.1",)


def test_a_mirror_that_does_not_answer_is_no_mirror_without_it(tmp_path: Path) -> None:
    md5, sha256 = (hashlib.new(kind, b"a").hexdigest() for kind in ("md5", "sha256"))
    (tmp_path / "sources.txt").write_text(f"pool/a_1.orig.tar.gz\t1\t{md5}\t{sha256}\n")
    opam_files = [("a", "1", source("url", f"md5={md5}"))]
    with file_server() as server:
        found = look(opam_files, tmp_path / "sources.txt", [server.url], Memo(tmp_path))
        assert found.listed == ("a.1",)
        server.statuses = {"HEAD /pool/a_1.orig.tar.gz": 503}
        with pytest.raises(
            ConnectionError, match=r"not known, try again: a.1: its archive(.|\n)* did not say: Service U"
        ):
            look(opam_files, tmp_path / "sources.txt", [server.url], Memo(tmp_path))
