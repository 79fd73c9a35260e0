"""How long to wait before what failed is tried again."""

from __future__ import annotations

from typing import Iterator

_FIRST, _LONGEST = 1.0, 30.0


def pauses() -> Iterator[float]:
    """Seconds before the second, third ... try, without end: each twice the last one, up to half a minute."""
    seconds = _FIRST
    while True:
        yield seconds
        seconds = min(2 * seconds, _LONGEST)
