"""In what two images differ, as text for a terminal."""

from __future__ import annotations

from typing import Iterator, Sequence

from pants.util.strutil import pluralize

from opam_oci.image_reports.differences import (
    Change,
    Difference,
    LayerDifference,
    PackageDifference,
    ValueDifference,
    value_text,
)
from opam_oci.image_reports.file_differences import FileDifferences, PathDifference
from opam_oci.image_reports.records import ImageRecord, LayerRecord, short_digest
from opam_oci.image_reports.report_text import aligned
from opam_oci.pages.plain_text import one_line

# Of a layer; JSON has all.
MOST_PATHS = 50
_WORDS = {
    Change.added: "added",
    Change.removed: "removed",
    Change.version: "another version",
    Change.rebuilt: "rebuilt",
    Change.joined: "in another joint layer",
    Change.repacked: "compressed otherwise",
    Change.changed: "changed",
}


def write_text(difference: Difference, files: FileDifferences | None) -> str:
    """What differs, or that nothing does. files: None where they were not compared."""
    before, after = difference.before, difference.after
    if difference.is_same_image:
        names = f"{one_line(before.name)} and {one_line(after.name)}"
        return f"{names} are the same image: manifest {after.manifest}.\n"
    parts = ["\n".join([_image_line("before", before), _image_line("after", after), _sum_line(difference)])]
    parts += [f"note: {note}" for note in _notes(difference)]
    for title, rows in _tables(difference, files):
        parts.append(f"{title}:\n" + "\n".join(f"  {line}" for line in aligned(rows, numbers=()).split("\n")))
    for head, lines in _path_lists(files):
        parts.append("\n".join([f"{head}:", *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def _notes(difference: Difference) -> Iterator[str]:
    for image in (difference.before, difference.after):
        if not image.is_ours:
            yield (
                f"the history of {one_line(image.name)} is none that this backend writes: its packages are not known, only its "
                "layers' digests and lines of history."
            )
    if difference.reordered:
        yield "layers that both have lie in another order."
    if not (difference.packages or difference.layers or difference.values or difference.reordered):
        yield (
            "layers and configuration are the same; the manifests, or what else the configurations say (history, dates), are not."
        )


def _image_line(word: str, image: ImageRecord) -> str:
    return f"{word:7}{one_line(image.name)}  {image.manifest}, {pluralize(len(image.layers), 'layer')}, {image.size:,} bytes"


def _sum_line(difference: Difference) -> str:
    change = difference.after.size - difference.before.size
    return f"{pluralize(difference.same_layers, 'layer')} with the same content in both; compressed bytes {change:+,}"


def _tables(difference: Difference, files: FileDifferences | None) -> Iterator[tuple[str, list[Sequence[str]]]]:
    if difference.packages:
        head: list[Sequence[str]] = [("package", "change", "before", "after", "compressed bytes")]
        yield "Packages", [*head, *map(_package_row, difference.packages)]
    if difference.layers:
        # Of packages' layers the table above tells, but not how large a joint one is.
        head = [("layer", "change", "before", "after", "compressed bytes", *(["bytes of files"] if files else []))]
        rows = [_layer_row(one, files, number) for number, one in enumerate(difference.layers)]
        yield "Layers", [*head, *rows]
    if difference.values:
        yield "Configuration", [("field", "before", "after"), *map(_value_row, difference.values)]


def _package_row(one: PackageDifference) -> Sequence[str]:
    return (one_line(one.name), _WORDS[one.change], one_line(one.before), one_line(one.after), _package_bytes(one))


def _package_bytes(one: PackageDifference) -> str:
    if one.bytes_before is None and one.bytes_after is None:
        return "(in a layer with others)"
    if (one.bytes_before is None and one.before) or (one.bytes_after is None and one.after):
        return "(was or is in a layer with others)"
    return f"{(one.bytes_after or 0) - (one.bytes_before or 0):+,}"


def _layer_row(one: LayerDifference, files: FileDifferences | None, number: int) -> Sequence[str]:
    sizes = (one.before.size if one.before else 0, one.after.size if one.after else 0)
    row = [one_line(one.title), _WORDS[one.change], _layer(one.before), _layer(one.after), f"{sizes[1] - sizes[0]:+,}"]
    if files:
        compared = files.of_layer(number)
        row.append(f"{compared.bytes_change:+,}" if compared is not None else "+0")
    return row


def _layer(layer: LayerRecord | None) -> str:
    if layer is None:
        return ""
    said = one_line(layer.created_by, 60) if layer.kind.value == "other" and layer.created_by else ""
    return f"{short_digest(layer.digest)}{f' {said}' if said else ''}"


def _value_row(one: ValueDifference) -> Sequence[str]:
    name = f"{one.field} {one.key}" if one.key else one.field
    return (one_line(name), one_line(value_text(one.before)), one_line(value_text(one.after)))


def _path_lists(files: FileDifferences | None) -> Iterator[tuple[str, list[str]]]:
    layers = files.layers if files else ()
    for layer in layers:
        if not layer.paths:
            if not layer.lone:
                yield f"Files of {one_line(layer.title)}", ["the same; the archives are written otherwise"]
            continue
        lines = [_path_line(one) for one in layer.paths[:MOST_PATHS]]
        if len(layer.paths) > MOST_PATHS:
            lines.append(f"... and {len(layer.paths) - MOST_PATHS:,} more, which `--format=json` has")
        yield f"Files of {one_line(layer.title)} ({len(layer.paths):,} differ)", lines
    moved = [one_line(layer.title) for layer in layers if layer.lone and not layer.paths]
    if moved:
        yield "Layers whose files all lie in other layers of the other image", moved


def _path_line(one: PathDifference) -> str:
    owner = f" ({one.package})" if one.package else ""
    if one.before is None or one.after is None:
        item = one.before or one.after or {}
        size = f", {item.get('size'):,} bytes" if item.get("kind") == "file" else ""
        sign = "-" if one.after is None else "+"
        return one_line(f"{sign} {one.path}{owner}: {item.get('kind')}, mode {item.get('mode')}{size}", 400)
    changes = [_field(name, one.before.get(name), one.after.get(name)) for name in one.fields]
    return one_line(f"~ {one.path}{owner}: {', '.join(changes)}", 400)


def _field(name: str, before: object, after: object) -> str:
    if name in ("content", "attributes"):
        return name
    if name == "size" and isinstance(before, int) and isinstance(after, int):
        return f"{before:,} -> {after:,} bytes"
    return f"{name} {before} -> {after}"
