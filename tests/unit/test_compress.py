"""compress: one gzip file, the same on one core or many."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import compress
from opam_sandbox.layer.compress import PIECE, PackedWriter, Packing, Written

pytestmark = pytest.mark.usefixtures("root_user")


def content(size: int) -> bytes:
    return random.Random(size).getrandbits(8 * 1024).to_bytes(1024, "big") * (size // 1024) + b"x" * (size % 1024)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 17])
def test_sizes_and_digests(size: int) -> None:
    """At every boundary of pieces: a gzip file that gives the data back, rightly described."""
    data = content(size)
    out = io.BytesIO()
    writer = PackedWriter(out, Path("/"), workers=2)
    writer.write(data)
    written = writer.close()
    packed = out.getvalue()
    assert gzip.decompress(packed) == data
    assert subprocess.run(["gzip", "-t"], input=packed, check=False).returncode == 0
    assert written == Written(hashlib.sha256(data).hexdigest(), size, hashlib.sha256(packed).hexdigest(), len(packed))


def test_workers_and_chunks_do_not_show(tiny_root: Path) -> None:
    """1, 2 or 5 workers, small or big writes: the same bytes."""
    data = content(3 * PIECE + 5)
    results = set()
    for workers, chunk in ((1, 1 << 20), (2, 77_777), (5, 5 * PIECE)):
        out = io.BytesIO()
        writer = PackedWriter(out, tiny_root, workers=workers)
        for at in range(0, len(data), chunk):
            writer.write(data[at : at + chunk])
        written = writer.close()
        assert hashlib.sha256(out.getvalue()).hexdigest() == written.digest
        results.add(out.getvalue())
    assert len(results) == 1


@pytest.mark.parametrize(("size", "pieces"), [(0, 1), (PIECE, 1), (2 * PIECE, 2), (2 * PIECE + 1, 3)])
def test_no_piece_is_begun_that_nothing_goes_into(size: int, pieces: int, packed_pieces: List[int]) -> None:
    writer = PackedWriter(io.BytesIO(), Path("/"), Packing("none", 0))
    writer.write(content(size))
    assert writer.close().size == size == sum(packed_pieces) and len(packed_pieces) == pieces


IMPORTS = """
import io, os, sys
from pathlib import Path
from opam_sandbox.layer.compress import PIECE, PackedWriter

class Watch:
    def find_spec(self, name, path=None, target=None):
        if not os.path.exists("/proc/self"):  # as in the base's root
            os.write(2, f"imported there: {name}".encode())
        return None

sys.meta_path.insert(0, Watch())
out = io.BytesIO()
writer = PackedWriter(out, Path(sys.argv[1]))
for number in range(9):
    writer.write(bytes([number]) * PIECE)
writer.close()
print(os.path.exists("/proc/self"), out.getvalue().count(b"\\x1f\\x8b\\x08"))
"""


def test_nothing_is_imported_in_the_bases_root(tiny_root: Path) -> None:
    """Python would find it there, and run it: threads that are in there do nothing but start the program. In a fresh process,
    which has imported nothing else yet."""
    env = {"PYTHONPATH": str(Path(compress.__file__).parents[2]), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-sB", "-c", IMPORTS, str(tiny_root)], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True 9\n"


def test_no_name_and_no_time() -> None:
    """The header of every member has neither (RFC 1952: flags 0, time 0)."""
    out = io.BytesIO()
    writer = PackedWriter(out, Path("/"))
    writer.write(b"x")
    writer.close()
    assert out.getvalue()[:8] == b"\x1f\x8b\x08\0\0\0\0\0"


def test_a_root_without_gzip(tmp_path: Path) -> None:
    """A base that cannot compress is an error that says so."""
    with pytest.raises(ToolError, match="add the Debian package gzip to its `packages`$"):
        PackedWriter(io.BytesIO(), tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gzip").write_text("no program")
    (tmp_path / "bin/gzip").chmod(0o755)
    writer = PackedWriter(io.BytesIO(), tmp_path)
    writer.write(b"x")
    with pytest.raises(ToolError, match="the base's gzip does not run"):
        writer.close()


def with_gzip(tiny_root: Path, tmp_path: Path, script: str) -> Path:
    """A base whose gzip is a shell script; the real one is beside it."""
    root = tmp_path / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    (root / "bin/gzip").rename(root / "bin/gzip.real")
    (root / "bin/gzip").write_text(f"#!/bin/sh\n{script}\n")
    (root / "bin/gzip").chmod(0o755)
    return root


def test_the_program_reaches_nothing(tiny_root: Path, tmp_path: Path) -> None:
    """It is a package's as much as the base's: it changes nothing of the store's files, and sees no process and no device."""
    attempts = ("touch /written", "mknod /etc/n b 8 0", "chown 5:5 /etc", "mknod /tmp/null c 1 3")
    script = "".join(f"if {attempt} 2> /dev/null; then exit 9; fi\n" for attempt in attempts).replace(
        "2> /dev/null", ""
    )
    see = 'for x in /proc/* /dev/*; do if [ -e "$x" ]; then exit 8; fi; done\n'
    root = with_gzip(tiny_root, tmp_path, f'exec 2>&-\n{script}{see}exec /bin/gzip.real "$@"')
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    out = io.BytesIO()
    writer = PackedWriter(out, root)
    writer.write(b"x")
    writer.close()
    assert gzip.decompress(out.getvalue()) == b"x"
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before


