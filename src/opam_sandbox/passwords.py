"""Keeps users and passwords out of what people read."""

from __future__ import annotations

import re
from typing import Iterable, Mapping
from urllib.parse import unquote

# Up to the last `@` of the authority: whoever forgets to encode one in a password shows none of it.
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_WITH_USERINFO = re.compile(r"[^/?#\s]+://[^/?#\s]*@")
# ssh has users, whom everybody may know.
_SSH = re.compile(r"(?:git\+)?ssh://[^/?#\s:@]*@", re.IGNORECASE)
# What is shorter is found in other words too.
_SHORTEST = 4


def without_password(text: str) -> str:
    """`text` without the user and password that URLs in it may have."""
    return _USERINFO.sub("", text)


def holds_password(url: str) -> bool:
    """Whether a URL has a password, or a user, which may be a token, where that is not ssh's."""
    return bool(_WITH_USERINFO.match(url)) and not _SSH.match(url)


def userinfo(value: str) -> str:
    """The `user:password` of a URL, or of a proxy's name without a scheme; "" for none."""
    authority = re.split("[/?#]", value.partition("://")[2] or value)[0]
    return authority.rpartition("@")[0]


def hide(text: str, known: Iterable[str]) -> str:
    """`text` without any password of a URL, and without those of `known`: texts `user:password`, with `%` escapes or not."""
    found = set()
    for one in known:
        password = one.partition(":")[2] or one
        found |= {one, unquote(one), password, unquote(password)}
    for value in sorted(found, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return without_password(text)


def hide_proxies(text: str, env: Mapping[str, str]) -> str:
    """The same, where known are those of an environment's proxies: programs show an address whole that they cannot read."""
    return hide(text, filter(None, (userinfo(value) for name, value in env.items() if name.lower().endswith("_proxy"))))
