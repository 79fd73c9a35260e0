"""Reads opam files: a parser for opam's file format (opam manual, "Common file format").

A file is a list of items at top level, fields `name: value` and sections `name "label" { items }`. Each item keeps its
span in the text, so that a file can be written again without some of its fields and otherwise unchanged.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Iterable, Iterator, List, Optional, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.opam.tokens import Token, tokens_of


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


# How deeply values, filters and sections may lie in one another. Those who walk through a file go as deep. (Chains of `|` or
# `&` are not meant: they are as long as they like.)
DEEPEST = 100


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._tokens = tokens_of(text, source)
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
