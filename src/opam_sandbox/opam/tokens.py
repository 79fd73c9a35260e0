"""The words of opam files: strings, names, numbers and signs; blanks and comments left out (opam manual, "Common file format").

Time and memory grow with the text, whatever is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional

from opam_sandbox.errors import ToolError


@dataclass(frozen=True)
class Token:
    """kind: "string", "ident", "int", "op" or "end"; `text` unescaped for strings; `start`/`end`: offsets in the file."""

    kind: str
    text: str
    start: int
    end: int


_SPACE = re.compile(r"\s+|#[^\n]*")
_COMMENT = re.compile(r"\(\*|\*\)")
_IDENT = re.compile(r"(?:[A-Za-z_]|[0-9]+(?=[A-Za-z_]))[A-Za-z0-9_+-]*(?::[A-Za-z_][A-Za-z0-9_+-]*)?")
_INT = re.compile(r"-?[0-9]+")
_OPERATOR = re.compile(r"!=|<=|>=|\+=|=\+|:=|=:|=\+=|&|\||=|<|>|~|!|\?|\[|\]|\(|\)|\{|\}|:|,")
# What ends a string, and the escapes in which it does not.
_ENDS = {quotes: re.compile(rf"\\.|{quotes}", re.DOTALL) for quotes in ('"""', '"')}
_ESCAPE = re.compile(r"\\(?:(\r?\n[ \t]*)|([0-9]{3})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_STRAY = re.compile("[\udc80-\udcff]")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b"}


def _unescape(text: str) -> str:
    def one(match: "re.Match[str]") -> str:
        newline, decimal, hexadecimal, char = match.groups()
        if newline is not None:
            return ""
        if decimal is not None:
            return _byte(int(decimal))
        if hexadecimal is not None:
            return _byte(int(hexadecimal, 16))
        return _NAMED.get(char, char)

    plain = _ESCAPE.sub(one, text)
    if not _STRAY.search(plain):
        return plain
    # Several of them may be one character.
    return plain.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _byte(value: int) -> str:
    """A byte of a string's, which is a character only with its neighbours. (OCaml's lexer takes no number above 255.)"""
    return (
        chr(value) if value < 0x80 else bytes([value]).decode("utf-8", "surrogateescape") if value < 0x100 else "\ufffd"
    )


def tokens_of(text: str, source: str) -> List[Token]:
    """The tokens of a file, with one of the kind "end" at its end. Raises ToolError with the line of what is none."""
    tokens: List[Token] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        if space:
            at = space.end()
            continue
        if text.startswith("(*", at):
            at = _comment_end(text, at, source)
            continue
        if at >= len(text):
            tokens.append(Token("end", "", at, at))
            return tokens
        string = _string(text, at)
        if string:
            tokens.append(string)
            at = string.end
            continue
        for kind, pattern in (("ident", _IDENT), ("int", _INT), ("op", _OPERATOR)):
            match = pattern.match(text, at)
            if match:
                tokens.append(Token(kind, match.group(), at, match.end()))
                at = match.end()
                break
        else:
            raise ToolError(f"{source}: line {text.count(chr(10), 0, at) + 1}: unexpected {text[at]!r}")


def _string(text: str, at: int) -> Optional[Token]:
    """The string that begins here; None if none does, or if it has no end."""
    for quotes, ends in _ENDS.items():
        if text.startswith(quotes, at):
            for mark in ends.finditer(text, at + len(quotes)):
                if mark.group() == quotes:
                    return Token("string", _unescape(text[at + len(quotes) : mark.start()]), at, mark.end())
    return None


def _comment_end(text: str, start: int, source: str) -> int:
    """Where the comment at `start` ends; comments nest."""
    depth = 0
    for mark in _COMMENT.finditer(text, start):
        depth += 1 if mark.group() == "(*" else -1
        if depth == 0:
            return mark.end()
    raise ToolError(f"{source}: line {text.count(chr(10), 0, start) + 1}: the comment does not end")
