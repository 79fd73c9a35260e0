"""How goals print what they find."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """Text for people, or JSON for programs."""

    text = "text"
    json = "json"
