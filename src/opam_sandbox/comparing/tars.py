"""Two layers' tars, path by path: who has what, and in what the two differ.

Both are read once, and side by side. What both have is forgotten as soon as it has come up on both sides, so that of two tars
that are nearly the same next to nothing is held in memory, however large they are. Of two that have little in common it is less
than a kilobyte for each path, up to a bound.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.read_tar import Member, Readable, TarReader

_KINDS = {
    tar_headers.REGULAR: "file",
    tar_headers.HARDLINK: "hard link",
    tar_headers.SYMLINK: "link",
    tar_headers.DIRECTORY: "directory",
    tar_headers.CHARDEV: "character device",
    tar_headers.BLOCKDEV: "block device",
    tar_headers.FIFO: "pipe",
}
# Of paths that are not, or not yet, known to be alike: some hundred MB of memory.
_MOST_HELD = 500_000

Value = Union[str, int, float]


class Item(NamedTuple):
    """What a tar has at a path.

    kind: "file", "hard link", "link", "directory", "character device", "block device", "pipe", or "whiteout", "opaque directory"
    of a path that the layer hides. mode: octal. size: bytes of a file. time: seconds. content: a file's sha256, in hex.
    target: where a link leads; of a hard link the name that it shares. device: "major:minor". attributes: the sha256 (hex) of all
    extended attributes, "" for none.
    """

    kind: str
    mode: str
    uid: int
    gid: int
    size: int
    time: Value
    content: str
    target: bytes
    device: str
    attributes: str


class Difference(NamedTuple):
    """A path (without the first slash) that two tars do not have alike; None: it is not there."""

    path: bytes
    first: Optional[Item]
    second: Optional[Item]

    def fields(self) -> Dict[str, Tuple[Value, Value]]:
        """What of the two is not the same, by the field's name; empty where only one has the path."""
        if self.first is None or self.second is None:
            return {}
        pairs = zip(Item._fields, self.first, self.second)
        return {name: (_shown(one), _shown(two)) for name, one, two in pairs if one != two}


class Comparison(NamedTuple):
    """differences: sorted by path. reordered: what both have stands in another order. entries: how many the two have."""

    differences: List[Difference]
    reordered: bool
    entries: Tuple[int, int]


def _shown(value: Union[Value, bytes]) -> Value:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def compare(first: Readable, second: Readable, titles: Tuple[str, str]) -> Comparison:
    """Compare two plain tars; `titles` name them in messages. Raises ToolError for a tar that readers do not agree on, and for
    two that differ in hundreds of thousands of paths."""
    sides = (_items(first, titles[0]), _items(second, titles[1]))
    # Of each side what has not come up on the other, by path, with its place; a hostile tar has a path several times.
    waiting: Tuple[_Waiting, _Waiting] = ({}, {})
    counts, highest, going, held = [0, 0], [-1, -1], [True, True], 0
    found: List[Difference] = []
    reordered = False
    while any(going):
        for side in (0, 1):
            entry = next(sides[side], None) if going[side] else None
            if entry is None:
                going[side] = False
                continue
            path, item = entry
            place = counts[side]
            counts[side] += 1
            others = waiting[1 - side].get(path)
            if others is None:
                waiting[side].setdefault(path, deque()).append((place, item))
                held += 1
                if held + len(found) > _MOST_HELD:
                    raise ToolError(f"{titles[0]} and {titles[1]} differ in more than {_MOST_HELD:,} paths")
                continue
            held -= 1
            other_place, other = others.popleft()
            if not others:
                del waiting[1 - side][path]
            places = (place, other_place) if side == 0 else (other_place, place)
            reordered = reordered or places[0] < highest[0] or places[1] < highest[1]
            highest = [max(one, two) for one, two in zip(highest, places)]
            if item != other:
                pair = (item, other) if side == 0 else (other, item)
                found.append(Difference(path, *pair))
    for path, left in waiting[0].items():
        found += [Difference(path, item, None) for _, item in left]
    for path, left in waiting[1].items():
        found += [Difference(path, None, item) for _, item in left]
    found.sort(key=lambda one: (one.path, one.first is None))
    return Comparison(found, reordered, (counts[0], counts[1]))


_Waiting = Dict[bytes, Deque[Tuple[int, Item]]]


def _items(stream: Readable, title: str) -> Iterator[Tuple[bytes, Item]]:
    reader = TarReader(stream, title)
    for member in reader:
        content = ""
        if member.kind == tar_headers.REGULAR:
            digest = hashlib.sha256()
            for data in reader.content():
                digest.update(data)
            content = digest.hexdigest()
        path, kind = _what(member)
        yield (
            path,
            Item(
                kind,
                f"{member.mode:04o}",
                member.uid,
                member.gid,
                member.size,
                member.mtime,
                content,
                member.linkname,
                f"{member.major}:{member.minor}" if member.kind in (tar_headers.CHARDEV, tar_headers.BLOCKDEV) else "",
                _attributes(member),
            ),
        )


def _what(member: Member) -> Tuple[bytes, str]:
    """The entry's path and kind. A whiteout stands under its own name: beside it the layer may have what it hides below."""
    if member.hides is None:
        return member.name, _KINDS.get(member.kind, "file")
    return member.name, "whiteout" if member.hides else "opaque directory"


def _attributes(member: Member) -> str:
    if not member.xattrs:
        return ""
    digest = hashlib.sha256()
    for key in sorted(member.xattrs):
        value = member.xattrs[key]
        digest.update(b"%d %d\n" % (len(key), len(value)) + key + value)
    return digest.hexdigest()