LIES = {
    "other content": "printf other | /bin/gzip.real -c -n",
    "less": 'echo | /bin/gzip.real "$@"',
    "more": '/bin/gzip.real "$@"; printf x | /bin/gzip.real -c -n',
    "behind the end": '/bin/gzip.real "$@"; printf x',
    "nothing": "exit 0",
    "no gzip": "printf x",
}


# One piece has a process of its own; several are packed by those that a thread in the base's root starts.
SIZES = [18, PIECE + 18]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_program_that_lies(tiny_root: Path, tmp_path: Path, lie: str, size: int) -> None:
    """An image names a layer by what went into it: with a blob of something else it would be wrong, and nobody would see."""
    root = with_gzip(tiny_root, tmp_path, LIES[lie])
    writer = PackedWriter(io.BytesIO(), root)
    with pytest.raises(ToolError, match="the base's /bin/gzip makes something else of a layer's content"):
        writer.write(content(size))
        writer.close()


CONFINED = """
if (: <&9) 2>&-; then echo 9 is open >&2; exit 1; fi
if (: > /made) 2>&-; then echo its root can be written >&2; exit 2; fi
if [ -e /proc/self ]; then echo there is a /proc >&2; exit 5; fi
[ -z "$FOREIGN" ] || exit 3
kill -PIPE $$
exit 4
"""


@pytest.mark.parametrize("size", SIZES)
def test_what_a_program_is_given(tiny_root: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither descriptors nor the environment of this process, and its signals end it. Its root is read-only, without /proc."""
    root = with_gzip(tiny_root, tmp_path, CONFINED)
    monkeypatch.setenv("FOREIGN", "x")
    try:
        before = os.dup(9)
    except OSError:
        before = -1
    os.dup2(1, 9, inheritable=True)
    try:
        writer = PackedWriter(io.BytesIO(), root)
        with pytest.raises(ToolError, match=r"the base's gzip failed \(exit status -13\): $"):
            writer.write(content(size))
            writer.close()
    finally:
        os.close(9)
        if before >= 0:
            os.dup2(before, 9, inheritable=False)
            os.close(before)


def test_a_program_that_makes_several_members(tiny_root: Path, tmp_path: Path) -> None:
    """As gzip's format allows: what readers find counts."""
    root = with_gzip(tiny_root, tmp_path, 'printf "" | /bin/gzip.real -c -n; exec /bin/gzip.real "$@"')
    out = io.BytesIO()
    writer = PackedWriter(out, root)
    writer.write(b"what a package has")
    writer.close()
    assert gzip.decompress(out.getvalue()) == b"what a package has"


def test_a_faulty_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Packing("zstd", 3)
    writer = PackedWriter(io.BytesIO(), Path("/"), packing)
    real = packing.argv("usr/bin/zstd", 1)
    lying = SimpleNamespace(compression="zstd", argv=lambda *_: ["/bin/sh", "-c", f"echo | {' '.join(real)}"])
    monkeypatch.setattr(writer, "_packing", lying)
    writer.write(b"what a package has")
    with pytest.raises(ToolError, match="makes something else of a layer's content"):
        writer.close()
