"""How blobs of layers are compressed: gzip, zstd or not at all, on all cores, with bytes that depend on nothing but the input.

As in `compress`, the stream is cut into pieces of fixed size, and each becomes a gzip member or a zstd frame of its own,
made by the *base's own* program. Frames one after another are one zstd stream (RFC 8878, section 3.1). Media types:
OCI image-spec 1.1, layer.md.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, List

from opam_sandbox.compress import LEVEL, GzipWriter, Written
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.layer import write_json
from opam_sandbox.maker import BLOBS
from opam_sandbox.request import Request

_TAR = "application/vnd.oci.image.layer.v1.tar"
# The default level, and the levels that there are.
_LEVELS = {"gzip": (LEVEL, range(1, 10)), "zstd": (3, range(1, 20)), "none": (0, range(1))}
_PROGRAMS = {"gzip": "bin/gzip", "zstd": "usr/bin/zstd"}


@dataclass(frozen=True)
class Packing:
    """compression: "gzip", "zstd" or "none"; `level` as its program has it."""

    compression: str
    level: int

    @property
    def media_type(self) -> str:
        return _TAR if self.compression == "none" else f"{_TAR}+{self.compression}"


def read_packing(request: Request) -> Packing:
    """The request's `compression` and `level` (0: the default). Raises RequestError for what there is not."""
    compression = request.get("compression", str)
    if compression not in _LEVELS:
        raise RequestError(f"compression: there is no {compression!r}, only {', '.join(_LEVELS)}")
    default, levels = _LEVELS[compression]
    level = request.get_or("level", 0) or default
    if level not in levels:
        raise RequestError(f"level: {compression} has the levels {levels[0]} to {levels[-1]}, not {level}")
    return Packing(compression, level)


class PackedWriter(GzipWriter):
    """A sink as GzipWriter, for any packing. `root`: the base's files; the caller must be allowed to chroot."""

    def __init__(self, out: BinaryIO, root: Path, packing: Packing, workers: int = 0) -> None:
        super().__init__(out, root, workers)
        self._packing = packing
        program = _PROGRAMS.get(packing.compression)
        if program and not os.path.lexists(root / program):
            name = Path(program).name
            raise ToolError(
                f"the base lacks /{program}, which compresses its images' layers: add the Debian package {name} to its "
                f'`packages`, or set `compression="gzip"` in the image'
            )

    def _gzip(self, piece: bytes) -> bytes:
        packing = self._packing
        if packing.compression == "none":
            return piece
        argv: List[str] = [f"/{_PROGRAMS[packing.compression]}", "-c", f"-{packing.level}"]
        if packing.compression == "gzip":
            argv.append("-n")
        else:
            # The size goes into the frame's header, so that readers know how much memory they need.
            argv += ["-q", "--single-thread", f"--stream-size={len(piece)}"]
        root = self._root

        def enter() -> None:
            os.chroot(root)
            os.chdir("/")

        try:
            run = subprocess.run(
                argv,
                input=piece,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                preexec_fn=enter,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(f"the base's {packing.compression} does not run: {error}") from None
        if run.returncode != 0 or not run.stdout:
            raise ToolError(
                f"the base's {packing.compression} failed (exit status {run.returncode}): "
                f"{run.stderr.decode(errors='replace')}"
            )
        return run.stdout


def write_packed(root: Path, packing: Packing, produce: Callable[[PackedWriter], int]) -> "tuple[Written, int]":
    """Write what `produce` sends as a blob named by its digest; returns what was written and what `produce` returns."""
    BLOBS.mkdir(parents=True, exist_ok=True)
    temporary = BLOBS / "partial"
    with open(temporary, "wb") as out:
        writer = PackedWriter(out, root, packing)
        result = produce(writer)
        written = writer.close()
    os.replace(temporary, BLOBS / written.digest)
    return written, result


def describe(
    kind: str, name: str, version: str, written: Written, packing: Packing, files: int, **facts: object
) -> None:
    """Write layer.json. `facts`: its `opam` and `dpkg`, empty if not given."""
    write_json(
        "layer.json",
        {
            "kind": kind,
            "name": name,
            "version": version,
            "diff_id": f"sha256:{written.diff_id}",
            "digest": f"sha256:{written.digest}",
            "size": written.size,
            "media_type": packing.media_type,
            "files": files,
            "opam": facts.get("opam", {}),
            "dpkg": facts.get("dpkg", {}),
        },
    )
