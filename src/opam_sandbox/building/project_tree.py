"""The sources of a package that lie in the monorepo: packed into an archive, which opam gets as that of any package.

The archive's bytes are a pure function of the files: its checksum is in the opam file that opam is shown, and a package may ask
for what comes of that. So nothing is compressed, as each zlib does that in its own way.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Sequence

from opam_sandbox.building.requests import TreeFile
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.tar_headers import END, REGULAR, Entry, header, padding
from opam_sandbox.opam.package import OpamPackage
from opam_sandbox.opam.strings import quote
from opam_sandbox.request import DAMAGED_STORE, check_file, safe_path

DIRECTORY = "tree"
# 1980, which every archive format can say. All files have it, so that make takes none for older than another.
_TIME = 315532800
_LARGEST_BLOCK = 0xFFFF


def pack(package: OpamPackage, tree: Sequence[TreeFile], archive: Path) -> str:
    """Write the archive of the files in `tree/`; its sha256 in hex. Raises ToolError for a file that is damaged."""
    with open(archive, "wb") as file:
        out = _Stored(file)
        for entry in sorted(tree, key=lambda entry: entry["path"]):
            _add(out, package.title, entry)
        out.write(END)
        return out.finish()


def with_source(opam: str, sha256: str) -> str:
    """The opam file as opam is shown it: with that archive as its source."""
    source = quote("https://localhost/source.tar.gz")
    return f"{opam}\nurl {{\n  src: {source}\n  checksum: {quote(f'sha256={sha256}')}\n}}\n"


def _add(out: _Stored, top: str, entry: TreeFile) -> None:
    path = f"{DIRECTORY}/{safe_path(entry['path'])}"
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}. {DAMAGED_STORE}") from None
    mode = 0o755 if entry["executable"] else 0o644
    name = f"{top}/{entry['path']}".encode("utf-8", "surrogateescape")
    out.write(header(Entry(name, REGULAR, mode, size=size, mtime=_TIME)))
    check_file(path, entry["sha256"], out.write)
    out.write(padding(size))


class _Stored:
    """A gzip file whose content is not compressed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._size = 0
        self._pending = b""
        self._write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def write(self, data: bytes) -> int:
        """Append, in blocks whose borders do not depend on how much comes at once."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._pending += data
        while len(self._pending) > _LARGEST_BLOCK:
            self._block(self._pending[:_LARGEST_BLOCK], last=False)
            self._pending = self._pending[_LARGEST_BLOCK:]
        return len(data)

    def finish(self) -> str:
        """End the file; its sha256 in hex."""
        self._block(self._pending, last=True)
        self._write(self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))
        return self._sha256.hexdigest()

    def _block(self, data: bytes, *, last: bool) -> None:
        size = len(data)
        self._write(bytes([last]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data)

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        self._file.write(data)
