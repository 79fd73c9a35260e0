"""Checks that fields of several targets share."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import InvalidFieldException

ABSOLUTE_PATH = re.compile(r"/[^\0]*\Z")

# OCI distribution-spec: "Pulling manifests".
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


def check_each(
    alias: str, address: Address, values: Optional[Iterable[str]], pattern: re.Pattern[str], example: str
) -> None:
    """Raise InvalidFieldException, with the field, the target and an example, for a value that the pattern does not match."""
    for value in values or ():
        if not pattern.match(value):
            raise InvalidFieldException(
                f"The `{alias}` field in target {address} holds {value!r}; it takes entries such as {example}."
            )
