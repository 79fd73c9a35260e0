"""Pieces of HTML. All text of packages goes through here, and is text in every reader."""

from __future__ import annotations

from html import escape
from typing import Iterable, Sequence
from urllib.parse import quote

from opam_oci.health.log_text import clean, one_line
from opam_oci.health.looks import LOOKS
from opam_oci.health.results import Status


def text(value: str, limit: int = 300) -> str:
    """Text in one line, for elements and attributes in quotes."""
    return escape(one_line(value, limit))


def lines(value: str) -> str:
    """The text of a `pre`."""
    # A line break right after <pre> is not shown, so that one more is written.
    return f"<pre>\n{escape(clean(value))}</pre>\n"


def chip(status: Status) -> str:
    """A status as mark and word."""
    look = LOOKS[status]
    return f'<span class="chip s-{status.value}">{look.mark} {look.word}</span>'


def link(href: str, shown: str) -> str:
    """A link within the report. shown: HTML."""
    return f'<a href="{escape(quote(href, safe="#/.=+~-_"))}">{shown}</a>'


def table(head: Sequence[tuple[str, bool]], rows: Iterable[str], attributes: str = "") -> str:
    """A table of rows that are HTML. head: titles, and whether they are of numbers."""
    cells = "".join(f'<th scope="col"{" class=n" if number else ""}>{escape(title)}</th>' for title, number in head)
    return (
        f'<div class="wide"><table class="cards"{attributes}>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody>\n</table></div>\n"
    )


def cell(label: str, html: str, sort: str | None = None, number: bool = False) -> str:
    """A cell; its label is shown where there is no room for columns."""
    key = "" if sort is None else f' data-sort="{escape(sort)}"'
    return f'<td{" class=n" if number else ""} data-label="{escape(label)}"{key}>{html}</td>'


def select(name: str, label: str, values: Iterable[tuple[str, str]]) -> str:
    """A labelled choice; the first one is all."""
    options = "".join(f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in values)
    return f'<label>{escape(label)}<select name="{name}"><option value="">all</option>{options}</select></label>'
