"""Reads opam files: a lexer and a parser for opam's file format (opam manual, "Common file format").

A file is a list of items at top level, fields `name: value` and sections `name "label" { items }`. Each item keeps its
span in the text, so that a file can be written again without some of its fields and otherwise unchanged.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Iterable, Iterator, List, Optional, Tuple, Union

from opam_sandbox.errors import ToolError


@dataclass(frozen=True)
class Token:
    """kind: "string", "ident", "int", "op" or "end"; `text` unescaped for strings; `start`/`end`: offsets in the file."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Str:
    """A string, unescaped."""

    value: str


@dataclass(frozen=True)
class Ident:
    """An identifier, such as `true` or `lwt:installed`."""

    name: str


@dataclass(frozen=True)
class Int:
    """An integer."""

    value: int


@dataclass(frozen=True)
class ListOf:
    """`[ item ... ]`"""

    items: Tuple["Value", ...]


@dataclass(frozen=True)
class Group:
    """`( item ... )`"""

    items: Tuple["Value", ...]


@dataclass(frozen=True)
class Option_:
    """`value { filter ... }`"""

    value: "Value"
    filters: Tuple["Value", ...]


@dataclass(frozen=True)
class Prefix:
    """`op value`: `!`, `?`, or a comparison without a left side (`>= "1.0"` in a version constraint)."""

    op: str
    value: "Value"


@dataclass(frozen=True)
class Binary:
    """`left op right`"""

    op: str
    left: "Value"
    right: "Value"


Value = Union[Str, Ident, Int, ListOf, Group, Option_, Prefix, Binary]


@dataclass(frozen=True)
class Item:
    """A field (`value` is set) or a section (`items` is set). `start`/`end`: its span in the text."""

    name: str
    start: int
    end: int
    value: Optional[Value] = None
    label: str = ""
    items: "Tuple[Item, ...]" = field(default=())


_SPACE = re.compile(r"\s+|#[^\n]*")
_COMMENT = re.compile(r"\(\*|\*\)")
_IDENT = re.compile(r"(?:[A-Za-z_]|[0-9]+(?=[A-Za-z_]))[A-Za-z0-9_+-]*(?::[A-Za-z_][A-Za-z0-9_+-]*)?")
_INT = re.compile(r"-?[0-9]+")
_OPERATOR = re.compile(r"!=|<=|>=|\+=|=\+|:=|=:|=\+=|&|\||=|<|>|~|!|\?|\[|\]|\(|\)|\{|\}|:|,")
# What ends a string, and the escapes in which it does not.
_ENDS = {quotes: re.compile(rf"\\.|{quotes}", re.DOTALL) for quotes in ('"""', '"')}
_ESCAPE = re.compile(r"\\(?:(\r?\n[ \t]*)|([0-9]{3})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b"}


def _unescape(text: str) -> str:
    def one(match: "re.Match[str]") -> str:
        newline, decimal, hexadecimal, char = match.groups()
        if newline is not None:
            return ""
        if decimal is not None:
            return chr(int(decimal))
        if hexadecimal is not None:
            return chr(int(hexadecimal, 16))
        return _NAMED.get(char, char)

    return _ESCAPE.sub(one, text)


def _tokens(text: str, source: str) -> List[Token]:
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


