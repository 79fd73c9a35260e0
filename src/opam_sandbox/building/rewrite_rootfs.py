"""Writes the tar of a Debian root anew, so that it is the same on every machine.

What mmdebstrap copies from the host (resolv.conf, hostname), the path of its repository, logs and caches are left out, and what
maintainer scripts make at random (`machine_files`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tarfile
from pathlib import Path
from typing import IO, Callable, Dict, List, Optional, Set, Tuple

from opam_sandbox import java_keystore
from opam_sandbox.beside import machine_files
from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.capture import EPOCH
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.layer.walk_tree import OVERLAY_XATTRS

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
_LARGEST_ID = (1 << 32) - 2
_DIRECTORIES = {
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
    "run": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "var/log": 0o755,
}


def rewrite_rootfs(
    source: Path, target: Path, epoch: int, owners: Optional[Dict[str, Tuple[int, int]]] = None
) -> Tuple[str, int]:
    """Write mmdebstrap's tar again, sorted and clean; returns its sha256 (hex) and its number of entries.

    epoch: no entry is younger (seconds). owners: gets the (uid, gid) of each path that is not root's. Raises ToolError for
    an entry that a base cannot have, and for what is no tar.
    """
    try:
        return _rewrite(source, target, epoch, {} if owners is None else owners)
    # Of tarfile's own for the most part, of numbers and texts in its headers for the rest.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ToolError(f"mmdebstrap's tar cannot be read: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # what is said of places that no file has
            raise
        raise ToolError(f"mmdebstrap's tar cannot be read: {error.strerror}") from None


def _rewrite(source: Path, target: Path, epoch: int, owners: Dict[str, Tuple[int, int]]) -> Tuple[str, int]:
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
        _drop_machine_files(archive, members)
        for name in _APTS_OWN & set(members):
            members[name].uid, members[name].gid = _user_id(archive, members, _APT_USER), 0
        groups = _link_groups(members)
        for name in sorted({*members, *_WRITTEN, *_DIRECTORIES}, key=os.fsencode):
            entries += 1
            path = os.fsencode(name)
            if name in _WRITTEN:
                content = _WRITTEN[name]
                write(tar_headers.header(Entry(path, tar_headers.REGULAR, 0o644, 0, 0, len(content), epoch)))
                write(content + tar_headers.padding(len(content)))
            elif name in _DIRECTORIES:
                write(tar_headers.header(Entry(path, tar_headers.DIRECTORY, _DIRECTORIES[name], 0, 0, 0, epoch)))
            else:
                member = members[groups.get(name, name)] if members[name].islnk() else members[name]
                if (member.uid, member.gid) != (0, 0):
                    owners[name] = (member.uid, member.gid)
                _write_member(archive, path, members[name], groups.get(name, ""), members, epoch, write)
        write(tar_headers.END)
    return digest.hexdigest(), entries


def _drop_machine_files(archive: tarfile.TarFile, members: Dict[str, tarfile.TarInfo]) -> None:
    """Leave out what maintainer scripts make for one machine, and links to it. Raises ToolError for a private key."""
    shipped: Set[bytes] = set()
    for name, member in members.items():
        if name.startswith("var/lib/dpkg/info/") and name.endswith(".list") and member.isreg():
            shipped.update(machine_files.listed(_content(archive, member).read()))
    dropped: Set[str] = set()
    for name, member in sorted(members.items()):
        above = next((one for one in _above(name) if one in dropped), None)
        if above is None and (member.issym() or os.fsencode(name) in shipped):
            continue
        what = machine_files.action(os.fsencode(name))
        is_left_out = what == machine_files.DROP or (what == machine_files.EMPTY and not member.isdir())
        if above is not None or is_left_out:
            dropped.add(name)
        elif member.isreg() and member.size <= machine_files.LARGEST_KEY:
            if machine_files.KEY.search(_content(archive, member).read()):
                raise ToolError(
                    f"a maintainer script of the base makes a private key: /{name}. In an image it would be no secret, and each "
                    "build would make another one. Lock a base without the Debian package whose script makes it"
                )
    for name in dropped | {
        name for name, member in members.items() if member.issym() and _leads_to(member, name) in dropped
    }:
        del members[name]


def _above(name: str) -> List[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _leads_to(member: tarfile.TarInfo, name: str) -> str:
    return os.path.normpath(os.path.join("/", os.path.dirname(name), member.linkname)).lstrip("/")


def _user_id(archive: tarfile.TarFile, members: Dict[str, tarfile.TarInfo], user: str) -> int:
    """The user's number in the root's own /etc/passwd, 0 where it has no such user."""
    member = members.get("etc/passwd")
    if member is None or not member.isreg():
        return 0
    for line in _content(archive, member).read().decode(errors="replace").split("\n"):
        fields = line.split(":")
        if fields[0] == user:
            if len(fields) < 3 or not re.fullmatch(r"[0-9]{1,9}", fields[2]):
                raise ToolError(f"the base's /etc/passwd gives {user} no number: {line!r:.200}")
            return int(fields[2])
    return 0


def _link_groups(members: Dict[str, tarfile.TarInfo]) -> Dict[str, str]:
    """Every name of a file with several names -> the first of them in order, which is the one that holds the content.

    Raises ToolError for a name of a file that is not there.
    """
    groups: Dict[str, List[str]] = {}
    for name, member in members.items():
        if member.islnk():
            target = _link_target(member)
            if target not in members or members[target].islnk():
                raise ToolError(f"mmdebstrap's tar gives {name!r} as a name of {target!r}, which is no file of it")
            groups.setdefault(target, [target]).append(name)
    first: Dict[str, str] = {}
    for names in groups.values():
        names.sort(key=os.fsencode)
        first.update({name: names[0] for name in names})
    return first


def _link_target(member: tarfile.TarInfo) -> str:
    return member.linkname[2:] if member.linkname.startswith("./") else member.linkname


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
            tar_headers.header(
                Entry(path, tar_headers.HARDLINK, member.mode, member.uid, member.gid, 0, epoch, os.fsencode(first))
            )
        )
        return
    if member.islnk():  # the first name in order was a link to a later one
        member = members[_link_target(member)]
    if not (0 <= member.uid <= _LARGEST_ID and 0 <= member.gid <= _LARGEST_ID):
        raise ToolError(f"mmdebstrap's tar gives {member.name!r:.200} to nobody that there can be")
    mtime, prefix = min(int(member.mtime), epoch), "SCHILY.xattr."
    # What overlayfs keeps for itself is none of a package's, nor a layer's.
    xattrs = {
        os.fsencode(key[len(prefix) :]): value.encode("utf-8", "surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith(prefix) and not os.fsencode(key[len(prefix) :]).startswith(OVERLAY_XATTRS)
    }
    entry = Entry(path, tar_headers.REGULAR, member.mode, member.uid, member.gid, 0, mtime, xattrs=xattrs)
    if member.isdir():
        write(tar_headers.header(entry._replace(kind=tar_headers.DIRECTORY)))
    elif member.issym():
        link = os.fsencode(member.linkname)
        write(tar_headers.header(entry._replace(kind=tar_headers.SYMLINK, mode=0o777, linkname=link)))
    elif member.isreg() and not member.sparse:
        write(tar_headers.header(entry._replace(size=member.size)))
        content = _content(archive, member)
        if machine_files.action(path) == machine_files.DATED:
            whole = content.read()
            write(java_keystore.dated(whole, EPOCH) or whole)
        else:
            for data in iter(lambda: content.read(CHUNK), b""):
                write(data)
        write(tar_headers.padding(member.size))
    else:
        raise ToolError(f"mmdebstrap's tar holds {member.name!r}, which is neither file, link nor directory")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if member.offset_data + member.size > os.fstat(archive.fileobj.fileno()).st_size:  # type: ignore[union-attr]
        raise ToolError(f"mmdebstrap's tar ends in the middle of {member.name!r}")
    content = archive.extractfile(member)
    assert content is not None  # a regular file has one
    return content
