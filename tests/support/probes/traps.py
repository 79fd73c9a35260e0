"""What became of what the probes left behind in layers for the builder to follow."""

from __future__ import annotations

import gzip
import tarfile
from typing import List, Tuple

from tests.support.probes.chain import Chain

# type, name, mode, owner, link, attributes
Entry = Tuple[str, str, int, int, str, Tuple[str, ...]]


def followed(chain: Chain) -> List[str]:
    """Where the secret lies in what the tool wrote. What was made where links led, `Target.changes` says."""
    secret = chain.target.secret.encode()
    found = []
    for directory in chain.layers:
        for path in sorted((chain.directory / directory).rglob("*")):
            if path.is_file() and not path.is_symlink() and "debs" not in path.parts:
                data = path.read_bytes()
                if path.parent.name == "sha256":
                    data = gzip.decompress(data)
                if secret in data:
                    found.append(str(path))
    return found


def left_behind(chain: Chain, layer: str) -> List[Entry]:
    """The entries of a layer that the probes have left."""
    [blob] = (chain.directory / layer / "blobs/sha256").iterdir()
    found: List[Entry] = []
    with tarfile.open(blob) as archive:
        for member in archive:
            if "/traps-" in member.name:
                link = member.linkname.replace(str(chain.directory), "")
                attributes = tuple(sorted(key for key in member.pax_headers if "xattr" in key.lower()))
                kind = member.type.decode()
                found.append((kind, member.name, member.mode, member.uid, link, attributes))
    return sorted(found)


def forbidden(entries: List[Entry]) -> List[Entry]:
    """Devices, and attributes that are overlayfs' own."""
    return [
        entry
        for entry in entries
        if entry[0] in (tarfile.CHRTYPE.decode(), tarfile.BLKTYPE.decode()) or any("overlay" in key for key in entry[5])
    ]
