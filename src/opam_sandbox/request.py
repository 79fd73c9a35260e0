"""Reading the fields of a request, with errors that name the field."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Sequence, Tuple, Type, TypeVar

from opam_sandbox.errors import RequestError

T = TypeVar("T")


class Request:
    """A JSON object; `where` names it in errors."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise RequestError(f"{where}: expected an object, found {type(data).__name__}")
        self._data: Dict[str, Any] = data
        self._where = where

    @classmethod
    def read(cls, path: str) -> "Request":
        try:
            return cls(json.loads(Path(path).read_text(encoding="utf-8")), path)
        except (OSError, ValueError, RecursionError) as error:
            raise RequestError(f"{path}: {error}") from None

    def get(self, key: str, kind: Type[T]) -> T:
        value = self._data.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise RequestError(f"{self._where}: {key!r} should be {kind.__name__}, is {value!r:.80}")
        return value

    def get_or(self, key: str, default: T) -> T:
        return self.get(key, type(default)) if key in self._data else default

    def strings(self, key: str) -> List[str]:
        values = self.get(key, list)
        if not all(isinstance(value, str) for value in values):
            raise RequestError(f"{self._where}: {key!r} should be a list of strings")
        return values

    def objects(self, key: str) -> List["Request"]:
        return [Request(value, f"{self._where}: {key}[{n}]") for n, value in enumerate(self.get(key, list))]

    def object(self, key: str) -> "Request":
        return Request(self.get(key, dict), f"{self._where}: {key}")


@dataclass(frozen=True)
class Deb:
    """A Debian binary package: `file` is its path in the sandbox, `sha256` hex, `size` in bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    file: str


@dataclass(frozen=True)
class Source:
    """An archive or extra source of an opam package: `name` is "" for the archive, else the extra source's file name."""

    name: str
    url: str
    sha256: str
    size: int
    file: str


@dataclass(frozen=True)
class OpamPackage:
    """A package of the lock: its opam file's text, the contents of its files/ directory, its sources and .debs."""

    name: str
    version: str
    opam: str
    files: Tuple[Tuple[str, bytes], ...]
    sources: Tuple[Source, ...]
    debs: Tuple[Deb, ...]

    @property
    def title(self) -> str:
        return f"{self.name}.{self.version}"


def read_debs(request: Request) -> Tuple[Deb, ...]:
    return tuple(
        Deb(
            item.get("name", str),
            item.get("version", str),
            item.get("architecture", str),
            item.get("sha256", str),
            item.get("size", int),
            item.get("file", str),
        )
        for item in request.objects("debs")
    )


def read_package(request: Request) -> OpamPackage:
    files = []
    for item in request.objects("files"):
        path = item.get("path", str)
        try:
            files.append((safe_path(path), base64.b64decode(item.get("content", str), validate=True)))
        except binascii.Error as error:
            raise RequestError(f"files: {path}: {error}") from None
    sources = tuple(
        Source(
            item.get("name", str),
            item.get("url", str),
            safe_name(item.get("sha256", str)),
            item.get("size", int),
            item.get("file", str),
        )
        for item in request.get_or("sources", []) and request.objects("sources")
    )
    debs: Sequence[Deb] = read_debs(request) if request.get_or("debs", []) else ()
    return OpamPackage(
        safe_name(request.get("name", str)),
        safe_name(request.get("version", str)),
        request.get("opam", str),
        tuple(files),
        sources,
        tuple(debs),
    )


def safe_path(path: str) -> str:
    """A relative path that stays below where it is put. Raises RequestError otherwise."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise RequestError(f"unsafe path {path!r}")
    return path


def safe_name(name: str) -> str:
    """A name that becomes part of paths. Raises RequestError unless it is one plain component."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise RequestError(f"unsafe name {name!r}")
    return name
