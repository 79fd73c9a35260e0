"""What a build sees of an opam file: the text without comments, and without the fields that opam only shows to people.

Builds are asked for with this text, so that a change of what they do not see is no change of theirs. A package's whole opam
file is part of an image's state layer. opam itself has the same notion: the part of an opam file that is "effective".

The wall between this backend and the sandbox tool, which has a parser of opam's format, is why there is a small one here. It
only has to find where top-level fields begin. Text that it does not understand is left as it is, which is always right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterable, Iterator

# Fields for people, and all that begin with `x-` but for the one that opam reads.
_UNSEEN = frozenset(
    ("synopsis", "description", "maintainer", "author", "authors", "license", "tags", "homepage", "doc", "bug-reports")
) | {"dev-repo", "depexts", "messages"}
_SEEN_EXTENSIONS = frozenset(("x-env-path-rewrite",))
_SECTIONS = frozenset(("url", "extra-source"))
# Of a source whose content is known by a checksum: where else it may be had.
_ADDRESSES = frozenset(("src", "archive", "http"))
_MIRRORS = frozenset(("mirrors",))

_TOKEN = re.compile(
    r"""(?P<space> \s+ | \#[^\n]* )
      | (?P<comment> \(\* )
      | (?P<string> \"{3} (?: [^"\\] | \\. | "(?!"") )* \"{3} | " (?: [^"\\] | \\. )* " )
      | (?P<open> [\[({] )
      | (?P<close> [\])}] )
      | (?P<word> [^\s"\#\[\](){}]+ )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:(\r?\n[ \t]*)|([0-9]{3})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b"}
_COMMENT = re.compile(r"\(\*|\*\)")
_FIELD = re.compile(r"([a-z][a-z0-9-]*):")
_DOWNLOAD = re.compile(r'"(?:https?|ftp)://[^"\\%]*"')
# opam finds out how an archive is packed by its content; of what is none, the name is the file's.
_ARCHIVE = re.compile(r"\.(?:t(?:ar\.)?(?:gz|bz2|bz|xz|lzma|lz)|tar|zip)$")
# A package that asks where an opam file lies may read it.
_OPAM_FILE = re.compile(r"(?:([A-Za-z0-9_+-]+):)?opamfile\b")


class _NotUnderstood(Exception):
    pass


class OpamTextError(Exception):
    """An opam file that is none."""


@dataclass(frozen=True)
class _Item:
    """A field or section: its tokens' texts, of which the first is or begins with its name."""

    name: str
    tokens: list[str]


def texts_seen_by_builds(opam_files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By package, what its build and those above it are shown. opam_files: (name, text) of all packages of a lockfile."""
    texts = dict(opam_files)
    whole = seen_whole(texts.items())
    return {name: text if name in whole else seen_by_builds(text) for name, text in texts.items()}


def seen_whole(opam_files: Iterable[tuple[str, str]]) -> set[str]:
    """The names of packages whose opam files some build may read. opam_files: (name, text), of several versions too."""
    whole: set[str] = set()
    for name, text in opam_files:
        for asked in _OPAM_FILE.findall(text):
            whole.update({name} if asked in ("", "_") else asked.split("+"))
    return whole


@lru_cache(maxsize=None)
def seen_by_builds(text: str) -> str:
    """The part of an opam file that a build sees, one field a line."""
    try:
        items = list(_items(_tokens(text)))
        lines = [" ".join(_rewritten(item)) for item in items if not _is_unseen(item.name)]
    except _NotUnderstood:
        return text
    return "".join(f"{line}\n" for line in lines)


@lru_cache(maxsize=None)
def strings_of_field(text: str, name: str) -> tuple[str, ...]:
    """The strings of a top-level field that holds one or a list of them; none where there is no such field, or it holds something
    else. Raises OpamTextError for what is no opam file."""
    if name not in text:
        return ()
    try:
        values = [item.tokens for item in _items(_tokens(text)) if item.name == name]
    except _NotUnderstood:
        raise OpamTextError("it is no opam file") from None
    return tuple(_strings(values[-1][1:])) if values else ()


@lru_cache(maxsize=None)
def commands_of_field(text: str, name: str) -> tuple[str, ...]:
    """How the commands of a field such as `run-test` begin: their words up to the first that is a variable. None of what is
    no opam file."""
    if name not in text:
        return ()
    found: list[str] = []
    try:
        values = [item.tokens for item in _items(_tokens(text)) if item.name == name]
    except _NotUnderstood:
        return ()
    for tokens in values[-1:]:
        words: list[str] = []
        depth, whole = 0, True
        for token in tokens[1:]:
            depth += (token == "{") - (token == "}")
            if depth or token in ("}", ":"):
                continue
            if token in ("[", "]"):
                found += [" ".join(words)] if words else []
                words, whole = [], True
            elif token.startswith('"') and whole:
                words += _strings([token])
            else:
                whole = False
        found += [" ".join(words)] if words else []
    return tuple(found)


@lru_cache(maxsize=None)
def has_tests(text: str) -> bool:
    """Whether an opam file has commands that are for tests alone: `run-test`, or some with `with-test` in a filter."""
    try:
        items = list(_items(_tokens(text)))
    except _NotUnderstood:
        return True  # opam will say what it is
    commands = {item.name: item.tokens for item in items if item.name in ("run-test", "build-test", "build", "install")}
    if any(len(commands.get(name, ())) > 3 for name in ("run-test", "build-test")):
        return True
    return any("with-test" in token for name in ("build", "install") for token in commands.get(name, ()))


def _strings(tokens: list[str]) -> list[str]:
    """Those outside of filters (`{...}`)."""
    found = []
    depth = 0
    for token in tokens:
        depth += (token == "{") - (token == "}")
        if token.startswith('"'):
            if not depth:
                quotes = 3 if token.startswith('"""') and len(token) > 5 else 1
                found.append(_unescaped(token[quotes:-quotes]))
        elif not depth and token not in ("[", "]", "(", ")", "}", ":"):
            return []  # opam takes no name, number or condition for a string
    return found


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(_of_escape, text)
    # Several bytes may be one character.
    return plain.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _of_escape(match: re.Match[str]) -> str:
    newline, decimal, hexadecimal, character = match.groups()
    if newline is not None:
        return ""
    if decimal is None and hexadecimal is None:
        return _NAMED.get(character, character)
    byte = int(decimal) if decimal is not None else int(hexadecimal, 16)
    return bytes([byte]).decode("utf-8", "surrogateescape") if byte < 0x100 else "\ufffd"


def _is_unseen(name: str) -> bool:
    return name in _UNSEEN or (name.startswith("x-") and name not in _SEEN_EXTENSIONS)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of what is neither blank nor comment."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _NotUnderstood
        kind, at = str(match.lastgroup), match.end()
        if kind == "comment":
            at = _comment_end(text, match.start())
        elif kind != "space":
            yield kind, match.group()


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT.finditer(text, start):
        depth += 1 if mark.group() == "(*" else -1
        if depth == 0:
            return mark.end()
    raise _NotUnderstood


def _items(tokens: Iterable[tuple[str, str]]) -> Iterator[_Item]:
    """The fields and sections of a level, each with all that lies in it."""
    item: _Item | None = None
    depth = 0
    found = list(tokens)
    for place, (kind, text) in enumerate(found):
        if kind == "word" and depth == 0:
            name = _name(text, found[place + 1][1] if place + 1 < len(found) else "")
            if name is not None:
                if item is not None:
                    yield item
                item = _Item(name, [])
        if item is None:
            raise _NotUnderstood
        item.tokens.append(text)
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            raise _NotUnderstood
    if depth:
        raise _NotUnderstood
    if item is not None:
        yield item


def _name(word: str, following: str) -> str | None:
    """Of the field or section that begins here."""
    if word in _SECTIONS:
        return word
    field = _FIELD.fullmatch(f"{word}:" if following == ":" else word)
    return field[1] if field else None


def _rewritten(item: _Item) -> list[str]:
    """The tokens; of a source with a checksum without where it can be had."""
    tokens = item.tokens
    if item.name not in _SECTIONS or "{" not in tokens or tokens[-1] != "}":
        return tokens
    start = tokens.index("{") + 1
    fields = list(_items(_tokens(" ".join(tokens[start:-1]))))
    if not any(field.name == "checksum" for field in fields):
        return tokens
    written = tokens[:start]
    for field in fields:
        if field.name in _MIRRORS:
            continue
        written += [_anywhere(token) for token in field.tokens] if field.name in _ADDRESSES else field.tokens
    return [*written, "}"]


def _anywhere(token: str) -> str:
    if not _DOWNLOAD.fullmatch(token):
        return token
    name = token[1:-1].rpartition("/")[2]
    archive = _ARCHIVE.search(name)
    return f'"https://localhost/{f"source{archive.group()}" if archive else name}"'
