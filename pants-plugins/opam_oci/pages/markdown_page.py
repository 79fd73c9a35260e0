"""Markdown of a bounded size, for a merge request, as GitHub and GitLab show it."""

from __future__ import annotations

from html import escape
from typing import Iterable, Sequence

from opam_oci.pages.markdown_text import code
from opam_oci.pages.plain_text import end_of

# GitHub takes 65,536 characters. Counted are bytes, of which there are never fewer, and some are left for whoever adds a line.
LIMIT = 65_000
# Kept for what says that something is left out, of each section.
_ROOM = 400
_SHOWN = 12
_LOG_LINES, _LOG_CHARACTERS = 30, 3_000


class Page:
    """Markdown of a bounded size. What does not fit any more is counted. whole: Markdown that says where all of it is."""

    def __init__(self, head: str, whole: str) -> None:
        self._parts = [head]
        self._room = LIMIT - len(head.encode()) - _ROOM
        self._left_out = 0
        self._whole = whole

    def add(self, text: str) -> bool:
        """Whether it had room."""
        size = len(text.encode())
        if size > self._room:
            # Nothing that comes later is more important.
            self._room = 0
            self._left_out += 1
            return False
        self._parts.append(text)
        self._room -= size
        return True

    def table(self, head: str, rows: Iterable[str], title: str = "") -> None:
        """head, rows: cells with "|" between them."""
        columns = head.count("|") + 1
        begin = f"| {head} |\n|{' --- |' * columns}\n"
        self._list(title, [f"| {row} |\n" for row in rows], begin)

    def section(self, title: str, items: Sequence[str]) -> None:
        """A list with a title; nothing where it is empty."""
        self._list(title, [f"- {item}\n" for item in items], "")

    def log(self, name: str, log: str) -> None:
        """The end of a log, folded; nothing where there is none."""
        end = end_of(log, _LOG_LINES, _LOG_CHARACTERS)
        if end:
            title = f"End of the log of {code(name)}"
            self.add(f"<details><summary>{title}</summary>\n\n<pre>\n{escape(end)}\n</pre>\n\n</details>\n\n")

    def _list(self, title: str, rows: Sequence[str], begin: str) -> None:
        """The first rows, and the others folded."""
        if not rows:
            return
        head = f"### {title} ({len(rows)})\n\n{begin}" if title else begin
        if not self.add(head):
            self._left_out += len(rows) - 1
            return
        shown = rows if len(rows) <= _SHOWN + 3 else rows[:_SHOWN]
        self._rows(shown)
        rest = rows[len(shown) :]
        if rest:
            # With room for what ends it.
            end = "\n</details>\n"
            self._room -= len(end)
            if self.add(f"\n<details><summary>{len(rest)} more</summary>\n\n{begin}"):
                self._rows(rest)
                self._parts.append(end)
        self._parts.append("\n")

    def _rows(self, rows: Sequence[str]) -> None:
        for number, row in enumerate(rows):
            if not self.add(row):
                self._left_out += len(rows) - number - 1
                return

    def text(self) -> str:
        """The whole page, at most LIMIT bytes."""
        note = f"{self._left_out} more rows and logs had no room here: see {self._whole}.\n" if self._left_out else ""
        text = "".join(self._parts) + note
        assert len(text.encode()) <= LIMIT
        return text
