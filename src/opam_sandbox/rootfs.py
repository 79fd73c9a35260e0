"""`rootfs`: a Debian base layer, made by mmdebstrap out of locked .debs and nothing else.

mmdebstrap sees a repository with just the locked packages. Its tar is then written anew: what it copies from the host
(resolv.conf, hostname) and the path of that repository are left out, so the bytes are the same on every machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple

from opam_sandbox import linux, memory, tarstream
from opam_sandbox.capture import Captured, Sink
from opam_sandbox.compress import PIECE
from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.maker import LOG, Facts, Timer, write_blob, write_description
from opam_sandbox.request import Deb, Request, read_debs
from opam_sandbox.store import Store
from opam_sandbox.tarstream import Entry
from opam_sandbox.unpack import unpack

# Left out: of the host, of this process, or grown by every run.
_DROPPED = {
    "etc/resolv.conf",
    "etc/machine-id",
    "etc/apt/sources.list",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/cache/apt/archives/lock",
    "var/lib/apt/lists/lock",
    "var/lib/apt/extended_states",
    "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/tmp.ci",  # of apt-utils on the host
}
_DROPPED_BELOW = ("dev/", "proc/", "sys/", "run/", "tmp/", "var/tmp/")
_WRITTEN: Dict[str, bytes] = {
    "etc/hostname": b"localhost\n",
    "etc/apt/sources.list": b"# Made from a lockfile. To install more here, name a mirror of your own.\n",
}
# apt, which mmdebstrap runs outside of the root, gives these to the `_apt` of the *host*, or to root where it has none.
_APTS_OWN = {"var/cache/apt/archives/partial", "var/lib/apt/lists/partial"}
_APT_USER = "_apt"
_DIRECTORIES = {
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
    "run": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "var/log": 0o755,
}


def run(request: Request, jobs: int) -> int:
    debs = read_debs(request)
    epoch = request.get("epoch", int)
    rootless = is_rootless()
    timer = Timer()
    with timer.step("verify"):
        _verify(debs)
    with timer.step("mmdebstrap"):
        _mmdebstrap(request, debs, epoch, rootless)
    with timer.step("rewrite"):
        plain, entries = _rewrite(Path("rootfs.tar"), Path("layer.tar"), epoch)
        os.unlink("rootfs.tar")

    def inside() -> int:
        with timer.step("unpack"):
            with open("layer.tar", "rb") as tar:
                root = Store(Path(request.get("store", str)), rootless).put(
                    plain, lambda path: _fill(tar, path, rootless)
                )
        with timer.step("compress"):
            written, captured = write_blob(root, lambda sink: _copy(Path("layer.tar"), entries, sink))
        if written.diff_id != plain:
            raise ToolError(f"layer.tar changed while it was compressed: {written.diff_id} is not {plain}")
        write_description(
            "base", request.get("name", str), request.get("suite", str), written, captured.entries, Facts()
        )
        timer.write()
        return 0

    return run_isolated(inside)


def _fill(tar: BinaryIO, path: Path, rootless: bool) -> None:
    unpack(tar, path, rootless)


def _copy(path: Path, entries: int, sink: Sink) -> Captured:
    with open(path, "rb") as tar:
        while True:
            data = tar.read(PIECE)
            if not data:
                return Captured(entries)
            sink.write(data)


def _verify(debs: Sequence[Deb]) -> None:
    def one(deb: Deb) -> None:
        found, _ = file_sha256(deb.file)
        if found != deb.sha256:
            raise ToolError(f"{deb.file}: its sha256 is {found}, but the lockfile says {deb.sha256}")

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, debs))


def _mmdebstrap(request: Request, debs: Sequence[Deb], epoch: int, rootless: bool) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ToolError("mmdebstrap makes the Debian base and is not on this machine: `apt-get install mmdebstrap`")
    # Not in the process's own sandbox: without privileges mmdebstrap works as users who may not enter that.
    with tempfile.TemporaryDirectory(prefix="debian-rootfs-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        repository = Path(directory)
        _make_repository(repository, debs, request.get("suite", str), epoch)
        output = repository / "rootfs.tar"
        command = [
            "mmdebstrap",
            "--mode=unshare" if rootless else "--mode=root",
            "--variant=apt",
            "--format=tar",
            "--architectures=" + request.get("architecture", str),
            "--include=" + ",".join(sorted(deb.name for deb in debs)),
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=APT::Install-Recommends "false"',
            "--skip=output/dev",
            request.get("suite", str),
            os.fspath(output) if not rootless else "-",
            f"deb [trusted=yes] copy:{repository} ./",
        ]
        # Only root can show mmdebstrap memory in place of a directory: a user's mmdebstrap makes namespaces of its own.
        room = 0 if rootless else memory.room_for_one()
        status = _call_mmdebstrap(command, epoch, output if rootless else None, repository, room)
        if status != 0 and room and memory.ran_out(Path(LOG)):
            status = _call_mmdebstrap(command, epoch, None, repository, 0)
        if status != 0:
            tail = Path(LOG).read_text(errors="replace").splitlines()[-30:]
            raise ToolError("mmdebstrap failed (exit status %d):\n%s" % (status, "\n".join(tail)))
        shutil.move(os.fspath(output), "rootfs.tar")


def _call_mmdebstrap(command: Sequence[str], epoch: int, output: Optional[Path], directory: Path, room: int) -> int:
    """Run mmdebstrap, which unpacks in up to `room` bytes of memory, or on disk; its standard output goes to `output`, or
    into the log. Returns the exit status."""
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)

    def mount_memory() -> None:
        try:
            # In a mount namespace of its own, it is gone with the last process that sees it.
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
            linux.mount("tmpfs", scratch, "tmpfs", 0, f"mode=755,size={room}")
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


def _make_repository(directory: Path, debs: Sequence[Deb], suite: str, epoch: int) -> None:
    """A flat repository: the .debs, a Packages file of their own control fields, and a Release file.

    mmdebstrap from 1.4 looks for essential packages in the suite that it is told, so the repository must be one."""

    def stanza(deb: Deb) -> bytes:
        name = os.path.basename(deb.file)
        shutil.copyfile(os.path.realpath(deb.file), directory / name)
        os.chmod(directory / name, 0o644)
        fields = subprocess.run(
            ["dpkg-deb", "--field", os.fspath(directory / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
        if fields.returncode != 0:
            raise ToolError(f"{name} is no Debian package: {fields.stderr.decode(errors='replace').strip()}")
        return (
            fields.stdout.rstrip(b"\n") + f"\nFilename: ./{name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n\n".encode()
        )

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        stanzas = list(pool.map(stanza, debs))
    packages = b"".join(stanzas)
    (directory / "Packages").write_bytes(packages)
    (directory / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nDate: {formatdate(epoch, usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )


def _rewrite(source: Path, target: Path, epoch: int) -> Tuple[str, int]:
    """Write mmdebstrap's tar again, sorted and clean; returns its sha256 (hex) and its number of entries."""
    digest = hashlib.sha256()
    entries = 0
    with tarfile.open(source, "r:", encoding="utf-8", errors="surrogateescape") as archive, open(target, "wb") as out:

        def write(data: bytes) -> None:
            digest.update(data)
            out.write(data)

        members: Dict[str, tarfile.TarInfo] = {}
        for member in archive:
            name = member.name[2:] if member.name.startswith("./") else member.name
            if name in ("", ".") or name in _DROPPED or name.startswith(_DROPPED_BELOW):
                continue
            if name.startswith("var/log/") and not member.isdir():
                continue
            members[name] = member
        for name in _APTS_OWN & set(members):
            members[name].uid, members[name].gid = _user_id(archive, members, _APT_USER), 0
        groups = _link_groups(members)
        for name in sorted({*members, *_WRITTEN, *_DIRECTORIES}, key=os.fsencode):
            entries += 1
            path = os.fsencode(name)
            if name in _WRITTEN:
                content = _WRITTEN[name]
                write(tarstream.header(Entry(path, tarstream.REGULAR, 0o644, 0, 0, len(content), epoch)))
                write(content + tarstream.padding(len(content)))
            elif name in _DIRECTORIES:
                write(tarstream.header(Entry(path, tarstream.DIRECTORY, _DIRECTORIES[name], 0, 0, 0, epoch)))
            else:
                _write_member(archive, path, members[name], groups.get(name, ""), members, epoch, write)
        write(tarstream.END)
    return digest.hexdigest(), entries


