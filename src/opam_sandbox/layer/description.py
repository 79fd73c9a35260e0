"""A layer as it lies on disk between processes: a directory with `layer.json` and `blobs/sha256/<digest>`."""

# No `from __future__ import annotations`: the types of LayerFields are looked at when a layer.json is read.
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Literal, Sequence, TypedDict

from opam_sandbox.errors import RequestError
from opam_sandbox.request import check

FILE = "layer.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# "group": several packages' layers as one. "flat": a whole image as one. "runtime": what roots need on a slim base.
Kind = Literal["base", "opam-root", "package", "group", "runtime", "flat", "state"]


class OpamFacts(TypedDict, total=False):
    """What opam's state of a merged view is made from: `package` is `name.version`, set for packages."""

    package: str


class DpkgFacts(TypedDict, total=False):
    """What dpkg's state of a merged view is made from: see `dpkg`."""

    status: Dict[str, str]
    triggers: List[str]


class LayerFields(TypedDict):
    """layer.json: digests are `sha256:<hex>`, `size` is the blob's in bytes, `files` the number of the tar's entries."""

    kind: Kind
    name: str
    version: str
    diff_id: str
    digest: str
    size: int
    media_type: str
    files: int
    opam: OpamFacts
    dpkg: DpkgFacts


@dataclass(frozen=True)
class Layer:
    """A layer directory and what its layer.json says: see `LayerFields`."""

    directory: Path
    kind: Kind
    name: str
    version: str
    diff_id: str
    digest: str
    size: int
    media_type: str
    files: int
    opam: OpamFacts
    dpkg: DpkgFacts

    @property
    def blob(self) -> Path:
        """The file with the compressed layer."""
        return self.directory / "blobs" / self.digest.replace(":", "/")

    @property
    def title(self) -> str:
        """`lwt.5.6.1` for packages, `base trixie` for others."""
        return f"{self.name}.{self.version}" if self.kind == "package" else f"{self.kind} {self.name}".strip()


def read_layer(directory: Path) -> Layer:
    """The layer in a directory. Raises RequestError where its layer.json does not describe one."""
    path = directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        check(data, LayerFields, "it")
    except (OSError, ValueError, RecursionError, RequestError) as error:
        raise RequestError(f"{path} does not describe a layer: {error!s:.300}") from None
    layer = Layer(directory=directory, **data)
    for digest in (layer.diff_id, layer.digest):
        if not _DIGEST.fullmatch(digest):
            raise RequestError(f"{path} does not describe a layer: {digest!r:.100} is not a digest")
    if layer.kind == "package" and not layer.opam.get("package"):
        raise RequestError(f"{path} does not describe a layer: it does not say which package it is")
    if layer.size < 0 or layer.files < 0:
        raise RequestError(f"{path} does not describe a layer: a number is negative")
    try:
        _whole_text(layer).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RequestError(f"{path} does not describe a layer: it holds what is no text") from None
    return layer


def _whole_text(layer: Layer) -> str:
    """All that gets into files and names."""
    dpkg = layer.dpkg
    status = [text for item in dpkg.get("status", {}).items() for text in item]
    return "".join([layer.name, layer.version, layer.opam.get("package", ""), *status, *dpkg.get("triggers", [])])


def read_layers(directories: Iterable[str]) -> List[Layer]:
    """`read_layer` for each."""
    return [read_layer(Path(directory)) for directory in directories]


def installed_packages(layers: Sequence[Layer]) -> List[str]:
    """`name.version` of every opam package that the layers hold, sorted."""
    return sorted(layer.opam["package"] for layer in layers if layer.kind == "package")
