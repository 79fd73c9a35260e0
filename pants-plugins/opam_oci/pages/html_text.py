"""Pieces of HTML. All text of packages and images goes through here, and is text in every reader."""

from __future__ import annotations

from html import escape
from typing import Iterable, Sequence
from urllib.parse import quote

from opam_oci.pages.plain_text import clean, one_line


def text(value: str, limit: int = 300) -> str:
    """Text in one line, for elements and attributes in quotes."""
    return escape(one_line(value, limit))


def lines(value: str) -> str:
    """The text of a `pre`."""
    # A line break right after <pre> is not shown, so that one more is written.
    return f"<pre>\n{escape(clean(value))}</pre>\n"


def link(href: str, shown: str) -> str:
    """A link within the page, or to a file beside it. shown: HTML."""
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


def figure(svg: str, label: str) -> str:
    """A drawing that is wider than the page can be scrolled, by keyboard too."""
    return f'<div class="figure" tabindex="0" role="region" aria-label="{label}">{svg}</div>\n' if svg else ""


def filters(parts: Iterable[str]) -> str:
    """The form that filters the page's table. Hidden until the script shows it: without one it does nothing. parts: selects."""
    return (
        '<form id="filters" hidden><label>Text<input type="search" name="text" autocomplete="off"></label>'
        + "".join(parts)
        + '<button type="reset">Show all</button><output id="shown" class="soft" aria-live="polite"></output></form>\n'
    )
