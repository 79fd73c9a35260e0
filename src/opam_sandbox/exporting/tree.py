"""Puts together what layers have of a switch, in a directory of this machine.

The layers are read as they are packed: their digests are compared, and nothing of the store, whose files others trust, is shared
with a directory in which anybody may write. All that is made here can be read and removed by its owner: nothing is set-id, and
there are neither devices nor pipes.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

from opam_sandbox.elf import Elf, read_elf
from opam_sandbox.exporting.relocate import OLD, SWITCH, relocate
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.read_blob import plain_content
from opam_sandbox.layer.read_tar import Member, TarReader
from opam_sandbox.sandbox import view_files

# What opam keeps for itself; it does not know of a switch that is elsewhere.
_OPAMS_OWN = ".opam-switch"

# Files of more bytes are not text: they are copied piece by piece.
_LARGEST_TEXT = 64 << 20

_ELF = b"\x7fELF"


class Programs(NamedTuple):
    """elfs: of the switch's programs and shared libraries, what the dynamic linker reads, by name in the switch. others: files
    that layers have elsewhere, and the package whose layer that is, as "lwt.5.6.1"."""

    elfs: Dict[str, Elf]
    others: Dict[str, str]


class Tree:
    """`root`: an empty directory of this process. `prefix`: where the switch will be, an absolute path.

    left: names of files that still name the old place. left_out: what is not in the switch, a sentence each.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self.left: Set[str] = set()
        self.left_out: List[str] = []
        self.programs = Programs({}, {})
        self._root = root
        self._prefix = prefix
        self._links: Dict[str, str] = {}

    def add(self, layer: Layer) -> None:
        """Put a layer over what is there. Raises ToolError for one that is damaged, or cannot be in a switch."""
        with plain_content(layer) as content:
            archive = TarReader(content, layer.title)
            mine: Set[str] = set()
            for member in archive:
                self._add(layer, archive, member, mine)

    def finish(self) -> None:
        """After the last layer: no link leads out of the switch."""
        root = os.path.realpath(self._root)
        for name, target in sorted(self._links.items()):
            found = os.path.realpath(os.path.join(root, name))
            if found != root and not found.startswith(f"{root}/"):
                view_files.remove(self._root, name)
                self.left_out.append(f"the link {name}, which leads out of the switch, to {target}")

    def has(self, name: str) -> bool:
        """Whether there is something of this name."""
        return view_files.exists(self._root, name)

    def write(self, name: str, text: str) -> None:
        """Add a file of this program's own."""
        view_files.write(self._root, name, text.encode("utf-8", "surrogateescape"))

    def _add(self, layer: Layer, archive: TarReader, member: Member, mine: Set[str]) -> None:
        name = os.fsdecode(member.name)
        if member.hides is not None:
            self._hide(archive, os.path.dirname(name), os.fsdecode(member.hides), mine)
            return
        inside = name[len(SWITCH) + 1 :] if name.startswith(f"{SWITCH}/") else ""
        if not inside:
            if f"{SWITCH}/".startswith(f"{name}/") and member.kind != tar_headers.DIRECTORY:
                raise archive.refused(f"something in the place of the switch: /{name}")
            if member.kind != tar_headers.DIRECTORY and not name.startswith("home/opam/"):
                self.programs.others[name] = layer.title
            return
        if inside.partition("/")[0] == _OPAMS_OWN:
            return
        mine.add(inside)
        if member.kind == tar_headers.DIRECTORY:
            if not view_files.is_directory(self._root, inside):
                self._remove(inside)
                view_files.make_directories(self._root, inside)
            return
        view_files.make_directories(self._root, os.path.dirname(inside))
        if member.kind == tar_headers.REGULAR:
            self._remove(inside)
            self._write_file(archive, member, inside)
        elif member.kind == tar_headers.SYMLINK:
            self._remove(inside)
            self._make_link(inside, os.fsdecode(member.linkname))
        elif member.kind == tar_headers.HARDLINK:
            self._make_hard_link(archive, inside, os.fsdecode(member.linkname))
        else:
            self._remove(inside)
            self.left_out.append(f"{inside}, which is a device or a pipe")

    def _hide(self, archive: TarReader, directory: str, hidden: str, mine: Set[str]) -> None:
        path = os.path.join(directory, hidden) if hidden else directory
        if f"{SWITCH}/".startswith(f"{path}/"):
            raise archive.refused(f"a whiteout of the switch: /{path}")
        if not path.startswith(f"{SWITCH}/"):
            return
        inside = path[len(SWITCH) + 1 :]
        # What the layer itself has there is not hidden.
        if not any(one == inside or one.startswith(f"{inside}/") for one in mine):
            self._remove(inside)
            return
        if view_files.is_directory(self._root, inside):
            for name in list(view_files.walk(self._root, inside)):
                if name not in mine:
                    self._remove(name)

    def _remove(self, inside: str) -> None:
        """Whatever has the name."""
        if view_files.is_directory(self._root, inside):
            for name in list(view_files.walk(self._root, inside)):
                self._forget(name)
            view_files.remove_directory(self._root, inside)
        elif view_files.status(self._root, inside) is not None:
            view_files.remove(self._root, inside)
        self._forget(inside)

    def _forget(self, name: str) -> None:
        self._links.pop(name, None)
        self.programs.elfs.pop(name, None)
        self.left.discard(name)

    def _write_file(self, archive: TarReader, member: Member, inside: str) -> None:
        if member.size > _LARGEST_TEXT:
            pieces: Iterator[bytes] = self._looked_at(archive.content(), inside)
        else:
            content = b"".join(archive.content())
            relocated = relocate(inside, content, self._prefix)
            if relocated.left:
                self.left.add(inside)
            if content.startswith(_ELF):
                elf = read_elf(io.BytesIO(content))
                if elf is not None:
                    self.programs.elfs[inside] = elf
            pieces = iter([relocated.content])
        with open(view_files.make_file(self._root, inside), "wb") as out:
            for data in pieces:
                out.write(data)
            out.flush()
            os.fchmod(out.fileno(), 0o755 if member.mode & 0o111 else 0o644)
            os.utime(out.fileno(), (member.mtime, member.mtime))

    def _looked_at(self, pieces: Iterator[bytes], inside: str) -> Iterator[bytes]:
        end = b""
        for data in pieces:
            if OLD in end + data:
                self.left.add(inside)
            end = data[-len(OLD) :]
            yield data

    def _make_link(self, inside: str, target: str) -> None:
        old = OLD.decode()
        if target == old or target.startswith(f"{old}/"):
            # Relative: it is right wherever the switch is.
            target = os.path.relpath(target[len(old) :].lstrip("/") or ".", os.path.dirname(inside) or ".")
        if target.startswith("/"):
            self.left_out.append(f"the link {inside}, which leads out of the switch, to {target}")
            return
        view_files.make_link(self._root, inside, target)
        self._links[inside] = target

    def _make_hard_link(self, archive: TarReader, inside: str, first: str) -> None:
        source: Optional[str] = first[len(SWITCH) + 1 :] if first.startswith(f"{SWITCH}/") else None
        if source is None or view_files.status(self._root, source) is None:
            raise archive.refused(f"a hard link {inside!r} to a file that is not in the switch, /{first}")
        if source == inside:
            return
        self._remove(inside)
        view_files.make_hard_link(self._root, source, inside)
        if source in self.left:
            self.left.add(inside)
        if source in self._links:
            self._links[inside] = self._links[source]
        if source in self.programs.elfs:
            self.programs.elfs[inside] = self.programs.elfs[source]
