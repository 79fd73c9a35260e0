"""A status as a piece of HTML."""

from __future__ import annotations

from opam_oci.health.looks import LOOKS
from opam_oci.health.results import Status


def chip(status: Status) -> str:
    """A status as mark and word."""
    look = LOOKS[status]
    return f'<span class="chip s-{status.value}">{look.mark} {look.word}</span>'
