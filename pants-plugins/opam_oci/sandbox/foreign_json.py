"""JSON and digests of files that another process, or another machine, wrote: looked at before they are used.

`opam_sandbox.strict_json` and `opam_sandbox.digests` are the same for the tool, which has no part in Pants' own process.
"""

from __future__ import annotations

import json
import re
from typing import Any, Type

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Python takes long for numbers of many digits.
_MOST_DIGITS = 30


def parse_object(content: bytes, where: str, error: Type[Exception]) -> dict[str, Any]:
    """The JSON object that `content` is. Raises `error`, whose text begins with `where`, for anything else, a key that stands
    twice in an object, and what JSON does not know (NaN)."""
    try:
        data = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer
        )
    except (ValueError, RecursionError) as e:
        raise error(f"{where} is no JSON file: {e}") from None
    if not isinstance(data, dict):
        raise error(f"{where} should hold a JSON object.")
    return data


def checked_digest(value: object, where: str, error: Type[Exception]) -> str:
    """The value if it is "sha256:" and 64 hex digits. Raises `error` otherwise; `where` names file and field."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise error(f"{where}: {value!r:.100} is not a sha256 digest.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r:.80} stands twice in an object")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
