"""Checks a layout directory: everything that is named is there, and is what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci.spec import LAYOUT_FILE, LAYOUT_VERSION


def problems(layout: Path) -> List[str]:
    """What is wrong with a layout, one sentence each. Reads every blob, also those that nothing refers to."""
    found: List[str] = []
    try:
        version = oci.read_json(layout / LAYOUT_FILE).get("imageLayoutVersion")
        entries = oci.read_index(layout)["manifests"]
    except ToolError as error:
        return [str(error)]
    if version != LAYOUT_VERSION:
        found.append(f"{LAYOUT_FILE} has the version {version!r}, which is unknown")
    names = [oci.ref_name(entry) for entry in entries if oci.ref_name(entry)]
    found += [f"{name} is named by two entries" for name in sorted({n for n in names if names.count(n) > 1})]

    sizes: Dict[str, int] = {}
    directory = layout / "blobs" / "sha256"
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        try:
            digest, sizes[path.name] = file_sha256(path)
        except FileNotFoundError:
            continue  # collected just now; if an entry needs it, that is said below
        if digest != path.name:
            found.append(f"the blob {path.name} has the sha256 {digest}")
    for entry in entries:
        title = oci.ref_name(entry) or str(entry.get("digest"))
        try:
            for digest, descriptor in oci.closure(layout, [entry]).items():
                size = sizes.get(digest.split(":", 1)[1])
                if size is None:
                    found.append(f"{title}: the blob {digest} is missing")
                elif size != descriptor.get("size"):
                    found.append(f"{title}: the blob {digest} has {size} bytes, not {descriptor.get('size')}")
        except ToolError as error:
            found.append(f"{title}: {error}")
    return found
