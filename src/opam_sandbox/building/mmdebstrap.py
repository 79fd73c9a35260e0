"""Has the host's mmdebstrap make a Debian root out of locked .debs, in a repository that holds nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Optional, Sequence

from opam_sandbox.building.requests import Deb, RootfsRequest
from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import memory, syscalls
from opam_sandbox.sandbox.view import LOG

_TAR = "rootfs.tar"


def make_rootfs(request: RootfsRequest, directory: Path, rootless: bool) -> Path:
    """The root's tar, in `directory`, which is empty and which every user may enter. Raises ToolError with mmdebstrap's
    last words."""
    if shutil.which("mmdebstrap") is None:
        raise ToolError("mmdebstrap makes the Debian base, and this machine lacks it: `apt-get install mmdebstrap`")
    _make_repository(directory, request)
    output = directory / _TAR
    command = [
        "mmdebstrap",
        "--mode=unshare" if rootless else "--mode=root",
        "--variant=apt",
        "--format=tar",
        "--architectures=" + request["architecture"],
        "--include=" + ",".join(sorted(deb["name"] for deb in request["debs"])),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--skip=output/dev",
        request["suite"],
        os.fspath(output) if not rootless else "-",
        f"deb [trusted=yes] copy:{directory} ./",
    ]
    epoch = request["epoch"]
    # Only root can show mmdebstrap memory in place of a directory: a user's mmdebstrap makes namespaces of its own.
    room = 0 if rootless else memory.room_for_one()
    status = _call(command, epoch, output if rootless else None, directory, room)
    if status != 0 and room and memory.ran_out(Path(LOG)):
        status = _call(command, epoch, None, directory, 0)
    if status != 0:
        tail = Path(LOG).read_text(errors="replace").splitlines()[-30:]
        raise ToolError("mmdebstrap failed (exit status %d):\n%s" % (status, "\n".join(tail)))
    return output


def _call(command: Sequence[str], epoch: int, output: Optional[Path], directory: Path, room: int) -> int:
    """Run mmdebstrap, which unpacks in up to `room` bytes of memory, or on disk; its standard output goes to `output`, or
    into the log. Returns the exit status."""
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)

    def mount_memory() -> None:
        try:
            # In a mount namespace of its own, it is gone with the last process that sees it.
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            memory.mount(scratch, room)
        except OSError:
            pass  # root of a container that may not mount: the directory is on disk then

    env = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TMPDIR": os.fspath(scratch) if room else "/tmp",
        "HOME": "/nonexistent",
    }
    with ExitStack() as files:
        log = files.enter_context(open(LOG, "wb"))
        out = files.enter_context(open(output, "wb")) if output else log
        done = subprocess.run(
            list(command),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            preexec_fn=mount_memory if room else None,
            check=False,
        )
    return done.returncode


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
            fields.stdout.rstrip(b"\n")
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
