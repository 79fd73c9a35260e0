"""Layers as a picture: rectangles whose areas are their bytes, those that the same images share beside one another.

The rectangles are as square as their order allows: the rule is that of Bruls, Huizing and van Wijk's "squarified treemaps".
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

from opam_oci.image_reports.sharing import Blob, SharedBy, Sharing
from opam_oci.pages.html_text import text

_WIDTH, _HEIGHT, _HEAD = 960, 540, 34
# What is narrower than this many pixels is drawn together with what is as small.
_SMALLEST = 3.0
_LETTER = 6.6

STYLE = """.treemap { font: 12px system-ui, sans-serif; width: 100%; height: auto; min-width: 40rem; }
.treemap text { fill: #1b1b1b; }
.treemap rect { stroke: #fff; stroke-width: 1; }
.treemap .all { fill: #b5dccf; } .treemap .several { fill: #bcd6ee; } .treemap .one { fill: #f3d3a4; }
.treemap .around { fill: none; stroke: #1b1b1b; stroke-width: 1.5; }
"""


class Box(NamedTuple):
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float


def squarified(sizes: Sequence[float], box: Box) -> list[Box]:
    """Rectangles that fill the box, of areas as the sizes, which are above 0 and fall."""
    found: list[Box] = []
    total = sum(sizes)
    start = 0
    while start < len(sizes):
        scale = box.width * box.height / total if total else 0.0
        side = min(box.width, box.height)
        end = start + 1
        while end < len(sizes) and _worst(sizes[start : end + 1], side, scale) <= _worst(sizes[start:end], side, scale):
            end += 1
        row = sizes[start:end]
        placed, box = _row(row, sum(row) / total if total else 0.0, box)
        found += placed
        total -= sum(row)
        start = end
    return found


def _worst(row: Sequence[float], side: float, scale: float) -> float:
    """The worst ratio of sides in a row of rectangles along a side."""
    area = sum(row) * scale
    if not area or not side:
        return float("inf")
    thickness = area / side
    return max(max(thickness * thickness / (one * scale), one * scale / (thickness * thickness)) for one in row)


def _row(row: Sequence[float], part: float, box: Box) -> tuple[list[Box], Box]:
    """A row's rectangles along the box's shorter side, and what is left of the box. part: of the box's area."""
    placed, whole, along = [], sum(row), 0.0
    if box.width >= box.height:
        thickness = box.width * part
        for one in row:
            length = box.height * one / whole
            placed.append(Box(box.x, box.y + along, thickness, length))
            along += length
        return placed, Box(box.x + thickness, box.y, max(box.width - thickness, 0.0), box.height)
    thickness = box.height * part
    for one in row:
        length = box.width * one / whole
        placed.append(Box(box.x + along, box.y, length, thickness))
        along += length
    return placed, Box(box.x, box.y + thickness, box.width, max(box.height - thickness, 0.0))


def draw(sharing: Sharing, groups: Sequence[SharedBy], label: str) -> str:
    """An SVG of these groups of blobs; "" where they have no bytes."""
    groups = sorted((group for group in groups if group.size), key=lambda group: -group.size)
    if not groups:
        return ""
    # An empty blob has no area; a layer without files has some bytes.
    parts = [_legend(sharing, groups)]
    boxes = squarified([group.size for group in groups], Box(0, _HEAD, _WIDTH, _HEIGHT))
    for group, box in zip(groups, boxes):
        parts += _group(sharing, group, box)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="treemap" role="img" aria-label="{text(label)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT + _HEAD}" width="{_WIDTH}" height="{_HEIGHT + _HEAD}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def sharing_class(sharing: Sharing, images: Sequence[str]) -> str:
    """Whether all images of a report have something, several, or one."""
    if len(images) == 1:
        return "one"
    return "all" if len(images) == len(sharing.images) else "several"


WORDS = {"all": "in all images", "several": "in several images", "one": "in one image"}


def _legend(sharing: Sharing, groups: Sequence[SharedBy]) -> str:
    used = {sharing_class(sharing, group.images) for group in groups}
    parts, x = [], 2.0
    for name, words in WORDS.items():
        if name in used:
            parts.append(f'<rect class="{name}" x="{x:g}" y="8" width="18" height="16"/>')
            parts.append(f'<text x="{x + 24:g}" y="20">{words}</text>')
            x += 50 + _LETTER * len(words)
    return "\n".join(parts)


def _group(sharing: Sharing, group: SharedBy, box: Box) -> list[str]:
    kind = sharing_class(sharing, group.images)
    blobs = [blob for blob in group.blobs if blob.layer.size]
    blobs.sort(key=lambda blob: (-blob.layer.size, blob.layer.digest))
    area = box.width * box.height / group.size
    large = [blob for blob in blobs if blob.layer.size * area >= _SMALLEST * _SMALLEST]
    rest = blobs[len(large) :]
    sizes = [float(blob.layer.size) for blob in large]
    if rest:
        sizes.append(float(sum(blob.layer.size for blob in rest)))
    # The rest may be more than the smallest that is shown.
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    parts = []
    for number, place in zip(order, squarified([sizes[number] for number in order], box)):
        if number < len(large):
            parts.append(_blob(large[number], kind, place))
        else:
            said = f"{len(rest)} smaller layers: {sizes[number]:,.0f} bytes, {WORDS[kind]}"
            parts.append(_rect(kind, place, f"{len(rest)} smaller", said))
    around = f'<rect class="around" {_at(box)}/>'
    return [*parts, around]


def _blob(blob: Blob, kind: str, place: Box) -> str:
    layer = blob.layer
    said = f"{layer.title}: {layer.size:,} bytes, in {', '.join(blob.images)}"
    return _rect(kind, place, layer.title, said)


def _rect(kind: str, place: Box, name: str, said: str) -> str:
    room = int((place.width - 8) / _LETTER)
    shown = ""
    if place.height >= 16 and room >= 4:
        shown = f'<text x="{place.x + 4:.1f}" y="{place.y + 14:.1f}">{text(name, room)}</text>'
    return f'<g><title>{text(said)}</title><rect class="{kind}" {_at(place)}/>{shown}</g>'


def _at(box: Box) -> str:
    return f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
