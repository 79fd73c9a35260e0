"""zstd:chunked: what a client that knows the format finds in a blob, by a reader that shares nothing with the writer."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.chunked import crc64
from opam_sandbox.imaging.chunked.frames import FramePacker
from opam_sandbox.imaging.chunked.read_frames import Frame, read_frames
from opam_sandbox.imaging.chunked.write import CHUNK, Packed, write_chunked_blob
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.compress import Packing
from opam_sandbox.layer.tar_headers import Entry
from tests.unit.conftest import Namespaces, add_programs, make_layer, make_tar, member

PREFIX = "io.github.containers.zstd-chunked."
ZSTD = Packing("zstd", 3)


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny root with zstd."""
    root = tmp_path_factory.mktemp("root") / "r"
    shutil.copytree(tiny_root, root, symlinks=True)
    add_programs(root, ["zstd"])
    return root


Content = Tuple[Entry, bytes]


def tar_of(*entries: Content) -> bytes:
    """A tar as this project's layers are."""
    parts: List[bytes] = []
    for entry, content in entries:
        whole = entry._replace(size=len(content), mtime=entry.mtime or 1_700_000_000)
        parts += [tar_headers.header(whole), content, tar_headers.padding(len(content))]
    return b"".join([*parts, tar_headers.END])


def file(name: str, content: bytes = b"", **fields: Any) -> Content:
    return Entry(os.fsencode(name), tar_headers.REGULAR, **fields), content


def other(name: str, kind: bytes, **fields: Any) -> Content:
    return Entry(os.fsencode(name), kind, **fields), b""


