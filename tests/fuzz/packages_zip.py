"""packages.zip, in which the files of opam repositories go from one step of locking to another."""

from __future__ import annotations

import io
import zipfile
from typing import List, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.repositories import DAMAGED, Packages
from opam_sandbox.locking.solution import describe
from opam_sandbox.locking.solve import check_known
from tests.fuzz._places import place


def _archive(files: Sequence[Tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)
    return out.getvalue()


def _of_other_kind(kind: int) -> bytes:
    """An archive that says of its files that they are packed in another way: deflated, they are 8."""
    whole = bytearray(_archive([("a.1/opam", b"depends: []" * 20)]))
    whole[8:10] = kind.to_bytes(2, "little")
    entry = whole.index(b"PK\1\2")
    whole[entry + 10 : entry + 12] = kind.to_bytes(2, "little")
    return bytes(whole)


SEEDS: List[bytes] = [
    _archive(
        [("a.1/opam", b'depends: ["b" {>= "1"}]\ndepexts: ["x"]\n'), ("b.1/opam", b""), ("a.1/files/p%20q", b"patch")]
    ),
    _archive([("a.1/opam", b"\xff"), ("a.1/files/%ff", b""), ("a.1/files/" + "x" * 300, b"")]),
    _archive([]),
    *(_of_other_kind(kind) for kind in (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99)),
]


def run(data: bytes) -> None:
    path = place("zip") / "packages.zip"
    path.write_bytes(data)
    try:
        packages = Packages(path)
    except DAMAGED:  # the step says so
        return
    for name in list(packages.names())[:20]:
        for version in list(packages.versions(name))[:5]:
            try:
                describe(packages, name, version, {"a": "1", "b": "1"}, {"os": "linux"}, ["test"])
            except ToolError:
                pass
    try:
        check_known(["a>=1", "c=2"], packages, ["r"])
    except ToolError:
        pass