# How deeply values, filters and sections may lie in one another. Those who walk through a file go as deep. (Chains of `|` or
# `&` are not meant: they are as long as they like.)
DEEPEST = 100


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._tokens = _tokens(text, source)
        self._at = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _fail(self, expected: str) -> ToolError:
        token = self._token
        line = self._text.count("\n", 0, token.start) + 1
        found = f"{token.text!r:.80}" if token.kind != "end" else "the end of the file"
        return ToolError(f"{self._source}: line {line}: expected {expected}, found {found}")

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > DEEPEST:
            line = self._text.count("\n", 0, self._token.start) + 1
            raise ToolError(f"{self._source}: line {line}: it is nested more than {DEEPEST} deep")
        yield
        self._depth -= 1

    def _is(self, op: str) -> bool:
        return self._token.kind == "op" and self._token.text == op

    def _take(self, op: str) -> Token:
        if not self._is(op):
            raise self._fail(repr(op))
        return self._next()

    def items(self, closing: str = "") -> Tuple[Item, ...]:
        items: List[Item] = []
        while self._token.kind != "end" and not (closing and self._is(closing)):
            items.append(self._item())
        if closing and self._token.kind == "end":
            raise self._fail(repr(closing))
        return tuple(items)

    def _item(self) -> Item:
        if self._token.kind != "ident":
            raise self._fail("a field's name")
        name = self._next()
        if self._is(":"):
            self._next()
            value = self._value()
            return Item(name.text, name.start, self._tokens[self._at - 1].end, value=value)
        label = self._next().text if self._token.kind == "string" else ""
        self._take("{")
        with self._deeper():
            items = self.items("}")
        end = self._take("}").end
        return Item(name.text, name.start, end, label=label, items=items)

    # Precedence, loosest first: `|`, `&`, relations, prefix operators, `{...}`.
    def _value(self) -> Value:
        left = self._conjunction()
        while self._is("|"):
            self._next()
            left = Binary("|", left, self._conjunction())
        return left

    def _conjunction(self) -> Value:
        left = self._relation()
        while self._is("&"):
            self._next()
            left = Binary("&", left, self._relation())
        return left

    _RELATIONS = ("=", "!=", "<", "<=", ">", ">=", "~", "+=", "=+", ":=", "=:", "=+=")

    def _relation(self) -> Value:
        left = self._prefix()
        if self._token.kind == "op" and self._token.text in self._RELATIONS:
            op = self._next().text
            return Binary(op, left, self._prefix())
        return left

    def _prefix(self) -> Value:
        if self._token.kind == "op" and self._token.text in ("!", "?", *self._RELATIONS):
            op = self._next().text
            with self._deeper():
                return Prefix(op, self._prefix())
        value = self._atom()
        with ExitStack() as options:
            while self._is("{"):
                options.enter_context(self._deeper())
                self._next()
                filters = self._many("}")
                value = Option_(value, filters)
        return value

    def _many(self, closing: str) -> Tuple[Value, ...]:
        values: List[Value] = []
        with self._deeper():
            while not self._is(closing):
                if self._token.kind == "end":
                    raise self._fail(repr(closing))
                values.append(self._value())
        self._next()
        return tuple(values)

    def _atom(self) -> Value:
        token = self._token
        if token.kind == "string":
            return Str(self._next().text)
        if token.kind == "ident":
            return Ident(self._next().text)
        if token.kind == "int":
            try:
                value = int(token.text)
            except ValueError:  # newer Pythons convert no more than some thousands of digits
                raise self._fail("a smaller number") from None
            self._next()
            return Int(value)
        if self._is("["):
            self._next()
            return ListOf(self._many("]"))
        if self._is("("):
            self._next()
            return Group(self._many(")"))
        raise self._fail("a value")


def parse(text: str, source: str) -> Tuple[Item, ...]:
    """The items of an opam file. `source` names it in errors. Raises ToolError with the line of the first mistake."""
    parser = _Parser(text, source)
    try:
        return parser.items()
    except RecursionError:
        raise ToolError(f"{source}: it is nested too deeply") from None


def without(text: str, items: Iterable[Item], names: Iterable[str]) -> str:
    """The text of an opam file without the top-level fields and sections of these names."""
    drop = set(names)
    pieces: List[str] = []
    at = 0
    for item in items:
        if item.name in drop:
            pieces.append(text[at : item.start])
            at = item.end
    pieces.append(text[at:])
    return "".join(pieces)


def quote(text: str) -> str:
    """A string literal of opam's format."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
