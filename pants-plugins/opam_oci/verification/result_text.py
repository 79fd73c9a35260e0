"""What came of making an image again, as text for a terminal."""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence

from pants.util.strutil import pluralize

from opam_oci.image_reports.difference_text import write_text
from opam_oci.image_reports.differences import Change, value_text
from opam_oci.image_reports.file_differences import FileDifferences
from opam_oci.image_reports.report_text import aligned
from opam_oci.pages.plain_text import one_line
from opam_oci.subsystems.rebuild import Rebuild
from opam_oci.verification.inputs import InputDifference, InputDifferences
from opam_oci.verification.recorded import RecordedDependency
from opam_oci.verification.result import Verdict, Verification

# Of a digest: as many as tell it apart from others.
_DIGITS = 12
_SAYS = {
    Verdict.identical: "is the same image as",
    Verdict.same_contents: "has the same contents as, and another manifest than,",
    Verdict.different: "is not the same image as",
}
_MADE = {
    Rebuild.all: "with all layers made in this run",
    Rebuild.packages: "with all layers made in this run but the base and opam's root",
    Rebuild.none: "with layers from caches, as far as they have them",
}


def write_verification(result: Verification) -> str:
    """The verdict first."""
    parts = ["\n".join(_head(result))]
    for title, rows in _tables(result.inputs):
        parts.append(_table(title, rows))
    if result.manifest:
        rows = [("value", "published", "made here")]
        rows += [
            (one_line(one.path), one_line(value_text(one.before), 80), one_line(value_text(one.after), 80))
            for one in result.manifest
        ]
        parts.append(_table("Manifests, where they differ", rows))
    if result.verdict is not Verdict.identical:
        parts.append(write_text(result.difference, _files(result)).rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _files(result: Verification) -> FileDifferences | None:
    """Without layers that are but compressed otherwise, as they were found to be."""
    if result.files is None:
        return None
    layers = result.difference.layers
    kept = (one for one in result.files.layers if one.paths or layers[one.number].change is not Change.repacked)
    return FileDifferences(tuple(kept))


def _head(result: Verification) -> Iterator[str]:
    published, made = result.difference.before, result.difference.after
    yield f"{result.target} {_SAYS[result.verdict]} {one_line(published.name)}"
    rows = [
        ("published", published.manifest),
        ("made here", f"{made.manifest}, {_MADE[result.rebuilt]}"),
        ("provenance", f"sha256:{result.recorded.sha256}, {one_line(result.recorded.origin)}"),
        ("made of", _sum(result.inputs)),
    ]
    yield from (f"  {line}" for line in aligned(rows, numbers=()).split("\n"))
    if result.is_reproduced:
        yield "The image was made again."
    elif result.verdict is Verdict.identical:
        yield f"`--rebuild={result.rebuilt.value}`: layers from a cache may be those that were published."


def _sum(inputs: InputDifferences) -> str:
    differ = len(inputs.dependencies) + len(inputs.parameters)
    said = f"{pluralize(differ, 'difference')} in what it is made of" if differ else "nothing differs"
    return f"{pluralize(inputs.same, 'dependency')} the same here; {said}"


def _tables(inputs: InputDifferences) -> Iterator[tuple[str, Sequence[Sequence[str]]]]:
    if inputs.dependencies:
        rows = [("dependency", "change", "recorded", "here"), *map(_dependency_row, inputs.dependencies)]
        yield "Dependencies that differ from the provenance", rows
    if inputs.parameters:
        rows = [("parameter", "recorded", "here")]
        rows += [
            (one_line(one.name), one_line(value_text(one.recorded), 80), one_line(value_text(one.here), 80))
            for one in inputs.parameters
        ]
        yield "Parameters that differ from the provenance", rows


def _dependency_row(one: InputDifference) -> Sequence[str]:
    return (one_line(one.name), one.change.value, _dependency(one.recorded), _dependency(one.here))


def _dependency(one: RecordedDependency | None) -> str:
    if one is None:
        return ""
    return one_line(" ".join(filter(None, (_digests(one.digest), one.uri))), 160)


def _digests(digest: Mapping[str, str]) -> str:
    return " ".join(f"{algorithm}:{text[:_DIGITS]}" for algorithm, text in sorted(digest.items()))


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    return f"{title}:\n" + "\n".join(f"  {line}" for line in aligned(rows, numbers=()).split("\n"))
