"""What a package's directory in a repository means to opam: the file `opam`, the files `url` and `descr` that old repositories
have beside it, and the directory `files`.

opam passes over what it cannot use, with a line on the terminal at most, and builds without it. Here it is an error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from opam_sandbox.debian_versions import compare_versions
from opam_sandbox.errors import ToolError
from opam_sandbox.opam import opamfile
from opam_sandbox.opam.formulas import strings
from opam_sandbox.opam.opamfile import Item, ListOf, Str, Value
from opam_sandbox.opam.strings import quote

# The fields of a file `url`: each with the name that it has in the section `url`. ("archive" and "http" are of opam 1.)
_URL_FIELDS = {
    "src": "src",
    "archive": "src",
    "http": "src",
    "mirrors": "mirrors",
    "checksum": "checksum",
    "subpath": "subpath",
    "swhid": "swhid",
}
# opam reads these as they stand. Of a later format it makes a package without content, and says no word when it installs that.
_FORMATS = ("1", "1.0", "1.1", "1.2", "2.0")
# From here on a build gets no file of `files` that `extra-files` does not name.
_LISTED_FILES_ONLY = "2.3~"
CHECKSUMS = ("md5", "sha256", "sha512")

File = Tuple[str, bytes, bool]


@dataclass(frozen=True)
class PackageFiles:
    """The bytes of a package's files as a repository has them; `files`: (path in `files`, content, executable)."""

    opam: bytes
    url: Optional[bytes]
    descr: Optional[bytes]
    files: Sequence[File]


def opam_text(found: PackageFiles, title: str) -> Tuple[str, List[str]]:
    """The text of the opam file with what `url` and `descr` add to it, and notes for the user.

    Bytes that are not UTF-8 are surrogates. Raises ToolError for a file that opam would pass over.
    """
    text = found.opam.decode("utf-8", "surrogateescape")
    items = opamfile.parse(text, f"{title}: opam file")
    _check_format(items, title)
    names = {item.name for item in items}
    notes: List[str] = []
    added = ""
    if found.url is not None:
        if "url" in names:
            notes.append(
                f"{title}: its file `url` is passed over, as opam does, since its opam file has a url section."
            )
        else:
            added += _url_section(found.url.decode("utf-8", "surrogateescape"), title)
    if found.descr is not None and not names.intersection(("synopsis", "description")):
        added = _description(found.descr.decode("utf-8", "surrogateescape")) + added
    return (f"{text.rstrip()}\n{added}" if added else text), notes


def _check_format(items: Iterable[Item], title: str) -> None:
    for item in items:
        if item.name == "opam-version" and isinstance(item.value, Str) and item.value.value not in _FORMATS:
            raise ToolError(
                f"{title}: its opam file is of the format {item.value.value!r:.80}, of which opam would make a package without "
                'content: write opam-version: "2.0" (opam 2.1 and newer have no other format)'
            )


def _url_section(text: str, title: str) -> str:
    fields: List[str] = []
    for item in opamfile.parse(text, f"{title}: file url"):
        if item.name not in _URL_FIELDS or item.value is None:
            raise ToolError(
                f"{title}: its file `url` has {item.name!r:.80}, which is not locked: give it `src` with an archive, and "
                "`checksum`, or write a url section into the opam file"
            )
        values = strings(item.value)
        if item.name == "checksum":
            values = [value if "=" in value else f"md5={value}" for value in values]
        written = " ".join(map(quote, values))
        fields.append(f"  {_URL_FIELDS[item.name]}: {written if len(values) == 1 else f'[{written}]'}\n")
    return f"url {{\n{''.join(fields)}}}\n"


def _description(text: str) -> str:
    first, _, rest = text.partition("\n")
    more = f"description: {quote(rest.strip())}\n" if rest.strip() else ""
    return f"synopsis: {quote(first.strip())}\n{more}"


def check_extra_files(
    items: Iterable[Item], files: Sequence[File], title: str, variables: Mapping[str, object]
) -> List[str]:
    """Compare `files` with what the opam file's `extra-files` says of them. Returns notes for the user.

    Raises ToolError for a file that is missing, or that has another checksum.
    """
    listed = [pair for item in items if item.name == "extra-files" for pair in _pairs(item.value)]
    contents = {path: content for path, content, _ in files}
    for name, checksum in listed:
        if name not in contents:
            raise ToolError(
                f"{title}: its opam file has {name!r:.200} in `extra-files`, but there is no file files/{name}"
            )
        kind, _, value = checksum.rpartition("=")
        kind = kind or "md5"
        if kind not in CHECKSUMS:
            raise ToolError(f"{title}: `extra-files` has {checksum!r:.200} for {name}, which is no checksum of opam's")
        have = hashlib.new(kind, contents[name]).hexdigest()
        if have != value.lower():
            raise ToolError(
                f"{title}: files/{name} has the {kind} {have}, but `extra-files` of its opam file says {value}: one of the two "
                "was changed without the other"
            )
    unused = sorted(set(contents).difference(name for name, _ in listed))
    if unused and compare_versions(str(variables.get("opam-version", "2.3")), _LISTED_FILES_ONLY) >= 0:
        shown = ", ".join(f"files/{name}" for name in unused[:5]) + (" and others" if len(unused) > 5 else "")
        return [f"{title}: {shown}: not in `extra-files` of its opam file, so that opam does not give it to the build."]
    return []


def _pairs(value: Optional[Value]) -> List[Tuple[str, str]]:
    """`[name checksum]`, or a list of those."""
    if not isinstance(value, ListOf):
        return []
    if len(value.items) == 2 and all(isinstance(item, Str) for item in value.items):
        name, checksum = strings(value)
        return [(name, checksum)]
    return [pair for item in value.items for pair in _pairs(item)]
