"""The requests of this part."""

from typing import List, TypedDict


class ContentsRequest(TypedDict):
    """`contents`: `layers` is one layer directory."""

    layers: List[str]
