"""A page that needs nothing but itself: its style and its script are in it, and nothing else may run or be fetched."""

from __future__ import annotations

import base64
import hashlib
import pkgutil
from typing import NamedTuple, Sequence

from opam_oci.pages.html_text import text


class Section(NamedTuple):
    """A part of a page: the id of its heading, its title and its contents, both HTML. One without contents is left out."""

    id: str
    title: str
    html: str


def write_document(title: str, header: str, sections: Sequence[Section], style: str, skip: tuple[str, str]) -> str:
    """A page of sections, the same for the same contents. One table with `data-rows` is filtered, sorted and walked through.

    title: text. header: HTML below it. style: CSS before what all pages have. skip: the id where the first link leads, and
    what it says.
    """
    style = style + data_file("opam_oci.pages", "page.css")
    script = data_file("opam_oci.pages", "page.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    shown = [section for section in sections if section.html]
    links = "".join(f'<li><a href="#{section.id}">{section.title}</a></li>' for section in shown)
    parts = "".join(
        f'<section aria-labelledby="{section.id}">\n<h2 id="{section.id}">{section.title}</h2>\n{section.html}</section>\n'
        for section in shown
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#{skip[0]}">{text(skip[1])}</a>\n'
        f"<header>\n<h1>{text(title)}</h1>\n{header}</header>\n"
        f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav>\n<main>\n{parts}</main>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def data_file(package: str, name: str) -> str:
    """The text of a file that stands beside a package's modules."""
    content = pkgutil.get_data(package, name)
    assert content is not None
    return content.decode()


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
