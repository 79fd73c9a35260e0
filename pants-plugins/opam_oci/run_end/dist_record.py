"""What runs of `package` wrote below dist/, so that a run that would write the same leaves it alone.

Of each target's output a record has the digest of what was written, and what lstat(2) said of every file when the run had ended.
Whoever changes, replaces, adds or removes a file there changes that, and the output is written again. So it is after the machine
was started anew: what was not on the disk yet may be lost then.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VERSION = 1

# By path, relative to dist/: what differs for another file, or for the same file changed: of a directory its mode, of all else
# mode, device, inode, size, and the times of the last change of the content and of anything.
Tree = Mapping[str, "list[int]"]
_SIZE, _CHANGED = 3, 5


@dataclass(frozen=True)
class Output:
    """What a target writes: `paths`, files or directories below dist/; `digest` (sha256, hex) of all that is there; `files`:
    (path, size in bytes) of each file."""

    paths: tuple[str, ...]
    digest: str
    files: tuple[tuple[str, int], ...]


class DistRecord:
    """`dist`: the distribution directory; `file`: where the record is kept."""

    def __init__(self, dist: Path, file: Path) -> None:
        self._dist = dist
        self._file = file

    def holds(self, output: Output) -> bool:
        """Whether dist/ has the output as an earlier run left it."""
        entry = self._read().get(_name(output))
        return entry is not None and entry["digest"] == output.digest and self._is_unchanged(entry, output.paths)

    def update(self, written: Iterable[Output], since: int, change: Callable[[], object]) -> None:
        """Record what this run, which began at `since` (nanoseconds of the epoch), has written.

        `change` may give files of dist/ other inodes and times, but no other content. What is recorded of other outputs stays if
        it holds before that. Raises OSError.
        """
        written = tuple(written)
        ours = {_name(output) for output in written}
        others = {name: entry for name, entry in self._read().items() if name not in ours and self._is_unchanged(entry)}
        new = [output for output in written if self._is_written(output, since)]
        change()
        entries = {name: {**entry, "tree": self._tree(entry["paths"])} for name, entry in others.items()}
        for output in new:
            tree = self._tree(output.paths)
            entries[_name(output)] = {"paths": list(output.paths), "digest": output.digest, "tree": tree}
        self._write(entries)

    def _is_written(self, output: Output, since: int) -> bool:
        """Whether all of it is there, and of this run: Pants may have failed, and left what was there before or a part."""
        try:
            files = {path: values for path, values in self._tree(output.paths).items() if not stat.S_ISDIR(values[0])}
        except OSError:
            return False
        return {path: values[_SIZE] for path, values in files.items()} == dict(output.files) and all(
            stat.S_ISREG(values[0]) and values[_CHANGED] >= since for values in files.values()
        )

    def _is_unchanged(self, entry: Mapping[str, Any], paths: "tuple[str, ...] | None" = None) -> bool:
        if paths is not None and entry["paths"] != list(paths):
            return False
        try:
            return bool(self._tree(entry["paths"]) == entry["tree"])
        except OSError:
            return False

    def _tree(self, paths: Iterable[str]) -> Tree:
        found: dict[str, list[int]] = {}
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            status = os.lstat(self._dist / path)
            if stat.S_ISDIR(status.st_mode):
                found[path] = [status.st_mode]
                waiting += [f"{path}/{name}" for name in os.listdir(self._dist / path)]
            else:
                place = [status.st_mode, status.st_dev, status.st_ino]
                found[path] = [*place, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        return found

    def _read(self) -> "dict[str, Any]":
        """By name. What cannot be read, or is of another boot, is as if nothing had been written."""
        try:
            values = json.loads(self._file.read_bytes())
            if (values["version"], values["boot"]) == (_VERSION, _boot()):
                return {str(name): dict(entry) for name, entry in values["outputs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return {}

    def _write(self, entries: Mapping[str, Any]) -> None:
        values = {"version": _VERSION, "boot": _boot(), "outputs": entries}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(values))
            os.replace(temporary, self._file)
        finally:
            temporary.unlink(missing_ok=True)


def _boot() -> str:
    return _BOOT_ID.read_text().strip()


def _name(output: Output) -> str:
    return output.paths[0]
