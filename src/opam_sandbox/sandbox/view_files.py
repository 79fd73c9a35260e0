"""Files of a view, or of an unpacked layer, for code that stands outside of it.

Packages made these files, their links among them. Nothing outside of a view follows a link that was made inside one: a
name is either refused where a link is on its way (all that writes), or its links are followed as a process inside sees them,
with `root` as their root (all that only reads). Names are relative to `root`, with `/` between components.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Iterable, List, Optional, Tuple

from opam_sandbox.errors import ToolError

_MOST_LINKS = 40


def resolve(root: Path, name: str) -> Optional[str]:
    """The name without links, all of them taken as inside of `root`; None where it leads nowhere."""
    parts: List[str] = [part for part in name.split("/") if part not in ("", ".")][::-1]
    done: List[str] = []
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = os.path.join(os.fspath(root), *done, part)
        try:
            mode = os.lstat(here).st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        link = os.readlink(here)
        if link.startswith("/"):
            done = []
        parts += [one for one in link.split("/") if one not in ("", ".")][::-1]
    return "/".join(done)


def exists(root: Path, name: str) -> bool:
    """Whether there is something of this name, links followed inside of `root`."""
    return resolve(root, name) is not None


def names(root: Path, name: str) -> List[str]:
    """The names in a directory, sorted, links to the directory followed inside of `root`; none where it is none."""
    found = resolve(root, name)
    return sorted(os.listdir(root / found)) if found is not None and (root / found).is_dir() else []


def read(root: Path, name: str, links: bool = True) -> Optional[bytes]:
    """What a file holds; None where there is no regular file. Raises OSError.

    Links are followed inside of `root`; with `links=False`, a name with a link in it counts as no file.
    """
    found = resolve(root, name)
    if found is None or not (links or found == name) or not stat.S_ISREG(os.lstat(root / found).st_mode):
        return None
    return (root / found).read_bytes()


def read_text(root: Path, name: str, links: bool = True) -> Optional[str]:
    """As `read`: UTF-8, with undecodable bytes as surrogates."""
    content = read(root, name, links)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def place(root: Path, name: str) -> Path:
    """The path of a name of which neither the last component nor one before it is a link. Raises ToolError for a link."""
    path = root / name
    refuse_links(root, path)
    return path


def refuse_links(root: Path, path: Path) -> None:
    """Raise ToolError if `path`, or a directory between it and `root`, is a link."""
    while path != root:
        if path.is_symlink():
            raise ToolError(
                f"/{path.relative_to(root)} is a symlink that a package's layer has made. Nothing is written through it."
            )
        path = path.parent


def write(root: Path, name: str, content: bytes, mode: int = 0o644) -> List[Path]:
    """Write a file in the place of whatever has its name, with the directories that it needs.

    Returns what was made, directories first. Raises ToolError where one of the directories is a link.
    """
    path = root / name
    made = make_directories(root, os.path.dirname(name))
    if os.path.lexists(path):
        if path.is_dir() and not path.is_symlink():
            raise ToolError(f"/{name} is a directory that a package's layer has made, in the place of a file")
        path.unlink()
    path.write_bytes(content)
    path.chmod(mode)
    return [*made, path]


def write_all(root: Path, files: Iterable[Tuple[str, bytes]]) -> List[Path]:
    """`write` for (name, content) pairs."""
    return [path for name, content in files for path in write(root, name, content)]


def overwrite(root: Path, name: str, content: bytes) -> None:
    """Write into a file that is there, which keeps its owner and mode. Raises ToolError for a link."""
    place(root, name).write_bytes(content)


def make_directories(root: Path, name: str, mode: int = 0o755) -> List[Path]:
    """Make a directory and those above it that are missing; returns them, the uppermost first. Raises ToolError for a link."""
    path = place(root, name)
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=mode)
    return missing[::-1]
