"""An opam package of a lockfile: as requests have it, and its metadata as it lies in a repository and in a switch."""

import base64
import binascii
from typing import List, NamedTuple, Tuple, TypedDict

from opam_sandbox.errors import RequestError
from opam_sandbox.request import safe_name, safe_path


class _PackageFile(TypedDict):
    path: str
    content: str


class PackageFile(_PackageFile, total=False):
    """A file of a package's directory `files`: its path in there, and its content in base64."""

    executable: bool


class PackageFields(TypedDict):
    """A package: `opam` is the text of its opam file."""

    name: str
    version: str
    opam: str
    files: List[PackageFile]


class OpamPackage(NamedTuple):
    """`opam`: the text of the opam file; `files`: (path, content, mode) of what its directory `files` holds."""

    name: str
    version: str
    opam: str
    files: Tuple[Tuple[str, bytes, int], ...]

    @property
    def title(self) -> str:
        """`name.version`, as opam writes it."""
        return f"{self.name}.{self.version}"


def read_package(fields: PackageFields) -> OpamPackage:
    """The package of a request. Raises RequestError for names that would lead elsewhere, and for what is not base64."""
    files: List[Tuple[str, bytes, int]] = []
    for item in fields["files"]:
        try:
            content = base64.b64decode(item["content"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"files: {item['path']}: {error}") from None
        files.append((safe_path(item["path"]), content, 0o755 if item.get("executable", False) else 0o644))
    return OpamPackage(safe_name(fields["name"]), safe_name(fields["version"]), fields["opam"], tuple(files))


def metadata(package: OpamPackage, directory: str, opam: str) -> List[Tuple[str, bytes, int]]:
    """(path, content, mode) of the package's metadata below `directory`, with `opam` as the text of its opam file."""
    return [
        (f"{directory}/opam", opam.encode("utf-8", "surrogateescape"), 0o644),
        *((f"{directory}/files/{path}", content, mode) for path, content, mode in package.files),
    ]
