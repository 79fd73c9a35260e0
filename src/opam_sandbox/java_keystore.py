"""Java's keystore of trusted certificates, without the time of each build.

ca-certificates-java makes /etc/ssl/certs/java/cacerts when it is configured and by a trigger, and Java trusts nobody without it.
For each certificate the store says when it was entered; a digest of all, with a password that everybody knows, is at its end.

Source: the format "JKS", as sun.security.provider.JavaKeyStore reads and writes it. Numbers are big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Optional

from opam_sandbox.sandbox import view_files

PATH = "etc/ssl/certs/java/cacerts"

# The number that all such files begin with, the version, the number of entries.
_HEAD = struct.Struct(">III")
_MAGIC, _VERSION = 0xFEEDFEED, 2
_NUMBER = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_DATE = struct.Struct(">q")  # milliseconds since 1970
_TRUSTED = 2  # an entry's tag: a certificate, and no key
_PASSWORD = "changeit"
_SALT = b"Mighty Aphrodite"


def settle(root: Path, seconds: int) -> None:
    """Give all certificates of the keystore below `root` one date, if there is one. Another kind of store stays as it is.

    Raises ToolError where it is no file."""
    content = view_files.read(root, PATH, links=False)
    new = None if content is None else dated(content, seconds)
    if new is not None and new != content:
        view_files.overwrite(root, PATH, new)


def dated(store: bytes, seconds: int) -> Optional[bytes]:
    """The store with this date (since 1970) in all entries.

    None where it is not such a store, is damaged, has another password, or has keys, which somebody has put there."""
    end = len(store) - hashlib.sha1().digest_size
    if end < _HEAD.size or _digest(store[:end]) != store[end:]:
        return None
    magic, version, count = _HEAD.unpack_from(store)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    result = bytearray(store[:end])
    place = _HEAD.size
    try:
        for _ in range(count):
            if _NUMBER.unpack_from(result, place)[0] != _TRUSTED:
                return None
            place = _after(result, place + _NUMBER.size, _LENGTH)  # its name
            _DATE.pack_into(result, place, seconds * 1000)
            place = _after(result, place + _DATE.size, _LENGTH)  # the certificate's type
            place = _after(result, place, _NUMBER)  # the certificate
    except struct.error:
        return None
    return bytes(result) + _digest(bytes(result)) if place == end else None


def _after(data: bytearray, place: int, length: struct.Struct) -> int:
    """Where a text ends that begins with its length. Raises struct.error where nothing is there."""
    return place + length.size + int(length.unpack_from(data, place)[0])


def _digest(content: bytes) -> bytes:
    return hashlib.sha1(_PASSWORD.encode("utf-16-be") + _SALT + content).digest()
