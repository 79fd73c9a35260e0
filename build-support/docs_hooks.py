"""What mkdocs does beyond its own checks: URLs of other sites must be URLs. (mkdocs loads it, see mkdocs.yml.)"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit

# A warning here fails the build, as all of mkdocs' own do.
log = logging.getLogger("mkdocs.plugins.docs_hooks")


def is_url(text: str) -> bool:
    """Whether a link to another site has a host and nothing that a URL cannot have. Nobody is asked."""
    try:
        url = urlsplit(text)
        return bool(url.hostname and "." in url.hostname and not re.search(r"[\s<>\"{}|\\^`]", text) and url.port != 0)
    except ValueError:
        return False


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page."""
    for link in re.findall(r'(?:href|src)="(https?:[^"]*)"', html):
        if not is_url(link):
            log.warning(f"{page.file.src_uri}: {link!r} is no URL")
    return html
