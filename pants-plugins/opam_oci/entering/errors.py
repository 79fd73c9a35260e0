"""The error of this room."""

from __future__ import annotations


class EnteringError(Exception):
    """A command cannot be run over packages; the message says why."""
