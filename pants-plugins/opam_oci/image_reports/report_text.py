"""What images share, as text for a terminal."""

from __future__ import annotations

from typing import Iterable, Sequence

from pants.util.strutil import pluralize

from opam_oci.image_reports.sharing import Sharing
from opam_oci.pages.plain_text import one_line

_WIDTH = 118


def write_text(sharing: Sharing) -> str:
    """Tables of the images and of the sums, and what is shared by whom."""
    rows: list[Sequence[str]] = [("image", "layers", "packages", "bytes", "only its own", "shared")]
    for image in sharing.images:
        own = sharing.own(image)
        numbers = (len(image.layers), len(image.packages), image.size, own, image.size - own)
        rows.append((one_line(image.name), *(f"{number:,}" for number in numbers)))
    sums = [
        ("layers", f"{sharing.layers:,}", "of all images"),
        ("unique blobs", f"{len(sharing.blobs):,}", "layers that are the same count once"),
        ("total without sharing", f"{sharing.without_sharing:,}", "bytes compressed"),
        ("on disk", f"{sharing.on_disk:,}", "bytes, each blob once"),
        ("saved", f"{sharing.saved:,}", f"bytes, {sharing.saved_percent:.1f} %"),
    ]
    parts = [aligned(rows), aligned(sums, numbers=(1,))]
    for group in sharing.groups():
        names = ", ".join(one_line(name) for name in group.images)
        whose = f"Only in {names}" if len(group.images) == 1 else f"Shared by {names}"
        head = f"{whose} ({pluralize(len(group.blobs), 'layer')}, {group.size:,} bytes):"
        words = [_named(blob.layer.title, blob.layer.packages) for blob in group.blobs]
        parts.append("\n".join([head, *wrapped(words)]))
    return "\n\n".join(parts) + "\n"


def _named(title: str, packages: Sequence[str]) -> str:
    return " + ".join(map(one_line, packages)) if packages and len(packages) < 4 else one_line(title)


def aligned(rows: Sequence[Sequence[str]], numbers: Iterable[int] | None = None) -> str:
    """Columns; those of numbers, by default all but the first, end together."""
    right = set(range(1, len(rows[0]))) if numbers is None else set(numbers)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def wrapped(words: Iterable[str], indent: str = "  ") -> list[str]:
    """Words with commas between them, in lines that fit a terminal."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) + 2 > _WIDTH:
            lines.append(f"{indent}{line},")
            line = ""
        line = f"{line}, {word}" if line else word
    return [*lines, f"{indent}{line}"]
