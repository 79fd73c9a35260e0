"""Text of packages and images in Markdown, as GitHub and GitLab show it."""

from __future__ import annotations

import re

from opam_oci.pages.plain_text import one_line

_MARKUP = re.compile(r"[^A-Za-z0-9 ,;/\u0080-\U0010ffff-]|(?<=www)\.")


def code(text: str, limit: int = 200) -> str:
    """Any text in one line, as code: nobody is mentioned in it, nothing is a link, and no character means anything."""
    shown = _MARKUP.sub(lambda match: f"&#{ord(match.group())};", one_line(text, limit))
    return f"<code>{shown}</code>" if shown else ""
