"""Reads TOML tables of lockfiles, every mistake in them named."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from opam_oci.resolves.lockfile import LockfileError

LOCK_VERSION = 1

# Of bytes: what file systems take for a name, and what is left of PATH_MAX below a package's directory.
_LONGEST_NAME, _LONGEST_PATH = 255, 3800
_LARGEST = (1 << 63) - 1
_LISTED = 6
# Keys of more parts (`a.b.c`) are no lockfile's, and take tomllib a time that grows with the square of their number.
_MOST_PARTS = 200
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){{{_MOST_PARTS}}}")
# Strings, of which those of one line may be (a part of) a key, and comments.
_STRING = re.compile(
    r'''"""[^"\\]*(?:(?:\\.|"{1,2}(?!"))[^"\\]*)*"""(?:"{0,2})|'''
    r"""'''[^']*(?:'{1,2}(?!')[^']*)*'''(?:'{0,2})|"""
    r"""(?P<key>"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"|'[^'\n]*')|#[^\n]*""",
    re.DOTALL,
)

# The `toml` that Pants itself uses cannot read `'''...'''` strings which hold quotes and escapes, as opam files do.
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class LockTable:
    """A TOML table and where it stands, to read it with checks."""

    path: str
    where: str
    values: Mapping[str, Any]

    def error(self, problem: str) -> LockfileError:
        """The exception for a mistake in this table."""
        return LockfileError(self.path, f"in {self.where}: {problem}." if self.where else f"{problem}.")

    def _get(self, key: str, kind: type, called: str) -> Any:
        if key not in self.values:
            raise self.error(f"`{key}` is missing")
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"`{key}` is not {called}")
        return value

    def table(self, key: str) -> LockTable:
        """A table in this one."""
        return LockTable(self.path, f"[{key}]", self._get(key, dict, "a table"))

    def tables(self, key: str) -> Iterable[LockTable]:
        """The tables of an array; none where there is no such key, as TOML cannot write an empty one."""
        values = self._get(key, list, "an array of tables") if key in self.values else []
        for value in values:
            if not isinstance(value, dict):
                raise self.error(f"`{key}` is not an array of tables")
            name = value.get("name", value.get("path", ""))
            where = f"[[{key}]] {name!s:.200}".rstrip() if isinstance(name, str) else f"[[{key}]]"
            yield LockTable(self.path, f"{self.where}, {where}" if self.where else where, value)

    def integer(self, key: str) -> int:
        """A whole number."""
        value = self._get(key, int, "an integer")
        assert isinstance(value, int)
        if abs(value) > _LARGEST:
            raise self.error(f"`{key}` is too large a number")
        return value

    def flag(self, key: str) -> bool:
        """true or false; false where there is no such key."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"`{key}` is neither true nor false")
        return value

    def size(self, key: str) -> int:
        """A whole number that is not negative."""
        value = self.integer(key)
        if value < 0:
            raise self.error(f"`{key}` is negative")
        return value

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """A string, all of which `pattern` matches."""
        value = self._get(key, str, "a string")
        assert isinstance(value, str)
        self._match(key, value, pattern)
        return value

    def texts(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """An array of strings, all of which `pattern` matches."""
        values = self._get(key, list, "an array of strings")
        for value in values:
            if not isinstance(value, str):
                raise self.error(f"`{key}` is not an array of strings")
            self._match(key, value, pattern)
        return tuple(values)

    def names(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """An array of strings in which nothing is there twice."""
        values = self.texts(key, pattern)
        self.refuse_duplicates(key, values)
        return values

    def optional_texts(self, key: str) -> tuple[str, ...]:
        """As `texts`; empty where there is no such key."""
        return self.texts(key) if key in self.values else ()

    def optional_names(self, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """As `names`; empty where there is no such key."""
        return self.names(key, pattern) if key in self.values else ()

    def refuse_unknown(self, *known: str) -> None:
        """What is not known here may decide about a build, so it cannot be passed over."""
        unknown = sorted(key for key in self.values if key not in known)
        if unknown:
            listed = ", ".join(f"`{key!s:.80}`" for key in unknown[:_LISTED])
            raise self.error(
                f"{listed}{' and others' * (len(unknown) > _LISTED)} is not known to this version of the backend; a newer "
                "one may have written the lockfile, or it was edited by hand"
            )

    def path_text(self, key: str) -> str:
        """A relative path that leaves no directory."""
        value = self.text(key)
        self.check_path(key, value)
        return value

    def check_path(self, key: str, value: str) -> None:
        """Refuse what would leave the directory that it is put in."""
        parts = value.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in value or "\\" in value:
            raise self.error(f"`{key}` is not a safe relative path: {value!r:.200}")
        sizes = [len(part.encode()) for part in parts]
        if max(sizes) > _LONGEST_NAME or sum(sizes) + len(sizes) > _LONGEST_PATH:
            raise self.error(f"`{key}` holds a path that is too long: {value!r:.200}")

    def refuse_duplicates(self, key: str, values: Iterable[str]) -> None:
        """Raise LockfileError where a value is there twice."""
        seen: set[str] = set()
        for value in values:
            if value in seen:
                raise self.error(f"{value!r:.200} is there twice in `{key}`")
            seen.add(value)

    def _match(self, key: str, value: str, pattern: re.Pattern[str] | None) -> None:
        if pattern is not None and not pattern.match(value):
            raise self.error(f"`{key}` holds {value!r:.200}, which it cannot")


def _count_tables(values: Mapping[str, Any]) -> int:
    """How many `[[...]]` there are, at all depths."""
    found = 0
    waiting = [values]
    while waiting:
        for value in waiting.pop().values():
            if isinstance(value, list):
                tables = [item for item in value if isinstance(item, dict)]
                found += len(tables)
                waiting += tables
    return found


def _check_whole(top: LockTable, content: bytes) -> None:
    """A file that is cut off between two tables is TOML as well, and would be the lockfile of another build.

    Lockfiles that do not state the number of their tables, as those written by hand, are taken as they are.
    """
    metadata = top.table("metadata")
    if "tables" not in metadata.values:
        return
    stated, found = metadata.size("tables"), _count_tables(top.values)
    if found != stated or not content.endswith(b"\n"):
        raise LockfileError(
            top.path,
            f"it is cut off, or was edited or merged by hand: it should have {stated} tables after [metadata], and has "
            f"{found}. Restore it, or regenerate it with `pants generate-lockfiles --resolve={metadata.text('resolve')}`.",
        )


def _check_keys(path: str, text: str) -> None:
    """Raise LockfileError for a line that has a key of very many parts."""
    if any(line.count(".") >= _MOST_PARTS for line in text.split("\n")):
        # In an opam file it may be a text of many dots.
        bare = _STRING.sub(lambda match: "s" if match.group("key") else "", text)
        if _LONG_KEY.search(bare):
            raise LockfileError(path, f"not the TOML of a lockfile: a key has more than {_MOST_PARTS} parts.")


def read_top(path: str, resolve: str, content: bytes, *, kind: str) -> LockTable:
    """A lockfile as a table, its metadata checked. Raises LockfileError."""
    try:
        text = content.decode()
        _check_keys(path, text)
        values = tomllib.loads(text)
    except ValueError as e:  # what is no UTF-8 or no TOML, and numbers of thousands of digits
        raise LockfileError(path, f"not valid TOML: {e!s:.300}.") from None
    except RecursionError:
        raise LockfileError(path, "not valid TOML: it is nested too deeply.") from None
    top = checked_top(path, resolve, values, kind=kind)
    _check_whole(top, content)
    return top


def read_json_top(path: str, resolve: str, content: bytes, *, kind: str) -> LockTable:
    """As `read_top`, of a lockfile that is JSON, which cannot be cut off unnoticed."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as e:
        raise LockfileError(path, f"not valid JSON: {e!s:.300}.") from None
    if not isinstance(values, dict):
        raise LockfileError(path, "not an object of JSON.")
    return checked_top(path, resolve, values, kind=kind)


def checked_top(path: str, resolve: str, values: Mapping[str, Any], *, kind: str) -> LockTable:
    """A lockfile's tables, once its metadata says that it is of this kind and resolve. Raises LockfileError."""
    top = LockTable(path, "", values)
    metadata = top.table("metadata")
    version = metadata.integer("lock_version")
    if version > LOCK_VERSION:
        raise LockfileError(
            path,
            f"its lock_version {version} was written by a newer version of this backend, which reads up to "
            f"{LOCK_VERSION}. Use that newer version, or regenerate the lockfile with "
            f"`pants generate-lockfiles --resolve={resolve}`.",
        )
    if version != LOCK_VERSION:
        raise LockfileError(path, f"its lock_version {version} does not exist.")
    if metadata.text("kind") != kind:
        raise LockfileError(path, f"it is of kind {metadata.text('kind')!r:.100}, where {kind!r} is needed.")
    if metadata.text("resolve") != resolve:
        raise LockfileError(
            path, f"it was written for the resolve {metadata.text('resolve')!r:.100}, not for {resolve!r}."
        )
    return top
