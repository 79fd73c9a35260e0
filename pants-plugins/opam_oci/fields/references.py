"""References to variables in the values of variables, as a Dockerfile's `ENV` has them between double quotes.

`$NAME` and `${NAME}` are the variable's value, `${NAME:-word}` is `word` where it is unset or empty, `${NAME:+word}` is `word`
where it is not; without the colon, only unset counts. `word` may hold references. `\\$` is a dollar, `\\\\` a backslash; any
other backslash, and a dollar that no name follows, stands for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Tuple, Union

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# After a dollar, a shell and a Dockerfile read these as names of their own; here nothing has them.
_SPECIAL = "0123456789@*#?-$!"
_OPERATORS = (":-", ":+", "-", "+")


class BadReference(ValueError):
    """A value holds what is no reference, or one to a variable that is not there; the message says which."""


@dataclass(frozen=True)
class Reference:
    """`${name operator word}`; `operator` is "" where there is none."""

    name: str
    operator: str = ""
    word: "Text" = ()


Text = Tuple[Union[str, Reference], ...]


def parse(value: str) -> Text:
    """The parts of a value. Raises BadReference."""
    text, _ = _parse(value, 0, nested=False)
    return text


def expand(text: Text, variables: Mapping[str, str]) -> str:
    """The value with the variables' own in it. Raises BadReference for one that is not there."""
    return "".join(part if isinstance(part, str) else _value(part, variables) for part in text)


def _value(reference: Reference, variables: Mapping[str, str]) -> str:
    value = variables.get(reference.name)
    if not reference.operator:
        if value is None:
            raise BadReference(f"refers to the variable {reference.name}, which is not set")
        return value
    # With a colon, a variable that is empty counts as one that is not there.
    there = bool(value) if reference.operator.startswith(":") else value is not None
    if reference.operator.endswith("+"):
        return expand(reference.word, variables) if there else ""
    return value or "" if there else expand(reference.word, variables)


def _parse(value: str, start: int, nested: bool) -> "tuple[Text, int]":
    """The parts from `start` on, and where they end: before a closing brace if `nested`."""
    parts: list[Union[str, Reference]] = []
    position = start
    while position < len(value):
        character, after = value[position], value[position + 1 : position + 2]
        if character == "}" and nested:
            return tuple(parts), position
        if character == "\\" and after and after in ("$\\}" if nested else "$\\"):
            parts.append(after)
            position += 2
        elif character == "$":
            part, position = _reference(value, position)
            parts.append(part)
        else:
            parts.append(character)
            position += 1
    return tuple(parts), position


def _reference(value: str, start: int) -> "tuple[Union[str, Reference], int]":
    """What a dollar at `start` begins, and the position behind it."""
    after = value[start + 1 : start + 2]
    name = _NAME.match(value, start + 1)
    if name:
        return Reference(name[0]), name.end()
    if after and after in _SPECIAL:
        raise BadReference(f"has {value[start : start + 2]!r}, which is no variable; write \\$ for a dollar")
    if after != "{":
        return "$", start + 1
    name = _NAME.match(value, start + 2)
    position = name.end() if name else start + 2
    operator = next((one for one in _OPERATORS if value.startswith(one, position)), "")
    if name is None or not (operator or value.startswith("}", position)):
        raise BadReference(
            f"has {value[start : start + 40]!r}; it takes ${{NAME}}, ${{NAME:-word}} and ${{NAME:+word}}, and \\$ for a dollar"
        )
    if not operator:
        return Reference(name[0]), position + 1
    word, end = _parse(value, position + len(operator), nested=True)
    if not value.startswith("}", end):
        raise BadReference(f"has a `${{` without a `}}`: {value[start:]!r:.80}")
    return Reference(name[0], operator, word), end + 1
