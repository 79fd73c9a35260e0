"""A clone with caches and sandboxes of its own, in which small images are built and disturbed."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Optional

from opam_sandbox.files import file_sha256
from tests.faults import processes
from tests.faults.small_project import SmallProject
from tests.support.checkout import CommandFailed, Pants, tool

IMAGE = "small:image"
# What Pants says where its daemon is not there after a minute, as on a busy machine. The next run may find it.
SLOW_START = "while waiting for pantsd to start"


def user_store() -> Path:
    """Where Pants keeps what this user's runs made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pants/lmdb_store"


def copy_store(source: Path, target: Path) -> None:
    """Give a place, which has none yet, a copy of a Pants store, if that is there. Nobody may be writing to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.exists():
        tool("cp", "--archive", "--sparse=always", str(source), str(target))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What all commands of this package take: `--store` and `--work`."""
    parser.add_argument(
        "--store", type=Path, default=user_store(), help="Pants' store to copy the base from (this user's)"
    )
    parser.add_argument("--work", type=Path, default="/var/tmp", help="where to work (default: /var/tmp)")


@contextmanager
def work_directory(name: str, work: Path) -> Iterator[Path]:
    """An empty directory for a command below `work`, removed at its end."""
    directory = Path(tempfile.mkdtemp(prefix=f"opam-oci-{name}-", dir=work))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Place:
    """`top`: a directory that is not there yet. `caches`: of another place, if this one is to share them."""

    top: Path
    caches: Optional[Path] = None
    project: SmallProject = field(init=False)

    def __post_init__(self) -> None:
        self.caches = self.caches or self.top / "caches"
        self.sandboxes.mkdir(parents=True)
        self.project = SmallProject.make(self.top / "main")

    @property
    def sandboxes(self) -> Path:
        return self.top / "sandboxes"

    @property
    def lmdb_store(self) -> Path:
        assert self.caches is not None
        return self.caches / "lmdb_store"

    @property
    def layers(self) -> Path:
        """The store of unpacked layers."""
        assert self.caches is not None
        return self.caches / "named_caches/opam_oci_layers"

    def pants(self, pantsd: bool) -> Pants:
        options = [f"--local-execution-root-dir={self.sandboxes}", *([] if pantsd else ["--no-pantsd"])]
        return Pants(self.project.root, caches=self.caches, options=options)

    def image(self) -> str:
        """The digest of the image in dist/, all blobs of which are compared with their names. Raises CommandFailed."""
        for blob in (self.project.layout.path / "blobs/sha256").iterdir():
            if file_sha256(blob)[0] != blob.name:
                raise CommandFailed(f"{blob} is not what its name says")
        return self.project.digest()

    def forget_image(self) -> None:
        """Have nothing in dist/."""
        shutil.rmtree(self.project.root / "dist", ignore_errors=True)

    def empty_sandboxes(self) -> None:
        """Remove what ended daemons leave behind: inputs of processes, hundreds of MB each time. Only without a daemon."""
        for path in self.sandboxes.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def end(self) -> None:
        self.pants(True).stop()
        processes.kill(processes.working_below(self.top))  # such as a daemon whose client was killed while it started
        shutil.rmtree(self.top, ignore_errors=True)


def verify(layers: Path, python: str) -> List[str]:
    """Read every unpacked layer of a store; what is wrong with them, in words."""
    done = tool(python, "-m", "opam_sandbox.publishing", "verify", str(layers), check=False)
    return [] if done.returncode == 0 else [f"verify: {done.stdout}{done.stderr}"]
