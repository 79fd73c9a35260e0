"""The store of unpacked layers: one directory per diff_id, filled once, kept between processes.

`store/v1/root/layers/<diff_id>/` (or `uid-N` in place of `root` for a user, who then owns all files) is complete whenever
it exists: it is unpacked beside, its digests are checked, it is synced to disk, and then it is renamed into place under a
file lock. What a crash leaves in `tmp/` is swept by the next process (`sandbox.scratch`).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from opam_sandbox.files import remove_tree
from opam_sandbox.layer.read_blob import LayerBlob, plain_content
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.sandbox import syscalls
from opam_sandbox.sandbox.scratch import scratch

# A change of how layers are unpacked must not meet directories that were unpacked the old way.
FORMAT = "v1"


class Store:
    """`directory`: the root of the store; it may be a symlink. rootless: the files of a user without privileges."""

    def __init__(self, directory: Path, rootless: bool) -> None:
        kind = f"uid-{os.getuid()}" if rootless else "root"
        self.rootless = rootless
        self._root = Path(os.path.realpath(directory)) / FORMAT / kind
        for name in ("layers", "tmp", "locks", "scratch"):
            (self._root / name).mkdir(parents=True, exist_ok=True)

    def path(self, diff_id: str) -> Path:
        """Where the layer is, or would be."""
        return self._root / "layers" / diff_id.split(":", 1)[-1]

    def is_beside(self, path: Path) -> bool:
        """Whether a rename leads from `path` into the store."""
        return os.stat(path).st_dev == os.stat(self._root).st_dev

    @property
    def scratch_records(self) -> Path:
        """Where the records of scratch directories are: see `sandbox.scratch`."""
        return self._root / "scratch"

    @contextmanager
    def scratch(self, path: Path) -> Iterator[Path]:
        """A new directory of this process: removed at the context's end, after a kill by the next process that uses the
        store. Raises OSError."""
        with scratch(self.scratch_records, path) as directory:
            yield directory

    def get(self, layer: LayerBlob) -> Path:
        """The layer's unpacked directory; unpacks its blob first if it is not there. Raises ToolError for a damaged one."""
        path = self.path(layer.diff_id)
        if path.is_dir():
            return path

        def fill(target: Path) -> None:
            with plain_content(layer) as content:
                unpack(content, target, self.rootless, layer.title)

        return self.put(layer.diff_id, fill)

    def put(self, diff_id: str, fill: Callable[[Path], None]) -> Path:
        """Have `fill` make the layer's directory unless it is there; only a whole one is ever seen."""
        # filelock takes long to import, and most processes find all their layers.
        from filelock import FileLock

        path = self.path(diff_id)
        name = path.name
        with FileLock(self._root / "locks" / f"{name}.lock"):
            if path.is_dir():
                return path
            temporary = self._root / "tmp" / name
            remove_tree(temporary)  # of a process whose record a power loss took
            with self.scratch(temporary) as directory:
                fill(directory)
                # Without it, files of a layer may be empty after a power loss, though the layer has its name.
                syscalls.sync_file_system(directory)
                os.rename(directory, path)
        return path
