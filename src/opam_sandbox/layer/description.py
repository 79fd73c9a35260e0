"""A layer as it lies on disk between processes: a directory with `layer.json` and `blobs/sha256/<digest>`."""

# No `from __future__ import annotations`: the types of LayerFields are looked at when a layer.json is read.
from pathlib import Path
from typing import Dict, Iterable, List, Literal, NamedTuple, Sequence, TypedDict

from opam_sandbox.digests import hex_of, is_digest
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.request import check, safe_name
from opam_sandbox.strict_json import read_object

FILE = "layer.json"

# "group": several packages' layers as one. "flat": a whole image as one. "runtime": what roots need on a slim base.
Kind = Literal["base", "opam-root", "package", "group", "runtime", "flat", "state"]


class OpamFacts(TypedDict, total=False):
    """What opam's state of a merged view is made from: `package` is `name.version`, set for packages; `below` are those that it
    was built over, as `package` names them. `env` (`NAME=value`) is of a state: the environment that opam gives in the view."""

    package: str
    below: List[str]
    env: List[str]


class DpkgFacts(TypedDict, total=False):
    """What dpkg's state of a merged view is made from: see `dpkg`, and for `owners` and the next two `owners`. `triggered`: what
    was run again before the build, see `beside.triggers`."""

    status: Dict[str, str]
    triggers: List[str]
    records: Dict[str, Dict[str, str]]
    replaced: Dict[str, Dict[str, str]]
    gone: Dict[str, List[str]]
    owners: Dict[str, str]
    users: Dict[str, str]
    groups: Dict[str, str]
    triggered: List[str]


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


class Layer(NamedTuple):
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
        return self.directory / "blobs" / "sha256" / hex_of(self.digest)

    @property
    def title(self) -> str:
        """`lwt.5.6.1` for packages, `base trixie` for others."""
        return title_of(self.kind, self.name, self.version)


def title_of(kind: str, name: str, version: str) -> str:
    """`lwt.5.6.1` for packages, `base trixie` for others."""
    return f"{name}.{version}" if kind == "package" else f"{kind} {name}".strip()


def read_layer(directory: Path) -> Layer:
    """The layer in a directory. Raises RequestError where its layer.json does not describe one."""
    path = directory / FILE
    try:
        data = read_object(path)
        check(data, LayerFields, "it")
        if data["kind"] == "package":
            if not data["opam"].get("package"):
                raise RequestError("it does not say which package it is")
            safe_name(data["opam"]["package"])  # becomes part of paths
    except ToolError as error:
        raise RequestError(f"{path} does not describe a layer: {error!s:.300}") from None
    layer = Layer(directory=directory, **data)
    for digest in (layer.diff_id, layer.digest):
        if not is_digest(digest):
            raise RequestError(f"{path} does not describe a layer: {digest!r:.100} is not a digest")
    if layer.size < 0 or layer.files < 0:
        raise RequestError(f"{path} does not describe a layer: a number is negative")
    return layer


def read_layers(directories: Iterable[str]) -> List[Layer]:
    """`read_layer` for each."""
    return [read_layer(Path(directory)) for directory in directories]


def installed_packages(layers: Sequence[Layer]) -> List[str]:
    """`name.version` of every opam package that the layers hold, sorted."""
    return sorted(layer.opam["package"] for layer in layers if layer.kind == "package")
