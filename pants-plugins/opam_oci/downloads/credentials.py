"""Users and passwords in URLs: used where something is fetched, and neither shown nor kept."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Iterable, Mapping
from urllib.parse import unquote

from opam_oci.host.programs import Hidden

# Up to the last `@` of the authority: whoever forgets to encode one in a password shows none of it.
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")

# ssh has users, whom everybody may know, and takes no password out of a URL.
_WITH_USERINFO = re.compile(
    r"(?P<scheme>(?!(?:git\+)?ssh:)[a-z0-9+.-]+://)(?P<userinfo>[^/?#\s]*)@(?P<rest>.*)\Z", re.I | re.S
)


@dataclass(frozen=True)
class Place:
    """A URL in two parts: `url` without user and password, and `userinfo`, `user:password` with `%` escapes, or ""."""

    url: str
    userinfo: Hidden = Hidden("")

    def headers(self) -> Mapping[str, str]:
        """The header that an HTTP server wants; none where there is no user."""
        if not self.userinfo:
            return {}
        token = base64.b64encode(unquote(self.userinfo).encode()).decode()
        return {"Authorization": Hidden(f"Basic {token}")}


def place(url: str) -> Place:
    """A URL without its user and password, but for the user of `ssh://`."""
    match = _WITH_USERINFO.match(url)
    return Place(match["scheme"] + match["rest"], Hidden(match["userinfo"])) if match else Place(url)


def places(urls: Iterable[str]) -> tuple[Place, ...]:
    """`place` of each."""
    return tuple(map(place, urls))


def without_password(text: str) -> str:
    """`text` without the user and password that URLs in it may have."""
    return _USERINFO.sub("", text)


def holds_password(url: str) -> bool:
    """Whether a URL has a password, or a user, which may be a token, where that is not ssh's."""
    return bool(place(url).userinfo) or bool(re.match(r"[^/?#\s]+://[^/?#\s@]*:[^/?#\s]*@", url))


def holds_secret(variable: str) -> bool:
    """Whether the value of a variable such as `https_proxy` has a user or a password."""
    return "@" in variable
