"""The checksums that an opam file has of a package's sources."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple

from opam_sandbox.opam import opamfile
from opam_sandbox.opam.opamfile import ListOf, Str, Value
from opam_sandbox.opam.package import OpamPackage


def checksums(package: OpamPackage) -> Dict[str, List[Tuple[str, str]]]:
    """(kind, hex) of the checksums of each source, by its name ("" for the archive)."""
    found: Dict[str, List[Tuple[str, str]]] = {}
    for section in opamfile.parse(package.opam, f"{package.title}: opam file"):
        for field in section.items if section.name in ("url", "extra-source") else ():
            if field.name == "checksum" and field.value is not None:
                texts = [text.rpartition("=") for text in _strings(field.value)]
                label = section.label if section.name == "extra-source" else ""
                found.setdefault(label, []).extend((kind or "md5", value.lower()) for kind, _, value in texts)
    return found


def _strings(value: Value) -> Iterator[str]:
    if isinstance(value, Str):
        yield value.value
    elif isinstance(value, ListOf):
        for item in value.items:
            yield from _strings(item)
