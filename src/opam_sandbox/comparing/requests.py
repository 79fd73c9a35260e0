"""The requests of this part."""

from typing import List, Literal, TypedDict, Union


class LayoutReference(TypedDict):
    """An image in a layout directory. path: absolute; wanted: a tag or a digest, "" where the layout has one image."""

    kind: Literal["layout"]
    path: str
    wanted: str


class RegistryReference(TypedDict):
    """An image in a registry. source: `docker://HOST/PATH:TAG`, or `@sha256:...` in the tag's place. skopeo: its path. cert_dir:
    a directory with certificates for the registry, "" for none."""

    kind: Literal["registry"]
    source: str
    skopeo: str
    tls_verify: bool
    cert_dir: str


class DescribeRequest(TypedDict):
    """`describe`: what an image says of itself, into the new file `output`. No blob of a layer is read or fetched.

    name: what people call it. os, architecture: of the image that is taken of an index.
    """

    name: str
    reference: Union[LayoutReference, RegistryReference]
    os: str
    architecture: str
    output: str


class LayerOfImage(TypedDict):
    """name: what people call the layer. digest: of its blob; diff_id: of its content."""

    name: str
    media_type: str
    digest: str
    diff_id: str


class ImageOfDiff(TypedDict):
    """One of the two images. reference: as of `describe`, but that of a registry names a digest, so that it is still that image;
    a layout's `path` may be relative. others: its layers that are not compared, which are not fetched."""

    name: str
    reference: Union[LayoutReference, RegistryReference]
    others: List[LayerOfImage]


class LayerPair(TypedDict):
    """What belongs together: a layer of each image, or of one of them and nothing."""

    first: List[LayerOfImage]
    second: List[LayerOfImage]


class CompareFilesRequest(TypedDict):
    """`compare-files`: in which paths these layers differ, into the new file `output`."""

    first: ImageOfDiff
    second: ImageOfDiff
    layers: List[LayerPair]
    output: str


class StatementsRequest(TypedDict):
    """`statements`: the in-toto statements that a layout or a registry has about an image, into the new file `output`.

    name: what people call the image. reference: as of `describe`. image: its manifest's digest.
    """

    name: str
    reference: Union[LayoutReference, RegistryReference]
    image: str
    output: str
