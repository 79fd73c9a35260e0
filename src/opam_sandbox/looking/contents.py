"""`contents`: what a layer has, and what of the layers below it hides, out of its blob.

Writes contents.json:

    {"entries": [["usr/bin/x", "file", "0755", 0, 0, 1234, ""], ...], "hides": ["usr/bin/y", "srv/"]}

An entry is path, kind, mode (octal), uid, gid, size in bytes, and where a link leads (of a hard link the name that it shares).
hides: a whiteout's name; of an opaque directory its name and a slash, which is all that lies in it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

from opam_sandbox.errors import RequestError
from opam_sandbox.files import write_json
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.read_blob import plain_content
from opam_sandbox.layer.read_tar import TarReader
from opam_sandbox.looking.requests import ContentsRequest

FILE = "contents.json"
_KINDS = {
    tar_headers.REGULAR: "file",
    tar_headers.HARDLINK: "hard link",
    tar_headers.SYMLINK: "link",
    tar_headers.DIRECTORY: "directory",
    b"3": "character device",
    b"4": "block device",
    b"6": "pipe",
}


def run(request: ContentsRequest, jobs: int) -> int:
    """Write the list. Raises ToolError for a damaged layer."""
    if len(request["layers"]) != 1:
        raise RequestError("layers: there should be one")
    [layer] = read_layers(request["layers"])
    entries: List[List[Any]] = []
    hides: List[str] = []
    inodes: Dict[bytes, List[Any]] = {}
    with plain_content(layer) as content:
        for member in TarReader(content, layer.title):
            directory = os.path.dirname(member.name)
            if member.hides is not None:
                below = os.path.join(directory, member.hides) if member.hides else directory + b"/"
                hides.append(os.fsdecode(below))
            elif member.name:
                entry = [
                    os.fsdecode(member.name),
                    _KINDS.get(member.kind, "file"),
                    f"{member.mode & 0o7777:04o}",
                    member.uid,
                    member.gid,
                    member.size,
                    os.fsdecode(member.linkname),
                ]
                if member.kind == tar_headers.HARDLINK and member.linkname in inodes:
                    # As the name that it shares everything with.
                    entry[2:6] = inodes[member.linkname][2:6]
                inodes[member.name] = entry
                entries.append(entry)
    write_json(FILE, {"entries": entries, "hides": hides})
    return 0
