"""Digests, `sha256:<64 hex digits>`, as other people's files have them: looked at before they become paths.

Every path with a digest in it is made of what `hex_of` gives: 64 letters and digits, which lead nowhere else.
"""

from __future__ import annotations

import re

from opam_sandbox.errors import ToolError

_HEX = re.compile(r"[0-9a-f]{64}")
_PREFIX = "sha256:"


def is_hex(text: object) -> bool:
    """Whether a value is the hex digits of a sha256, in lower case."""
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def is_digest(value: object) -> bool:
    """Whether a value, such as one read from JSON, is a digest."""
    return isinstance(value, str) and value.startswith(_PREFIX) and is_hex(value[len(_PREFIX) :])


def checked(value: object, where: str) -> str:
    """The value if it is a digest. Raises ToolError otherwise; `where` names file and field in the message."""
    if not isinstance(value, str) or not is_digest(value):
        raise ToolError(f"{where}: {value!r:.100} is not a sha256 digest")
    return value


def hex_of(digest: str, where: str = "a digest") -> str:
    """The hex digits of a digest. Raises ToolError for anything else."""
    return checked(digest, where)[len(_PREFIX) :]
