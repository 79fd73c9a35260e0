"""The request of this part. Paths are relative to the current directory; `layers` are layer directories, bottom first."""

from typing import List, TypedDict


class OpamFile(TypedDict):
    """An opam file: `file` here, `path` where opam is to say that it is, `sha256` in hex."""

    path: str
    file: str
    sha256: str


class LintRequest(TypedDict):
    """`lint`: the layers are the base and opam's root. arguments: of `opam lint`, before the files."""

    store: str
    layers: List[str]
    files: List[OpamFile]
    arguments: List[str]
