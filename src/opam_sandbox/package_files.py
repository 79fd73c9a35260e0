"""The metadata of one opam package as it lies in a repository and in a switch: `opam` and `files/`."""

from __future__ import annotations

from typing import List, Tuple

from opam_sandbox.request import OpamPackage


def metadata(package: OpamPackage, directory: str, opam: str) -> List[Tuple[str, bytes]]:
    """(path, content) of the package's metadata below `directory`, with `opam` as the text of its opam file."""
    return [
        (f"{directory}/opam", opam.encode("utf-8", "surrogateescape")),
        *((f"{directory}/files/{path}", content) for path, content in package.files),
    ]
