"""The pages that packages do not bring themselves, in odoc's language: of all packages, of a package, of a library."""

from __future__ import annotations

import html
import re
from typing import Iterable, Mapping, Sequence

from opam_sandbox.documenting.requests import DocumentedPackage

_SPECIAL = re.compile(r"([\[\]{}@\\])")


def plain(text: str) -> str:
    """Text in odoc's language."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def raw(text: str) -> str:
    """HTML in odoc's language: what ends it there is written in another way. In a style no such thing stands."""
    return "{%html:" + text.replace("%}", "&#37;}") + "%}"


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()))


def first_page(title: str, packages: Iterable[DocumentedPackage], style: str, scripts: Sequence[str]) -> str:
    """All packages, and a field to search in. scripts: names of files beside the page. style: CSS."""
    rows = "".join(
        f'<tr><td><a href="{_cell(one["name"])}/index.html">{_cell(one["name"])}</a></td><td>{_cell(one["version"])}</td>'
        f"<td>{_cell(one['synopsis'])}</td></tr>"
        for one in packages
    )
    loaded = "".join(f'<script defer="defer" src="{name}"></script>' for name in scripts)
    search = (
        '<div role="search"><label for="search">Search modules, values, types and pages:</label>'
        '<input id="search" type="search" autocomplete="off" spellcheck="false"/></div>'
        '<p id="found" role="status"></p><ol id="results"></ol>'
    )
    table = (
        '<table id="packages"><thead><tr><th scope="col">Package</th><th scope="col">Version</th>'
        f'<th scope="col">Synopsis</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    return f"{{0 {plain(title)}}}\n\n" + raw(f"<style>{style}</style>{search}{table}{loaded}") + "\n"


def package_page(package: DocumentedPackage, libraries: Mapping[str, Sequence[str]]) -> str:
    """A package that wrote no page itself. libraries: name -> its modules."""
    text = f"{{0 {plain(package['name'])} {plain(package['version'])}}}\n\n{plain(package['synopsis'])}\n"
    for library in libraries:
        link = f'<a href="{_cell(library)}/index.html">{_cell(library)}</a>'
        listed = " ".join(
            f'<a href="{_cell(library)}/{_cell(name)}/index.html"><code>{_cell(name)}</code></a>'
            for name in libraries[library]
        )
        text += "\n" + raw(f"<p>Library {link}: {listed}</p>") + "\n"
    if not libraries:
        text += "\nThis package has no modules.\n"
    return text


def library_page(library: str, names: Sequence[str]) -> str:
    """A library and its modules."""
    listed = f"{{!modules: {' '.join(names)}}}" if names else "All modules of this library are parts of others."
    return f"{{0 Library {plain(library)}}}\n\n{listed}\n"
