"""What a layer of a layout holds, for comparing it with another."""

from __future__ import annotations

import tarfile
from typing import Dict, Tuple

from tests.support.layouts import Layout


def files_of_layer(layout: Layout, title: str) -> Dict[str, Tuple[object, ...]]:
    """Of the package `title` (NAME.VERSION), by path: type, mode, uid, gid, target of a link, content."""
    [digest] = [
        layer["digest"]
        for layer in layout.layers
        if layer.get("annotations", {}).get("org.opencontainers.image.title") == title
    ]
    found: Dict[str, Tuple[object, ...]] = {}
    with tarfile.open(layout.blob(digest), "r:*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            content = file.read() if file else b""
            found[member.name] = (member.type, member.mode, member.uid, member.gid, member.linkname, content)
    return found