class Blob:
    """A chunked blob, read as the format says: by the footer alone, and by zstd for what is packed."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, size = struct.unpack_from("<4sI", data, len(data) - 72)
        assert (magic, size) == (b"\x50\x2a\x4d\x18", 64)
        *numbers, name = struct.unpack("<7Q8s", data[-64:])
        self.table_at, self.table_size, table_plain, kind, self.split_at, self.split_size, split_plain = numbers
        assert (name, kind) == (b"GNUlInUx", 1)
        self.skipped(self.table_at, self.table_size)
        self.skipped(self.split_at, self.split_size)
        assert self.split_at + self.split_size == len(data) - 72
        text = unpack(data[self.table_at : self.table_at + self.table_size])
        lines = unpack(data[self.split_at : self.split_at + self.split_size])
        assert (len(text), len(lines)) == (table_plain, split_plain)
        self.table: Dict[str, Any] = json.loads(text)
        self.lines: List[Dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]

    def skipped(self, at: int, size: int) -> None:
        assert struct.unpack_from("<4sI", self.data, at - 8) == (b"\x50\x2a\x4d\x18", size)

    @property
    def entries(self) -> List[Dict[str, Any]]:
        entries: List[Dict[str, Any]] = self.table["entries"]
        return entries

    def named(self, name: str) -> Dict[str, Any]:
        [found] = [entry for entry in self.entries if entry["name"] == name and entry["type"] != "chunk"]
        return found

    def files(self) -> Dict[str, bytes]:
        """The content of each file, out of its own frames; offsets and digests are compared."""
        found: Dict[str, bytes] = {}
        last = 0
        for number, entry in enumerate(self.entries):
            if entry["type"] != "reg":
                continue
            chunks = [entry]
            while number + len(chunks) < len(self.entries) and self.entries[number + len(chunks)]["type"] == "chunk":
                chunks.append(self.entries[number + len(chunks)])
            content = b""
            for chunk, behind in zip(chunks, [*(one["offset"] for one in chunks[1:]), entry.get("endOffset")]):
                if not entry.get("size"):
                    assert "offset" not in entry and "digest" not in entry
                    continue
                assert last <= chunk["offset"] < behind
                last = behind
                part = unpack(self.data[chunk["offset"] : behind])
                assert chunk["name"] == entry["name"] and chunk.get("chunkOffset", 0) == len(content)
                if len(chunks) > 1:
                    assert chunk["chunkSize"] == len(part) and chunk["chunkDigest"] == digest(part)
                    assert (chunk.get("chunkType") == "zeros") == (part == bytes(len(part)))
                content += part
            assert entry.get("size", 0) == len(content)
            assert not content or entry["digest"] == digest(content)
            found[entry["name"]] = content
        return found

    def assembled(self) -> bytes:
        """The tar, out of tar-split's lines and the files."""
        files = self.files()
        tar = b""
        for number, line in enumerate(self.lines):
            assert line["position"] == number
            payload = base64.b64decode(line["payload"] or "")
            if line["type"] == 2:
                tar += payload
            elif line.get("size"):
                content = files[line["name"]]
                assert payload == slow_crc(content).to_bytes(8, "big") and line["size"] == len(content)
                tar += content
        return tar


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def unpack(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout


def table_of_bytes() -> List[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0xD800000000000000 if number & 1 else 0)
        table.append(number)
    return table


BYTES = table_of_bytes()


def slow_crc(data: bytes) -> int:
    crc = (1 << 64) - 1
    for byte in data:
        crc = BYTES[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ ((1 << 64) - 1)


Write = Any


@pytest.fixture
def write(namespaces: Namespaces, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Packs a tar, in a directory of its own: (what was written, the blob)."""
    monkeypatch.chdir(tmp_path)

    def run(
        plain: bytes, packing: Packing = ZSTD, workers: int = 0, base: Optional[Path] = None
    ) -> "Tuple[Packed, bytes]":
        @contextmanager
        def content() -> Iterator[io.BytesIO]:
            yield io.BytesIO(plain)

        packed = namespaces(lambda: write_chunked_blob(base or root, content, packing, "a layer", workers))
        data = Path("blobs/sha256", packed.written.digest).read_bytes()
        assert packed.written == (digest(plain)[7:], len(plain), digest(data)[7:], len(data))
        assert unpack(data) == plain  # for all who know nothing of chunks
        subprocess.run(["zstd", "-tq"], input=data, check=True)
        return packed, data

    return run


def test_crc_is_iso_s() -> None:
    assert crc64.update(0, b"123456789") == 0xB90956C775A41001
    for size in (0, 1, 7, 8, 9, 63, 64, 65, 1000, 65535, 65536, 65537, 200001):
        data = os.urandom(size)
        assert crc64.update(0, data) == slow_crc(data)
        assert crc64.update(crc64.update(0, data[: size // 3]), data[size // 3 :]) == slow_crc(data)


def test_every_kind_of_entry(write: Write) -> None:
    """Offsets, digests, attributes; whiteouts, hard links and empty files; and the tar comes back from the lines."""
    long = "deep/" + "d" * 200 + "/" + "f" * 200
    plain = tar_of(
        other("etc", tar_headers.DIRECTORY, mode=0o755),
        file("etc/small", b"small\n", mode=0o4755, uid=3_000_000, gid=5),
        file("etc/empty"),
        file("etc/same", b"small\n"),
        other("etc/hard", tar_headers.HARDLINK, linkname=b"etc/small"),
        other("etc/link", tar_headers.SYMLINK, linkname="../zi\u00e9l".encode(), mode=0o777),
        other("dev-null", tar_headers.CHARDEV, major=1, minor=3),
        other("disk", tar_headers.BLOCKDEV, major=8, minor=300),
        other("fifo", tar_headers.FIFO),
        file('caf\u00e9 "q"\n\u2028\\', b"odd name"),
        file("attributes", b"a", xattrs={b"security.capability": b"\x01\0\xff", b"user.empty": b"", b"user.a": b"b"}),
        file(long, b"long"),
        file(".wh.gone"),
        other("opaque", tar_headers.DIRECTORY),
        file("opaque/.wh..wh..opq"),
        file("block", b"b" * 512),
        file("old", b"x", mtime=-86400),
        file("first", b"y", mtime=253402300799),
    )
    packed, data = write(plain)
    blob = Blob(data)
    assert blob.assembled() == plain
    assert packed.annotations == {
        f"{PREFIX}manifest-checksum": digest(data[blob.table_at : blob.table_at + blob.table_size]),
        f"{PREFIX}manifest-position": f"{blob.table_at}:{blob.table_size}:{len(json_text(blob))}:1",
        f"{PREFIX}tarsplit-checksum": blob.table["tarSplitDigest"],
        f"{PREFIX}tarsplit-position": f"{blob.split_at}:{blob.split_size}:{len(lines_text(data, blob))}",
    }
    assert blob.table["version"] == 1
    assert blob.table["tarSplitDigest"] == digest(data[blob.split_at : blob.split_at + blob.split_size])
    kinds = {tarfile.REGTYPE: "reg", tarfile.DIRTYPE: "dir", tarfile.LNKTYPE: "hardlink", tarfile.SYMTYPE: "symlink"}
    kinds.update({tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"})
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        infos = archive.getmembers()
    assert [entry["name"].rstrip("/") for entry in blob.entries] == [info.name for info in infos]
    for entry, info in zip(blob.entries, infos):
        assert entry["type"] == kinds[info.type] and entry["name"].endswith("/") == info.isdir()
        found = [entry.get(key, 0) for key in ("mode", "uid", "gid", "size", "devMajor", "devMinor")]
        assert found == [info.mode, info.uid, info.gid, info.size, info.devmajor, info.devminor]
        assert entry.get("linkName", "") == info.linkname
    assert blob.named("attributes")["xattrs"] == {"security.capability": "AQD/", "user.a": "Yg==", "user.empty": ""}
    assert blob.named("old")["modtime"] == "1969-12-31T00:00:00Z"
    assert blob.named("first")["modtime"] == "9999-12-31T23:59:59Z"
    assert blob.named("etc/small")["modtime"] == "2023-11-14T22:13:20Z"
    assert blob.named("etc/small")["digest"] == blob.named("etc/same")["digest"]


def json_text(blob: Blob) -> bytes:
    return unpack(blob.data[blob.table_at : blob.table_at + blob.table_size])


def lines_text(data: bytes, blob: Blob) -> bytes:
    return unpack(data[blob.split_at : blob.split_at + blob.split_size])


@pytest.mark.parametrize("size", [CHUNK, 4096])
def test_large_and_sparse_files(write: Write, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Chunks of their own; zeros are one chunk, however many they are; the last chunk is what is left."""
    monkeypatch.setattr("opam_sandbox.imaging.chunked.write.CHUNK", size)
    random = os.urandom(2 * size + 77)
    if size == CHUNK:
        plain = tar_of(file("random", random))
        assert Blob(write(plain)[1]).assembled() == plain
        return
    sparse = bytes(3 * size) + b"data" + bytes(3 * size)
    plain = tar_of(
        file("random", random),
        file("sparse", sparse),
        file("zeros", bytes(2 * size + 5)),
        file("just", b"j" * size),
        file("small-zeros", bytes(1000)),
    )
    packed, data = write(plain)
    blob = Blob(data)
    assert blob.assembled() == plain and packed.annotations
    chunks = {
        name: [(one["chunkSize"], one.get("chunkType", "")) for one in blob.entries if one["name"] == name]
        for name in ("random", "sparse")
    }
    assert chunks["random"] == [(size, ""), (size, ""), (77, "")]
    assert chunks["sparse"] == [(3 * size, "zeros"), (size, ""), (2 * size + 4, "zeros")]
    for name in ("zeros", "just", "small-zeros"):  # a file of one chunk is as any other
        assert "chunkSize" not in blob.named(name)


def test_empty_layers(write: Write) -> None:
    for plain in (tar_headers.END, tar_of(other("only", tar_headers.DIRECTORY)), tar_of(file("nothing"))):
        packed, data = write(plain)
        assert Blob(data).assembled() == plain and packed.annotations


def test_many_small_files_and_bytes_that_do_not_depend_on_cores(write: Write) -> None:
    """More than one batch; each file is found by itself."""
    plain = tar_of(*(file(f"f{number}", b"%d " % number * (number % 97)) for number in range(1500)))
    one, many = write(plain, workers=1), write(plain, workers=7)
    assert one == many
    blob = Blob(one[1])
    for number in (1, 96, 511, 512, 1499):  # a program for each would take long
        entry = blob.named(f"f{number}")
        content = unpack(one[1][entry["offset"] : entry["endOffset"]])
        assert content == b"%d " % number * (number % 97) and entry["digest"] == digest(content)
    assert len(write(plain, Packing("zstd", 19))[1]) < len(one[1])


@pytest.mark.parametrize(
    "plain",
    [
        tar_of(file("ok", b"1"), file(os.fsdecode(b"caf\xe9"), b"latin")),
        tar_of(other("link", tar_headers.SYMLINK, linkname=b"\xff")),
        tar_of(file("x", xattrs={b"user.\xff": b"1"})),
        tar_of(file("twice", b"1"), file("twice", b"2")),
        tar_of(file("twice", b"1"), other("twice", tar_headers.DIRECTORY)),
        tar_of(file("then", mtime=253402300800)),
        make_tar([member("by/another/writer", content=b"1", uname="somebody")]),
        tar_of(file("a")) + bytes(40 << 20),
    ],
    ids=["name", "target", "attribute", "twice", "file-and-directory", "time", "headers", "zeros-at-the-end"],
)
def test_what_no_table_can_list_is_ordinary_zstd(write: Write, plain: bytes) -> None:
    packed, data = write(plain)
    assert packed.annotations == {}
    assert b"GNUlInUx" not in data[-8:]


def test_a_table_that_is_too_large(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opam_sandbox.imaging.chunked.contents.LARGEST_TABLE", 10_000)
    assert write(tar_of(*(file(f"f{number}") for number in range(50))))[0].annotations
    assert not write(tar_of(*(file(f"f{number}") for number in range(500))))[0].annotations


def test_damaged_tars_are_refused(namespaces: Namespaces, root: Path, tmp_path: Path) -> None:
    def attempt(plain: bytes) -> str:
        @contextmanager
        def content() -> Iterator[io.BytesIO]:
            yield io.BytesIO(plain)

        os.chdir(tmp_path)
        try:
            write_chunked_blob(root, content, ZSTD, "a layer")
        except ToolError as error:
            return str(error)
        return "taken"

    whole = tar_of(file("../up", b"1"))
    assert "unsafe name" in namespaces(lambda: attempt(whole))
    cut = tar_of(file("a", b"x" * 5000))[:3000]
    assert "ends within a file" in namespaces(lambda: attempt(cut))


LIES = {
    "other content": "cat >/dev/null; printf x",
    "nothing": "exit 0",
    "fails": "echo out of order >&2; exit 3",
    "two frames for one": 'for name; do :; done; /bin/real -cq "$name"; /bin/real -cq "$name"',
    "one frame for all": 'shift 6; cat "$@" | /bin/real -cq --stream-size=10',
    "a fifo in a piece's place": 'for name; do :; done; rm "$name"; mkfifo "$name"; /bin/real -cq "$0"',
}


@pytest.mark.parametrize("lie", LIES)
def test_programs_that_lie(namespaces: Namespaces, root: Path, tmp_path: Path, lie: str) -> None:
    """A base's zstd may do what it likes: what it makes is compared with what it was given."""
    base = tmp_path / "base"
    shutil.copytree(root, base, symlinks=True)
    add_programs(base, ["mkfifo"])
    (base / "bin/zstd").rename(base / "bin/real")
    (base / "bin/zstd").write_text(f'#!/bin/sh\n[ "$1" != -d ] || exec /bin/real "$@"\n{LIES[lie]}\n')
    (base / "bin/zstd").chmod(0o755)

    def attempt() -> List[str]:
        said = []
        packer = FramePacker(base, ZSTD, 1)
        for _ in range(2):  # what the first left behind is in nobody's way
            try:
                packer.frames([b"01234", b"56789"])
                said.append("taken")
            except ToolError as error:
                said.append(str(error))
        packer.stop()
        return said

    wanted = "out of order" if lie == "fails" else "something else of a layer's content"
    assert all(wanted in said for said in namespaces(attempt))


def test_a_thread_that_unpacks_first(namespaces: Namespaces, root: Path) -> None:
    """Which thread takes which work is chance: one that began with a look at frames makes some afterwards."""
    packed = subprocess.run(["zstd", "-cq"], input=b"12345", stdout=subprocess.PIPE, check=True).stdout

    def run() -> List[int]:
        packer = FramePacker(root, ZSTD, 1)
        try:
            assert packer._holds(packed, b"12345")
            return [frame.content for one in packer.frames([b"1", b"22"]) for frame in read_frames(one)]
        finally:
            packer.stop()

    assert namespaces(run) == [1, 2]


def test_a_base_without_zstd(tiny_root: Path) -> None:
    with pytest.raises(ToolError, match="add the Debian package zstd to its `packages`"):
        FramePacker(tiny_root, ZSTD)


def test_frames_are_read_as_they_are() -> None:
    pieces = [b"a", b"b" * 300, os.urandom(70_000), bytes(1 << 20)]
    for options in ([], ["--no-check"], ["--ultra", "-20"]):
        packed = [
            subprocess.run(
                ["zstd", "-cq", *options, f"--stream-size={len(piece)}"],
                input=piece,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            for piece in pieces
        ]
        joined, at = b"".join(packed), 0
        for frame, piece, one in zip(read_frames(joined), pieces, packed):
            assert frame == Frame(at, at + len(one), len(piece))
            at += len(one)
        assert at == len(joined)
        assert all(read_frames(joined[:end]) == [] for end in (1, 5, len(packed[0]) + 3, len(joined) - 1))
    [unknown] = read_frames(subprocess.run(["zstd", "-cq"], input=b"x", stdout=subprocess.PIPE, check=True).stdout)
    assert unknown.content == -1
    assert read_frames(b"") == [] and read_frames(b"\x50\x2a\x4d\x18\0\0\0\0") == []


def test_commands(namespaces: Namespaces, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """repack and merge write the annotations into layer.json; other compressions have none."""
    from opam_sandbox.imaging import merge, repack
    from opam_sandbox.layer.store import Store

    monkeypatch.chdir(tmp_path)
    base = make_layer(tmp_path / "in/0", make_tar([member("base")]), "base", "b")
    one = make_layer(tmp_path / "in/1", tar_of(file("one", b"1")))
    make_layer(tmp_path / "in/2", tar_of(file("two", b"2"), file(".wh.one")))
    store = Store(tmp_path / "store", False)
    store.put(base.diff_id, lambda target: shutil.copytree(root, target, symlinks=True, dirs_exist_ok=True) and None)
    request: Any = {"store": "store", "compression": "zstd:chunked", "layers": ["in/0", "in/1"]}
    assert repack.run(request, 1) == 0
    found = json.loads(Path("layer.json").read_text())
    assert found["diff_id"] == one.diff_id and found["media_type"].endswith("tar+zstd")
    assert len(found["annotations"]) == 4
    blob = Blob(Path("blobs/sha256", found["digest"][7:]).read_bytes())
    assert blob.files() == {"one": b"1"}
    shutil.rmtree("blobs")
    several = {**request, "layers": ["in/0", "in/1", "in/2"], "name": "group", "whole": False}
    assert merge.run(several, 1) == 0
    found = json.loads(Path("layer.json").read_text())
    assert (found["kind"], found["files"], len(found["annotations"])) == ("group", 2, 4)
    assert Blob(Path("blobs/sha256", found["digest"][7:]).read_bytes()).files() == {".wh.one": b"", "two": b"2"}
    shutil.rmtree("blobs")
    assert repack.run({**request, "compression": "zstd"}, 1) == 0
    assert "annotations" not in json.loads(Path("layer.json").read_text())
