"""Reads requests, and checks them against the TypedDicts that describe them.

A caller may say what it has written: the sha256 of the request on the command line, and those of further files in the request's
field `inputs`, a mapping of paths to sha256 (hex). Pants' store, between the two, does not compare what it gives with its
digests: after a power loss that may be something else.

Each part's `requests` module has these types, so a request has one description: for mypy, for readers, and for the check
at run time. Names and paths of a request become paths on disk only after `safe_name` or `safe_path`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Literal, Tuple, Union, get_args, get_origin, get_type_hints

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.strict_json import read_object

# Bytes. Requests have the texts of all packages of an image, and what the steps of locking hand on is larger still.
_LARGEST = 1 << 30

# Of bytes: what file systems take for a component, and what is left of PATH_MAX below a package's directory.
_LONGEST_NAME, _LONGEST_PATH = 255, 3800

_NAMES = {str: "a string", int: "a number", bool: "true or false", float: "a number", dict: "an object", list: "a list"}

# What becomes of it is the same whichever file it was.
DAMAGED_STORE = (
    "Pants' store of files is damaged, by a power loss, a disk or memory that fails, or somebody who wrote into it. End "
    "pantsd (the pid is in `.pids/`), delete [GLOBAL].local_store_dir (`~/.cache/pants/lmdb_store`), and run Pants again."
)


def read_request(path: str, kind: Any, sha256: str = "") -> Any:
    """The JSON file `path` as a value of the type `kind`, a TypedDict or a Union of several that a Literal tells apart.

    sha256 (hex): of the file, "" if the caller does not say. Raises RequestError, which names the file and the field, for
    anything else, and ToolError where a file is not what the caller has written.
    """
    if sha256:
        check_file(path, sha256)
    try:
        value = read_object(Path(path), _LARGEST)
    except ToolError as error:
        raise RequestError(f"{error!s:.300}") from None
    inputs = value.pop("inputs", {})
    check(inputs, Dict[str, str], f"{path}: 'inputs'")
    check(value, kind, path)
    for name, expected in inputs.items():
        check_file(safe_path(name), expected)
    return value


def check_file(path: str, sha256: str, write: Callable[[bytes], object] = lambda data: None) -> None:
    """Raise ToolError unless a file that Pants has put here is what it should be. What it holds also goes to `write`."""
    try:
        found, _ = file_sha256(path, write)
    except OSError as error:
        found = f"unknown ({error.strerror})"
    if found != sha256:
        raise ToolError(f"{path} is damaged: its sha256 is {found}, but should be {sha256}. {DAMAGED_STORE}")


def check(value: object, kind: Any, where: str) -> None:
    """Raise RequestError unless a value read from JSON has the type `kind`; `where` names it in the message.

    kind: str, int, bool, Any, List, Dict with str as its keys, Literal, a TypedDict, or a Union of TypedDicts.
    """
    if type(kind) is type:  # the most frequent, and nothing is to be found out of it
        _of_type(value, kind, where)
        return
    origin, arguments = _shape(kind)
    if kind is Any:
        return
    if origin is Literal:
        if value not in arguments:
            expected = ", ".join(repr(one) for one in arguments)
            raise RequestError(f"{where} should be one of {expected}, but is {value!r:.80}")
    elif origin is Union:
        check(value, _member(value, arguments, where), where)
    elif origin is list:
        items = _of_type(value, list, where)
        if arguments[0] is str and all(isinstance(item, str) for item in items):
            return  # as in the names of all packages below each one, of which there are thousands
        for number, item in enumerate(items):
            check(item, arguments[0], f"{where}[{number}]")
    elif origin is dict:
        for key, item in _of_type(value, dict, where).items():
            check(item, arguments[1], f"{where}: {key!r:.80}")
    elif hasattr(kind, "__required_keys__"):
        _check_object(_of_type(value, dict, where), kind, where)
    else:
        _of_type(value, kind, where)


@lru_cache(maxsize=None)
def _shape(kind: Any) -> Tuple[Any, Tuple[Any, ...]]:
    """What a type is made by, such as list, and of what; None and () for a class."""
    return get_origin(kind), get_args(kind)


def _of_type(value: object, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{where} should be {_NAMES[kind]}, but is {value!r:.80}")
    return value


@lru_cache(maxsize=None)
def _hints(kind: Any) -> Dict[str, Any]:
    """The types of a TypedDict's fields. Dozens of layers are described by the same ones."""
    return get_type_hints(kind)


def _check_object(value: Dict[str, Any], kind: Any, where: str) -> None:
    hints = _hints(kind)
    for key in sorted(kind.__required_keys__ - set(value)):
        raise RequestError(f"{where}: the field {key!r} is missing")
    for key, item in value.items():
        if key not in hints:
            raise RequestError(f"{where}: the field {key!r:.80} is unknown")
        check(item, hints[key], f"{where}: {key!r}")


def _member(value: object, kinds: Any, where: str) -> Any:
    """The one of several TypedDicts that the value of a Literal belongs to."""
    found = _of_type(value, dict, where).get
    literals = [{key: get_args(hint) for key, hint in _literals(kind)} for kind in kinds]
    known: List[Any] = []
    for key in literals[0]:
        known = [one for tags in literals for one in tags.get(key, ())]
        if len(known) == len(set(known)):  # of other Literals, the TypedDicts have the same values
            break
    for kind, tags in zip(kinds, literals):
        if found(key) in tags[key]:
            return kind
    raise RequestError(f"{where}: {key!r} should be one of {', '.join(map(repr, known))}, but is {found(key)!r:.80}")


def _literals(kind: Any) -> List[Tuple[str, Any]]:
    return [(key, hint) for key, hint in _hints(kind).items() if get_origin(hint) is Literal]


def safe_path(path: str) -> str:
    """A relative path that stays below where it is put, and that Linux takes. Raises RequestError otherwise."""
    pure = PurePosixPath(path)
    if not path or not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise RequestError(f"unsafe path {path!r:.200}")
    if _bytes_of(path) > _LONGEST_PATH or max(map(_bytes_of, pure.parts)) > _LONGEST_NAME:
        raise RequestError(f"the path {path!r:.200} is too long")
    return path


def safe_name(name: str) -> str:
    """A name that becomes part of paths. Raises RequestError unless it is one plain component."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise RequestError(f"unsafe name {name!r:.200}")
    if _bytes_of(name) > _LONGEST_NAME:
        raise RequestError(f"the name {name!r:.200} is too long")
    return name


def _bytes_of(text: str) -> int:
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise RequestError(f"{text!r:.200} is no text") from None
