"""What the tool writes into a lockfile is what the backend reads out of it, whatever an opam file and its files hold."""

from __future__ import annotations

from typing import Any, Dict, List

from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_sandbox.locking import toml_writer

SEEDS: List[bytes] = [
    b'opam-version: "2.0"\nx: """a"""\n',
    b'\\u0041\\"""""\r\n\t\x7f\x00\xc2\x85\xe2\x80\xa8',
    b"'''\n'''",
    b"",
]
TOKENS = [b'"""', b'\\"', b"\\", b"\r", b"\n", b'""""', b"\\\n", b"\\u"]


def run(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    lists: Dict[str, Any] = {key: [] for key in ("depends", "post_depends", "debs")}
    package = {"name": "a", "version": "1", **lists, "depexts": [text, "x"], "opam": text}
    tables = [
        toml_writer.table("[[package]]", package),
        toml_writer.table("[[package.file]]", {"path": "f", "content": text + "\n"}),
    ]
    metadata = {"kind": "opam", "resolve": "r", "base": "//b:b", "requirements": [text], "constraints": [text] * 2}
    lock = read_opam_lock("x.lock", "r", toml_writer.lockfile("r", metadata, tables).encode()) if text != "x" else None
    if lock is not None:
        found = lock.packages["a"]
        assert (found.opam, found.depexts, lock.requirements) == (text, (text, "x"), (text,))
        assert found.files[0].content.decode() == text + "\n" and lock.constraints == (text, text)
