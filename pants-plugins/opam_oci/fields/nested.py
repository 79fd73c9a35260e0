"""Fields that hold dictionaries with keys of their own: each value is looked at when BUILD files are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from pants.engine.addresses import Address
from pants.engine.target import InvalidFieldException
from pants.util.frozendict import FrozenDict

from opam_oci.subsystems.build_limits import BadLimitError, read_bytes

# Of numbers of users: what follows means "leave it as it is" to system calls.
_LARGEST_ID = (1 << 32) - 2


@dataclass(frozen=True)
class Kind:
    """What a value may be. read: the value as it is kept; raises ValueError. example: of a right one, for messages."""

    read: Callable[[Any], Any]
    example: str


Spec = Mapping[str, Kind]


def read_dict(where: str, value: object, spec: Spec) -> dict[str, Any]:
    """A dictionary whose keys are those of `spec`. Raises InvalidFieldException; `where` begins its text."""
    if not isinstance(value, Mapping):
        raise InvalidFieldException(f"{where} should be a dictionary, but is {value!r:.200}.")
    found: dict[str, Any] = {}
    for key, item in value.items():
        kind = spec.get(key) if isinstance(key, str) else None
        if kind is None:
            raise InvalidFieldException(f"{where} has the key {key!r:.100}; it takes {', '.join(sorted(spec))}.")
        try:
            found[key] = kind.read(item)
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            raise InvalidFieldException(
                f"{where} has {key!r}: {item!r:.200}{why}; it takes values such as {kind.example}."
            ) from None
    return found


def frozen(value: Mapping[str, Any]) -> FrozenDict[str, Any]:
    """What a field keeps: hashable, with tuples in place of lists."""
    return FrozenDict({key: _frozen(item) for key, item in value.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozen(value)
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def field_of(alias: str, address: Address) -> str:
    """How messages about a field begin."""
    return f"The `{alias}` field in target {address}"


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _texts(value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError
    return [_text(one) for one in value]


def _words(value: object) -> list[str]:
    words = _texts(value)
    if not words or not words[0]:
        raise ValueError("there is no command")
    return words


def pattern(value: object) -> str:
    """A regular expression. Raises ValueError, which says why it is none."""
    try:
        re.compile(_text(value), re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{value!r:.80} is no regular expression: {error}") from None
    return _text(value)


def _patterns(value: object) -> list[str]:
    return [pattern(one) for one in ([value] if isinstance(value, str) else _texts(value))]


def _yes(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def number(least: int, most: int) -> Callable[[object], int]:
    """Reads whole numbers in a range."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return read


def size(value: object) -> int:
    """Bytes, of a number or of a text such as "20MiB". Raises ValueError."""
    if isinstance(value, str) and value.strip():
        try:
            return read_bytes("", value)
        except BadLimitError:
            raise ValueError from None
    return number(0, 1 << 62)(value)


def _mode(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-7]{3,4}", value):
        raise ValueError("a mode is a text of octal digits")
    return value.rjust(4, "0")


def _account(value: object) -> str:
    text = str(number(0, _LARGEST_ID)(value)) if isinstance(value, int) else _text(value)
    if not text or ":" in text or (text.isdecimal() and int(text) > _LARGEST_ID):
        raise ValueError
    return text


def _user(value: object) -> str:
    text = str(number(0, _LARGEST_ID)(value)) if isinstance(value, int) else _text(value)
    if not re.fullmatch(r"[^:\n]+(?::[^:\n]+)?", text):
        raise ValueError
    return text


def _sha256(value: object) -> str:
    text = _text(value)
    digits = text[len("sha256:") :] if text.startswith("sha256:") else text
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError
    return digits


def _file_type(value: object) -> str:
    if value not in FILE_TYPES:
        raise ValueError
    return str(value)


def _ports(value: object) -> list[str]:
    ports = _texts(value)
    if not all(re.fullmatch(r"[0-9]{1,5}(?:/(?:tcp|udp|sctp))?", one) for one in ports):
        raise ValueError
    return [one if "/" in one else f"{one}/tcp" for one in ports]


def _paths(value: object) -> list[str]:
    paths = _texts(value)
    if not all(one.startswith("/") for one in paths):
        raise ValueError
    return paths


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError
    for name in value:
        if not _text(name) or "=" in name:
            raise ValueError(f"{name!r:.80} cannot name a variable")
    return {name: _text(text) for name, text in value.items()}


def _expected_values(value: object) -> dict[str, Any]:
    """NAME -> a text, {"matches": pattern}, or None."""
    if not isinstance(value, Mapping):
        raise ValueError
    found: dict[str, Any] = {}
    for name, one in value.items():
        if not _text(name):
            raise ValueError
        if isinstance(one, Mapping):
            if set(one) != {"matches"}:
                raise ValueError(f"of {name!r:.80}")
            found[name] = {"matches": pattern(one["matches"])}
        else:
            found[name] = None if one is None else _text(one)
    return found


FILE_TYPES = ("file", "directory", "link", "pipe", "character device", "block device")

TEXT = Kind(_text, '"text"')
WORDS = Kind(_words, '["hello", "--version"]')
TEXTS = Kind(_texts, '["--version"]')
PATTERNS = Kind(_patterns, '"^hello [0-9.]+$", or a list of such')
YES = Kind(_yes, "True")
EXIT_CODE = Kind(number(0, 255), "0")
SECONDS = Kind(number(1, 1_000_000), "60")
BYTES = Kind(number(0, 1 << 62), "4096")
SIZE = Kind(size, '4096 or "20MiB"')
ID = Kind(number(0, _LARGEST_ID), "1000")
MODE = Kind(_mode, '"0755"')
ACCOUNT = Kind(_account, '"opam" or 1000')
USER = Kind(_user, '"opam", 1000 or "opam:staff"')
SHA256 = Kind(_sha256, "64 hex digits")
FILE_TYPE = Kind(_file_type, ", ".join(f'"{one}"' for one in FILE_TYPES))
PORTS = Kind(_ports, '["8080", "53/udp"]')
PATHS = Kind(_paths, '["/var/lib/data"]')
VARIABLES = Kind(_variables, '{"NAME": "value"}')
VALUES = Kind(_expected_values, '{"NAME": "value"}, {"NAME": {"matches": "^v"}} or {"NAME": None}')
