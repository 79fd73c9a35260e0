"""The requests and results of this part. Paths are relative to the current directory, but for those that say otherwise."""

from typing import Dict, List, Literal, TypedDict


class FetchImageRequest(TypedDict):
    """`fetch-image`: `place` is HOST[:PORT]/PATH of a registry, or the absolute directory of a layout; `digest` names a manifest,
    or an index, of which the one for Linux on `architecture` (as OCI has it) is taken; `name` is the base's. Of a registry:
    `cert_dir` is "" or an absolute directory, `handover` the absolute path of a JSON file, see `Handover`, or ""."""

    source: Literal["registry", "layout"]
    place: str
    digest: str
    architecture: str
    name: str
    tls_verify: bool
    cert_dir: str
    handover: str


class Handover(TypedDict):
    """`env`: the environment of skopeo, which is no part of the request as it may hold passwords."""

    env: Dict[str, str]


class FetchedImage(TypedDict):
    """image.json: the digests of the manifest and of its config, and how many layers there are in `layers/0`, `layers/1` ..."""

    manifest: str
    config: str
    layers: int


class JoinImageRequest(TypedDict):
    """`join-image`: `layers` are layer directories of `fetch-image`, bottom first, perhaps none; `packer` is the layer directory
    of a base whose program compresses, "" for the result's own; `name` and `version` are the base's."""

    store: str
    name: str
    version: str
    layers: List[str]
    packer: str
