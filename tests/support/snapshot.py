"""The public opam repository for those tests and benchmarks that want its size: a snapshot from outside of this checkout.

The environment variable OPAM_REPOSITORY_SNAPSHOT names it: a tar archive of the repository, as a checkout or an archive of
a commit gives it. Without the variable it is the last of `../shared/data/opam-repository-*.tar.zst`, seen from this checkout.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Iterator, Tuple

VARIABLE = "OPAM_REPOSITORY_SNAPSHOT"
_BESIDE = "shared/data/opam-repository-*.tar.zst"
_ROOT = Path(__file__).resolve().parents[2]


class NoSnapshotError(Exception):
    """There is no snapshot on this machine; the message says how to name one."""


def find_snapshot() -> Path:
    """The archive's absolute path. Raises NoSnapshotError if there is none, FileNotFoundError if the variable names none."""
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named).resolve()
        if not path.is_file():
            raise FileNotFoundError(f"{VARIABLE} names {named}, which is not a file")
        return path
    beside = sorted(_ROOT.parent.glob(_BESIDE))
    if not beside:
        raise NoSnapshotError(
            f"there is no snapshot of the public opam repository: name one with {VARIABLE}=FILE (none is at ../{_BESIDE})"
        )
    return beside[-1]


def location(archive: Path) -> str:
    """The archive as a value of `[opam.repositories]`: a file:// URL with its sha256 and its size in bytes."""
    content = archive.read_bytes()
    return f"{archive.as_uri()}#sha256={hashlib.sha256(content).hexdigest()}&size={len(content)}"


def unpack(archive: Path, target: Path) -> Path:
    """Unpack the archive into `target`, which is made. Returns the directory that holds `packages/`."""
    target.mkdir()
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={target}"], check=True)
    found = [path for path in (target, *sorted(target.iterdir())) if (path / "packages").is_dir()]
    if not found:
        raise FileNotFoundError(f"{archive} has no directory packages/")
    return found[0]


def opam_files(archive: Path) -> Iterator[Tuple[str, str, str]]:
    """(package, version, text) of every opam file, in the archive's order; bytes that are not UTF-8 become surrogates."""
    if archive.suffix != ".zst":
        with tarfile.open(archive, mode="r|*") as tar:
            yield from _opam_files(tar)
        return
    with subprocess.Popen(["zstd", "-dcq", os.fspath(archive)], stdout=subprocess.PIPE) as plain:
        with tarfile.open(fileobj=plain.stdout, mode="r|") as tar:
            yield from _opam_files(tar)


def _opam_files(tar: tarfile.TarFile) -> Iterator[Tuple[str, str, str]]:
    for member in tar:
        match = re.search(r"(?:^|/)packages/([^/]+)/\1\.([^/]+)/opam$", member.name)
        content = tar.extractfile(member) if match else None
        if match and content:
            yield match[1], match[2], content.read().decode("utf-8", "surrogateescape")
