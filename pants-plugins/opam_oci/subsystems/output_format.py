"""How goals print what they find."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """Text for people, or JSON for programs."""

    text = "text"
    json = "json"


# The help of the option `format` of goals that compare images.
COMPARED_FORMAT_HELP = "What is printed: `text`, which lists at most 50 files of a layer, or `json`, which has all."
