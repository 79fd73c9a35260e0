"""What an image's layers show together, read out of their tars: owners and modes are those of the image, whoever looks, and
whatever the machine's file systems make of them."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Iterable, List, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.read_tar import Member, TarReader
from opam_sandbox.oci.layer_file import LayerFile, content_of

# Of a file whose content is compared with patterns, in bytes.
LARGEST_TEXT = 64 << 20
# As the kernel's.
_MOST_LINKS = 40


class Node:
    """A file or directory. kind: as in `tar_headers`. target: where a link leads. layer, offset: where its content is.

    sha256 (hex), content: of a regular file, once it was loaded; content is None for more than LARGEST_TEXT bytes.
    """

    __slots__ = ("kind", "mode", "uid", "gid", "size", "target", "layer", "offset", "children", "sha256", "content")

    def __init__(self, member: Optional[Member] = None, layer: int = -1) -> None:
        self.children: Dict[bytes, Node] = {}
        self.sha256: str = ""
        self.content: Optional[bytes] = None
        # A directory that has no entry of its own is made as engines make it.
        self.kind, self.mode, self.uid, self.gid, self.size = tar_headers.DIRECTORY, 0o755, 0, 0, 0
        self.target, self.offset = b"", 0
        self.layer = layer
        if member is not None:
            self.describe(member)

    def describe(self, member: Member) -> None:
        """Take what a layer says of it."""
        self.kind, self.mode, self.uid, self.gid = member.kind, member.mode, member.uid, member.gid
        self.size, self.target, self.offset = member.size, member.linkname, member.offset

    @property
    def is_directory(self) -> bool:
        return self.kind == tar_headers.DIRECTORY


class Tree:
    """The merged layers, bottom first. unpacked: bytes of all files in them, hidden ones too. likely: paths of files that may be
    loaded: those that no link leads to cost no second reading. Raises ToolError for layers that are damaged, or make no sense.
    """

    def __init__(self, layers: Sequence[LayerFile], likely: Iterable[str] = ()) -> None:
        self.unpacked = 0
        self._layers = layers
        self._top = Node()
        names = {os.fsencode(path).strip(b"/") for path in likely}
        for number, layer in enumerate(layers):
            with content_of(layer) as content:
                reader = TarReader(content, layer.title)
                members: List[Member] = []
                nodes: Dict[int, Node] = {}
                for member in reader:
                    members.append(member)
                    if member.name in names and member.kind == tar_headers.REGULAR and member.hides is None:
                        nodes[member.offset] = node = Node(member, number)
                        _load(node, reader)
                self._apply(number, reader, members, nodes)

    def find(self, path: str, follow: bool) -> Optional[Node]:
        """What is at an absolute path, None for nothing. Links above it are followed; one at the path itself with `follow`."""
        waiting = [part for part in reversed(os.fsencode(path).split(b"/")) if part]
        way, links = [self._top], 0
        while waiting:
            name = waiting.pop()
            if name == b".":
                continue
            if name == b"..":
                way = way[:-1] or way
                continue
            node = way[-1].children.get(name) if way[-1].is_directory else None
            if node is None:
                return None
            if node.kind == tar_headers.SYMLINK and (waiting or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                if node.target.startswith(b"/"):
                    way = [self._top]
                waiting += [part for part in reversed(node.target.split(b"/")) if part]
                continue
            way.append(node)
        return way[-1]

    def load(self, nodes: Iterable[Node]) -> None:
        """Read the contents of regular files. Each layer that has some is read once. Raises ToolError."""
        wanted: Dict[int, Dict[int, Node]] = {}
        for node in nodes:
            if node.kind == tar_headers.REGULAR and not node.sha256:
                wanted.setdefault(node.layer, {})[node.offset] = node
        for number, here in wanted.items():
            layer = self._layers[number]
            with content_of(layer) as content:
                reader = TarReader(content, layer.title)
                for member in reader:
                    found = here.get(member.offset) if member.kind == tar_headers.REGULAR else None
                    if found is not None:
                        _load(found, reader)

    def _apply(self, number: int, reader: TarReader, members: List[Member], loaded: Dict[int, Node]) -> None:
        # What a layer hides is what lies below it, wherever in the archive it says so.
        for member in members:
            if member.hides is not None:
                directory = self._existing(os.path.dirname(member.name))
                if directory is not None and member.hides:
                    directory.children.pop(member.hides, None)
                elif directory is not None:
                    directory.children.clear()
        here: Dict[bytes, Node] = {}
        for member in members:
            if member.hides is not None:
                continue
            self.unpacked += member.size
            if not member.name:
                self._top.describe(member)
                continue
            directory, name = self._directory(os.path.dirname(member.name)), os.path.basename(member.name)
            old = directory.children.get(name)
            if member.kind == tar_headers.DIRECTORY and old is not None and old.is_directory:
                old.describe(member)
                continue
            node = loaded.get(member.offset) or Node(member, number)
            if member.kind == tar_headers.HARDLINK:
                if member.linkname not in here:
                    raise reader.refused(f"a hard link {member.shown} that names no file of it")
                node = here[member.linkname]
            directory.children[name] = here[member.name] = node

    def _existing(self, path: bytes) -> Optional[Node]:
        node = self._top
        for name in path.split(b"/") if path else ():
            below = node.children.get(name)
            if below is None or not below.is_directory:
                return None
            node = below
        return node

    def _directory(self, path: bytes) -> Node:
        node = self._top
        for name in path.split(b"/") if path else ():
            below = node.children.get(name)
            if below is None or not below.is_directory:
                below = node.children[name] = Node()
            node = below
        return node


def _load(node: Node, reader: TarReader) -> None:
    digest = hashlib.sha256()
    pieces: Optional[List[bytes]] = [] if node.size <= LARGEST_TEXT else None
    for data in reader.content():
        digest.update(data)
        if pieces is not None:
            pieces.append(data)
    node.sha256 = digest.hexdigest()
    node.content = None if pieces is None else b"".join(pieces)


def text_of(tree: Tree, path: str) -> str:
    """What a file holds, "" where there is none. Raises ToolError for one that is too large."""
    node = tree.find(path, follow=True)
    if node is None or node.kind != tar_headers.REGULAR:
        return ""
    tree.load([node])
    if node.content is None:
        raise ToolError(f"the image's {path} has more than {LARGEST_TEXT >> 20} MiB")
    return node.content.decode("utf-8", "surrogateescape")
