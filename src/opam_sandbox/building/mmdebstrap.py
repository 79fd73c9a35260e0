"""Has the host's mmdebstrap make a Debian root out of locked .debs, in a repository that holds nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import List, Sequence

from opam_sandbox.building import host_view
from opam_sandbox.building.requests import Deb, RootfsRequest
from opam_sandbox.errors import MemoryShort, ToolError
from opam_sandbox.sandbox import memory
from opam_sandbox.sandbox.view import LOG

_TAR = "rootfs.tar"
_REPOSITORYS_OWN = (b"filename", b"size", b"md5sum", b"sha1", b"sha256", b"sha512")


def make_rootfs(request: RootfsRequest, directory: Path, room: int) -> Path:
    """The root's tar, in `directory`, which is empty. room: bytes of memory that mmdebstrap may unpack in; where that is too
    little, it does on disk. Raises ToolError with mmdebstrap's last words."""
    if shutil.which("mmdebstrap", path=host_view.PATH) is None:
        raise ToolError("mmdebstrap makes the Debian base, and this machine lacks it: `apt-get install mmdebstrap`")
    repository, output = directory / "repository", directory / _TAR
    repository.mkdir()
    _make_repository(repository, request)
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--format=tar",
        "--architectures=" + request["architecture"],
        "--include=" + ",".join(sorted(deb["name"] for deb in request["debs"])),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--skip=output/dev",
        request["suite"],
        "-",
        f"deb [trusted=yes] copy:{host_view.INPUTS} ./",
    ]
    try:
        status = _call(command, request["epoch"], output, directory, room)
        again = status != 0 and room and memory.ran_out(Path(LOG))
    except MemoryShort:
        if not room:
            raise
        again = True
    if again:
        status = _call(command, request["epoch"], output, directory, 0)
    if status != 0:
        tail = Path(LOG).read_text(errors="replace").splitlines()[-30:]
        raise ToolError("mmdebstrap failed (exit status %d):\n%s" % (status, "\n".join(tail)))
    return output


def _call(command: Sequence[str], epoch: int, output: Path, directory: Path, room: int) -> int:
    """Run mmdebstrap, which unpacks in up to `room` bytes of memory, or on disk. Returns the exit status."""
    view = directory / "view"
    view.mkdir(exist_ok=True)
    env = {
        "PATH": host_view.PATH,
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TMPDIR": host_view.SCRATCH,
        "HOME": "/nonexistent",
    }
    with open(LOG, "wb") as log, open(output, "wb") as out:
        return host_view.run(host_view.Job(command, env, directory / "repository", view, room, out, log))


def _make_repository(directory: Path, request: RootfsRequest) -> None:
    """A flat repository: the .debs, a Packages file of their own control fields, and a Release file.

    mmdebstrap from 1.4 looks for essential packages in the suite that it is told, so the repository must be one."""

    def stanza(deb: Deb) -> bytes:
        name = os.path.basename(deb["file"])
        shutil.copyfile(os.path.realpath(deb["file"]), directory / name)
        os.chmod(directory / name, 0o644)
        fields = subprocess.run(
            ["dpkg-deb", "--field", os.fspath(directory / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
        if fields.returncode != 0:
            raise ToolError(f"{name} is not a Debian package: {fields.stderr.decode(errors='replace').strip()}")
        return (
            _own_fields(fields.stdout)
            + f"\nFilename: ./{name}\nSize: {deb['size']}\nSHA256: {deb['sha256']}\n\n".encode()
        )

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        stanzas = list(pool.map(stanza, request["debs"]))
    packages = b"".join(stanzas)
    (directory / "Packages").write_bytes(packages)
    suite, date = request["suite"], formatdate(request["epoch"], usegmt=True)
    (directory / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nDate: {date}\n"
        f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )


def _own_fields(control: bytes) -> bytes:
    """A .deb's control fields but those that a repository gives it: where its file lies is not for the .deb to say."""
    kept: List[bytes] = []
    ours = False
    for line in control.rstrip(b"\n").split(b"\n"):
        if not line.startswith((b" ", b"\t")):
            ours = line.partition(b":")[0].strip().lower() in _REPOSITORYS_OWN
        if not ours:
            kept.append(line)
    return b"\n".join(kept)