def _user_id(archive: tarfile.TarFile, members: Dict[str, tarfile.TarInfo], user: str) -> int:
    """The user's number in the root's own /etc/passwd, 0 if it does not know him."""
    accounts = archive.extractfile(members["etc/passwd"]) if "etc/passwd" in members else None
    for line in accounts.read().decode(errors="replace").splitlines() if accounts else []:
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[2])
    return 0


def _link_groups(members: Dict[str, tarfile.TarInfo]) -> Dict[str, str]:
    """Every name of a file with several names -> the first of them in order, which is the one that holds the content."""
    groups: Dict[str, List[str]] = {}
    for name, member in members.items():
        if member.islnk():
            target = member.linkname[2:] if member.linkname.startswith("./") else member.linkname
            groups.setdefault(target, [target]).append(name)
    first: Dict[str, str] = {}
    for names in groups.values():
        names.sort(key=os.fsencode)
        first.update({name: names[0] for name in names})
    return first


def _write_member(
    archive: tarfile.TarFile,
    path: bytes,
    member: tarfile.TarInfo,
    first: str,
    members: Dict[str, tarfile.TarInfo],
    epoch: int,
    write: Callable[[bytes], None],
) -> None:
    if first and os.fsencode(first) != path:
        write(
            tarstream.header(
                Entry(path, tarstream.HARDLINK, member.mode, member.uid, member.gid, 0, epoch, os.fsencode(first))
            )
        )
        return
    if member.islnk():  # the first name in order was a link to a later one
        member = members[member.linkname[2:] if member.linkname.startswith("./") else member.linkname]
    entry = Entry(path, tarstream.REGULAR, member.mode, member.uid, member.gid, 0, min(int(member.mtime), epoch))
    prefix = "SCHILY.xattr."
    for key, value in member.pax_headers.items():
        if key.startswith(prefix):
            entry.xattrs[os.fsencode(key[len(prefix) :])] = value.encode("utf-8", "surrogateescape")
    if member.isdir():
        entry.kind = tarstream.DIRECTORY
        write(tarstream.header(entry))
    elif member.issym():
        entry.kind, entry.mode, entry.linkname = tarstream.SYMLINK, 0o777, os.fsencode(member.linkname)
        write(tarstream.header(entry))
    elif member.isreg():
        entry.size = member.size
        write(tarstream.header(entry))
        content = archive.extractfile(member)
        assert content is not None
        while True:
            data = content.read(1 << 20)
            if not data:
                break
            write(data)
        write(tarstream.padding(member.size))
    else:
        raise ToolError(f"mmdebstrap's tar holds {member.name!r}, which is neither file, link nor directory")
