"""Finds an image in a layout that somebody else may have written."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci

# Of an index in an index.
DEEPEST = 4


def find_image(name: str, layout: Path, wanted: str, platform: Tuple[str, str]) -> oci.Descriptor:
    """The descriptor of an image's manifest. Raises ToolError unless there is exactly one such image.

    name: what people call it. wanted: its tag or digest; "" for a layout with one image. platform: (os, architecture) of the one
    that is taken of an index.
    """
    entry = _find(name, layout, wanted)
    for _ in range(DEEPEST):
        if oci.is_image(entry):
            return entry
        if not oci.is_manifest(entry):
            break
        entry = of_platform(name, oci.children(layout, entry), platform)
    raise ToolError(f"{name}: {entry['digest']} is {entry['mediaType']!r:.80}, which is no image")


def of_platform(name: str, entries: List[oci.Descriptor], platform: Tuple[str, str]) -> oci.Descriptor:
    """The one of an index's entries that is for a platform. Raises ToolError."""
    found = [one for one in entries if _platform_of(one) == platform]
    if len(found) != 1:
        raise ToolError(f"{name} is an index with {len(found)} images for {'/'.join(platform)}, but one is needed")
    return found[0]


def _find(name: str, layout: Path, wanted: str) -> oci.Descriptor:
    entries = [one for one in oci.read_index(layout)["manifests"] if not oci.subject(layout, one)]
    found = [one for one in entries if wanted in ("", oci.ref_name(one), one["digest"])]
    if len({one["digest"] for one in found}) == 1:
        return dict(found[0])
    names = sorted({oci.ref_name(one) or one["digest"] for one in entries})
    listed = f"; it has {', '.join(names[:20])}" if names else ""
    if wanted:
        raise ToolError(f"{name}: the layout {layout} has {len(found)} images with the name {wanted!r}{listed}")
    raise ToolError(f"{name}: the layout {layout} has {len(found)} images: add `:TAG`{listed}")


def _platform_of(entry: oci.Descriptor) -> Tuple[object, object]:
    platform = entry.get("platform")
    return (platform.get("os"), platform.get("architecture")) if isinstance(platform, dict) else ("", "")
