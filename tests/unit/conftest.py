"""What the tool's unit tests share: real namespaces, a tiny root file system, and layers made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from opam_sandbox.files import write_json
from opam_sandbox.layer.compress import PackedWriter
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox.namespaces import run_isolated

REPOSITORY = Path(__file__).resolve().parents[2]

# No deadline: other work may take the machine's cores. Derandomized: a run says the same as the run before it.
settings.register_profile(
    "unit",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("unit")

T = TypeVar("T")


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """A process of the tool holds the layers that it uses until it ends. All tests together are one process, which may have a
    thousand files open."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    for name in set(os.listdir("/proc/self/fd")) - before:
        try:
            if os.readlink(f"/proc/self/fd/{name}").partition(" (deleted)")[0].endswith(("/used", "/in-use")):
                os.close(int(name))
        except OSError:
            continue


Namespaces = Callable[[Callable[[], Any]], Any]


def need_namespaces() -> None:
    """Skip a test where the kernel gives this process none."""
    if run_isolated(lambda: 0) != 0:
        pytest.skip("the kernel gives this process no namespaces")


@contextmanager
def directory_for_all(prefix: str) -> Iterator[Path]:
    """A temporary directory that every user reaches."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def root_user() -> None:
    """Skips what only root may do (device nodes, chroot, trusted.* attributes)."""
    if os.geteuid() != 0:
        pytest.skip("needs root: device nodes, chroot and trusted.* attributes")


@pytest.fixture(scope="session")
def namespaces(root_user: None) -> Namespaces:
    """Runs a function inside `run_isolated` and returns its (pickled) result."""
    if run_isolated(lambda: 0) != 0:
        pytest.skip("the kernel gives this process no mount, PID, IPC, UTS and network namespaces")

    def run(work: Callable[[], T]) -> T:
        reader, writer = os.pipe()

        def inside() -> int:
            os.close(reader)
            with open(writer, "wb") as out:
                pickle.dump(work(), out)
            return 0

        child = os.fork()  # reads on while the other side writes, however much that is
        if child == 0:
            os._exit(run_isolated(inside))
        os.close(writer)
        with open(reader, "rb") as answer:
            data = answer.read()
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"the function failed inside the namespaces (wait status {status}), see standard error"
        result: T = pickle.loads(data)
        return result

    return run


_PROGRAMS = ("sh", "cat", "env", "gzip", "id", "ls", "rm", "setsid", "sleep", "touch", "stat", "chown", "mknod")


def add_programs(root: Path, programs: Iterable[str]) -> None:
    """Copy programs of this machine, and the libraries that they need, below `root`. Skips the test if one is missing."""
    wanted: Set[str] = set()
    for program in programs:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"this machine lacks {program}")
        shutil.copy(path, root / "bin" / program)
        listed = subprocess.run(["ldd", path], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
        wanted.update(re.findall(r"(/\S+)", listed))
    for library in wanted:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def memory_bound() -> int:
    """More bytes than this whole process has, which is forked, and may have run many tests before."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident + (512 << 20)


@pytest.fixture
def packed_pieces(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """The sizes in bytes of the pieces that this test has packed, in no order."""
    made: List[int] = []
    pack = PackedWriter._pack

    def counted(self: PackedWriter, piece: bytes) -> bytes:
        made.append(len(piece))
        return pack(self, piece)

    monkeypatch.setattr(PackedWriter, "_pack", counted)
    return made


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with a shell, a few programs and the libraries that they need: a base layer, unpacked."""
    root = tmp_path_factory.mktemp("tiny-root")
    for name in ("bin", "dev", "etc", "proc", "tmp", "home/opam", "usr", "var/lib/dpkg"):
        (root / name).mkdir(parents=True)
    os.chmod(root, 0o755)
    os.symlink("../bin", root / "usr/bin")
    add_programs(root, _PROGRAMS)
    if os.geteuid() == 0:
        os.chown(root / "home/opam", 1000, 1000)
    return root


# What stands for opam in a base: all of its records are right, and it has a say in one variable.
FAKE_OPAM = """#!/bin/sh
[ "$*" != "env --sexp" ] || printf '(\\n  ("OPAM_SWITCH_PREFIX" "/home/opam/.opam/default")\\n)\\n'
"""


def make_tar(members: Iterable["tuple[tarfile.TarInfo, bytes]"]) -> bytes:
    """A PAX archive by Python's tarfile, of members that need not make sense."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return out.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any
) -> "tuple[tarfile.TarInfo, bytes]":
    """One member for `make_tar`: `member("a", tarfile.SYMTYPE, linkname="/etc")`."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(content), 1
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def make_layer(
    directory: Path, plain: bytes, kind: str = "package", name: str = "p", dpkg: Optional[Dict[str, Any]] = None
) -> Layer:
    """A layer directory around an uncompressed tar, and its description."""
    packed = gzip.compress(plain, mtime=0)
    digest = hashlib.sha256(packed).hexdigest()
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / digest).write_bytes(packed)
    data: Dict[str, Any] = {
        "kind": kind,
        "name": name,
        "version": "1" if kind == "package" else "",
        "diff_id": f"sha256:{hashlib.sha256(plain).hexdigest()}",
        "digest": f"sha256:{digest}",
        "size": len(packed),
        "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
        "files": 1,
        "opam": {"package": f"{name}.1"} if kind == "package" else {},
        "dpkg": dpkg or {},
    }
    write_json(os.fspath(directory / "layer.json"), data)
    return Layer(directory=directory, **data)


def make_base_layer(directory: Path, tiny_root: Path, scripts: Dict[str, str]) -> Layer:
    """The tiny root as a base layer, with shell scripts as further programs: name -> text."""
    root = directory / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    for name, text in scripts.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".")
    return make_layer(directory / "layer", packed.getvalue(), "base", "tiny")


def make_opam_root(directory: Path) -> Layer:
    """A layer with the directory of the user opam, for a base whose opam is a script."""
    home = member("home/opam", tarfile.DIRTYPE, uid=1000, gid=1000)
    return make_layer(directory, make_tar([member("home", tarfile.DIRTYPE), home]), "opam-root", "")


def build_request(store: Path, layers: Iterable[Layer]) -> Any:
    """A request to build an empty package t.1 over these layers."""
    package = {"name": "t", "version": "1", "opam": 'opam-version: "2.0"\n', "files": [], "sources": [], "debs": []}
    return {"store": str(store), "layers": [str(layer.directory) for layer in layers], "package": package}


class Collected:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.pieces: List[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(bytes(data))

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)
