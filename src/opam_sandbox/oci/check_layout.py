"""Checks a layout directory: everything that is named is there, and is what its name says."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Dict, List

from opam_sandbox.digests import is_hex
from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci import layout_files
from opam_sandbox.oci.spec import LAYOUT_FILE, LAYOUT_VERSION


def problems(layout: Path) -> List[str]:
    """What is wrong with a layout, one sentence each. Reads every blob, also those that nothing refers to."""
    found: List[str] = []
    try:
        version = layout_files.read_object(layout, LAYOUT_FILE).get("imageLayoutVersion")
        entries = oci.read_index(layout)["manifests"]
        layout_files.check_directories(layout, layout_files.BLOBS)
    except ToolError as error:
        return [str(error)]
    if version != LAYOUT_VERSION:
        found.append(f"{LAYOUT_FILE} has the version {version!r:.80}, which is unknown")
    names = sorted(oci.ref_name(entry) for entry in entries if oci.ref_name(entry))
    found += [f"{name} is named by two entries" for name in sorted({a for a, b in zip(names, names[1:]) if a == b})]

    sizes = _blobs(layout, found)
    for entry in entries:
        title = oci.ref_name(entry) or entry["digest"]
        try:
            oci.subject(layout, entry)
            for digest, descriptor in oci.closure(layout, [entry]).items():
                size = sizes.get(digest.split(":", 1)[1])
                if size is None:
                    found.append(f"{title}: the blob {digest} is missing")
                elif size != descriptor["size"]:
                    found.append(f"{title}: the blob {digest} has {size} bytes, not {descriptor['size']}")
        except ToolError as error:
            found.append(f"{title}: {error}")
    return found


def _blobs(layout: Path, found: List[str]) -> Dict[str, int]:
    """The sizes of all blobs by their names; what is wrong with them goes to `found`."""
    sizes: Dict[str, int] = {}
    directory = layout / layout_files.BLOBS
    for name in sorted(os.listdir(directory)) if directory.is_dir() else ():
        if not is_hex(name):
            found.append(f"{name!r} in {layout_files.BLOBS} is no sha256")
            continue
        digest = hashlib.sha256()
        size = 0
        try:
            with layout_files.opened(layout, f"{layout_files.BLOBS}/{name}") as descriptor:
                while True:
                    data = os.read(descriptor, CHUNK)
                    if not data:
                        break
                    digest.update(data)
                    size += len(data)
        except layout_files.MissingError:
            continue  # collected just now; if an entry needs it, that is said below
        except (ToolError, OSError) as error:
            found.append(f"the blob {name}: {error}")
            continue
        sizes[name] = size
        if digest.hexdigest() != name:
            found.append(f"the blob {name} has the sha256 {digest.hexdigest()}")
    return sizes
