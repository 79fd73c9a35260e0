"""Text that packages wrote, made fit to be shown: no escapes of terminals, no characters that a reader does not see."""

from __future__ import annotations

import re

# Colours and cursors (CSI), titles and links (OSC), other strings, and the rest of two characters. None goes past its line:
# one that is not ended would take away all that follows.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]*(?:\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Controls, what turns the direction of text around or has no width, halves of surrogates, what XML does not know.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff0-\ufffb"
    "\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NONCHARACTERS = re.compile(
    "[" + "".join(chr(0x10000 * plane + last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)) + "]"
)
_SPACE = re.compile(r"\s+")
# A character of a log may be a part of an escape: what is kept of its end is cut out of this many times as much.
_SLACK = 4


def clean(text: str) -> str:
    """The text without terminal escapes. A character that cannot be seen becomes U+FFFD. Lines end by "\\n"; of what a line's
    progress display wrote over itself ("\\r") the last is kept."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    if "\r" in text:
        text = "\n".join(_last_written(line) for line in text.split("\n"))
    return _NONCHARACTERS.sub("\ufffd", _UNSEEN.sub("\ufffd", text))


def one_line(text: str, limit: int = 300) -> str:
    """Clean text in one line of at most `limit` characters, with "…" where it was cut."""
    line = _SPACE.sub(" ", clean(text[: limit * _SLACK])).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def end_of(text: str, lines: int, characters: int) -> str:
    """The clean last lines of a log, at most this many lines and characters. What is left out is said in its first line."""
    part = text[-characters * _SLACK :]
    whole = clean(part).rstrip()
    shown = "\n".join(whole.split("\n")[-lines:])
    if len(shown) > characters:
        shown = shown[-characters:].split("\n", 1)[-1]
    if len(part) == len(text) and shown == whole:
        return shown
    return f"[... the last lines of {text.count(chr(10)) + 1}]\n{shown}"


def _last_written(line: str) -> str:
    parts = [part for part in line.split("\r") if part]
    return parts[-1] if parts else ""
