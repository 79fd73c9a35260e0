"""What images share, as one page that needs nothing but itself."""

from __future__ import annotations

from opam_oci.image_reports import treemap
from opam_oci.image_reports.records import LayerKind, short_digest
from opam_oci.image_reports.sharing import Blob, SharedBy, Sharing
from opam_oci.image_reports.treemap import WORDS, sharing_class
from opam_oci.pages.document import Section, write_document
from opam_oci.pages.html_text import cell, figure, filters, select, table, text

_TITLE = "Images and what they share"
_MOST_NAMES = 12

# What every image has, and what is much larger than packages.
_GROUND = (LayerKind.base, LayerKind.flat)


def write_page(sharing: Sharing) -> str:
    """The page, the same for the same images."""
    header = (
        f'<ul class="counts"><li><b>{len(sharing.images)}</b>images</li><li><b>{sharing.layers}</b>layers</li>'
        f"<li><b>{len(sharing.blobs)}</b>unique blobs</li><li><b>{sharing.without_sharing:,}</b>bytes without sharing</li>"
        f"<li><b>{sharing.on_disk:,}</b>bytes on disk</li>"
        f"<li><b>{sharing.saved:,}</b>bytes saved ({sharing.saved_percent:.1f} %)</li></ul>\n"
        '<p class="soft">Bytes are those of the compressed layers.</p>\n'
    )
    sections = [
        Section("images", "Images", _images(sharing)),
        Section("picture", "Layers by size", _pictures(sharing)),
        Section("layers", "Layers and packages, and who has them", _layers(sharing)),
    ]
    return write_document(_TITLE, header, sections, treemap.STYLE, skip=("layers", "To the table of layers"))


def _images(sharing: Sharing) -> str:
    head = [("Image", False), ("Platform", False), ("Manifest", False), ("Layers", True), ("Packages", True)]
    head += [("Bytes", True), ("Only its own", True), ("Shared", True)]
    rows = []
    for image in sharing.images:
        own = sharing.own(image)
        numbers = {"Layers": len(image.layers), "Packages": len(image.packages)}
        numbers.update({"Bytes": image.size, "Only its own": own, "Shared": image.size - own})
        cells = [
            cell("Platform", text(image.platform)),
            cell("Manifest", _digest(image.manifest)),
            *(cell(title, f"{number:,}", number=True) for title, number in numbers.items()),
        ]
        rows.append(f'<tr><th scope="row">{text(image.name)}</th>{"".join(cells)}</tr>')
    return table(head, rows)


def _pictures(sharing: Sharing) -> str:
    groups = sharing.groups()
    parts = [_picture(sharing, groups, "All layers")]
    without = [_without_ground(group) for group in groups]
    if any(len(some.blobs) < len(group.blobs) for some, group in zip(without, groups)) and any(
        group.blobs for group in without
    ):
        parts.append(_picture(sharing, without, "Layers without the bases"))
    return "".join(parts)


def _without_ground(group: SharedBy) -> SharedBy:
    return SharedBy(group.images, tuple(blob for blob in group.blobs if blob.layer.kind not in _GROUND))


def _picture(sharing: Sharing, groups: list[SharedBy], title: str) -> str:
    size = sum(group.size for group in groups)
    label = f"{title}: {size:,} bytes. Areas are compressed bytes; the table below has the same as text."
    svg = treemap.draw(sharing, groups, label)
    return f"<h3>{title}</h3>\n{figure(svg, f'{title}, scrollable')}" if svg else ""


def _layers(sharing: Sharing) -> str:
    kinds = sorted({blob.layer.kind.value for blob in sharing.blobs})
    used = {sharing_class(sharing, blob.images) for blob in sharing.blobs}
    form = filters(
        [
            select("kind", "Kind", ((kind, kind) for kind in kinds)),
            select("shared", "Shared", ((name, words) for name, words in WORDS.items() if name in used)),
        ]
    )
    head = [("Layer", False), ("Kind", False), ("Packages", False), ("Digest", False)]
    head += [("Bytes", True), ("Images", True), ("In", False)]
    return form + table(head, (_layer(sharing, blob) for blob in sharing.blobs), ' id="blobs" data-rows="layers"')


def _layer(sharing: Sharing, blob: Blob) -> str:
    layer = blob.layer
    names = [text(name) for name in blob.images[:_MOST_NAMES]]
    if len(blob.images) > _MOST_NAMES:
        names.append(f"and {len(blob.images) - _MOST_NAMES} more")
    packages = " ".join(layer.packages) if len(layer.packages) > 1 else ""
    cells = [
        cell("Kind", text(layer.kind.value)),
        cell("Packages", text(packages, 20_000)),
        cell("Digest", _digest(layer.digest)),
        # Without commas for whoever sorts.
        cell("Bytes", f"{layer.size:,}", str(layer.size), number=True),
        cell("Images", str(len(blob.images)), number=True),
        cell("In", ", ".join(names)),
    ]
    data = f' data-kind="{layer.kind.value}" data-shared="{sharing_class(sharing, blob.images)}"'
    return f'<tr{data}><th scope="row">{text(layer.title)}</th>{"".join(cells)}</tr>'


def _digest(digest: str) -> str:
    """Its first digits; the whole of it where the pointer rests."""
    return f'<code title="{text(digest)}">{text(short_digest(digest))}</code>'
