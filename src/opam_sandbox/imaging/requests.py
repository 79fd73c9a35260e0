"""The requests and results of this part. Paths are relative to the current directory; `layers` are layer directories."""

from typing import List, Literal, TypedDict

from opam_sandbox.opam.package import PackageFields


class Overlapping(TypedDict, total=False):
    """overlapping_files: patterns of paths that two packages may hold differently, see `beside.overlaps`."""

    overlapping_files: List[str]


class StateRequest(Overlapping):
    """`state`: all layers in the image's order; `packages` are theirs, `roots` (`name.version`) what the image is for."""

    store: str
    layers: List[str]
    packages: List[PackageFields]
    roots: List[str]


class _Compression(TypedDict):
    store: str
    layers: List[str]
    compression: Literal["gzip", "zstd", "zstd:chunked", "none"]


class CompressionFields(_Compression, total=False):
    """How a layer is compressed: `level` as the program has it, 0 (and none) for the default."""

    level: int


class RepackRequest(CompressionFields):
    """`repack`: the layers are the base, whose program compresses, and the layer; or the base alone."""


class _Merge(CompressionFields):
    name: str
    whole: bool


class MergeRequest(_Merge, total=False):
    """`merge`: the layers are the base and those to merge. whole: the base is merged too, and nothing has to be hidden. packer:
    the layer directory of another base, whose program compresses."""

    packer: str


class RuntimePackage(TypedDict):
    """A package of the full image: `depends` are names; `root`: the image is for it."""

    name: str
    opam: str
    depends: List[str]
    root: bool


class _Runtime(TypedDict):
    store: str
    slim: str
    layers: List[str]
    packages: List[RuntimePackage]
    keep: List[str]
    env: List[str]


class RuntimeRequest(_Runtime, total=False):
    """`runtime`: `slim` is the layer directory of the base, `layers` are the full image's, its state the last; `keep`:
    patterns of paths; `env`: the image's environment, `NAME=value`; foreign_base: somebody else made the base, as an image."""

    foreign_base: bool


class ArchivedImage(TypedDict):
    """An image of a docker-archive: `config` is its configuration's digest, `tags` are `name:tag`."""

    config: str
    tags: List[str]
    layers: List[str]


class ArchiveRequest(TypedDict):
    """`archive`: `layout` is a layout's directory; `images` are named for a docker-archive only."""

    format: Literal["oci-archive", "docker-archive"]
    layout: str
    images: List[ArchivedImage]
