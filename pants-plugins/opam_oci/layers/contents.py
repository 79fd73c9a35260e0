"""What layers have and hide, file by file."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass
from typing import Any, Iterable, Sequence

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import Digest

from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.layer import Layer, LayerError
from opam_oci.sandbox.process import Call, layer_paths
from opam_oci.sandbox.run_tool import run_tool

_FILE = "contents.json"
_MOST_LINKS = 40
DIRECTORY = "directory"


@dataclass(frozen=True)
class Entry:
    """What a layer has at a path (without the first slash). mode: octal; target: where a link leads."""

    path: str
    kind: str
    mode: str
    uid: int
    gid: int
    size: int
    target: str


@dataclass(frozen=True)
class Contents:
    """Of a layer. hides: names that it takes away from the layers below; with a slash at the end all that lies in a directory."""

    layer: Layer
    entries: tuple[Entry, ...]
    hides: tuple[str, ...]

    @property
    def title(self) -> str:
        """How people call the layer: `lwt.5.6.1`, `base trixie`, `state`."""
        layer = self.layer
        return layer.full_name if layer.kind in ("package", layer.name) else f"{layer.kind} {layer.name}".strip()


@dataclass(frozen=True)
class ContentsRequest(EngineAwareParameter):
    """Asks for the list of a layer."""

    layer: Layer

    def debug_hint(self) -> str:
        return self.layer.full_name


@dataclass(frozen=True)
class ContentsList:
    """contents.json, as a digest: of a base it is large."""

    digest: Digest


@rule
async def list_contents(request: ContentsRequest) -> ContentsList:
    """Cached by the layer, whatever is looked for in it. Raises LayerError."""
    layers = (request.layer,)
    call = Call(
        "contents",
        f"List the files of {request.layer.full_name}",
        {"layers": layer_paths(layers)},
        layers,
        (_FILE,),
        output_directories=(),
    )
    return ContentsList((await run_tool(call)).output_digest)


async def contents_of(layer: Layer, listed: ContentsList) -> Contents:
    """The list of a layer, read. Raises LayerError."""
    where = f"{_FILE} of {layer.full_name}"
    data: Any = parse_object((await read_files(listed.digest, _FILE)).get(_FILE, b""), where, LayerError)
    try:
        return Contents(layer, tuple(Entry(*entry) for entry in data["entries"]), tuple(data["hides"]))
    except (KeyError, TypeError):
        raise LayerError(f"{where} is no list of files.") from None


@dataclass(frozen=True)
class Holder:
    """A layer that has something at a path. hidden_by: the layer that replaces or removes it, "" if it is seen. removed: it is
    removed there, and not replaced."""

    layer: str
    kind: str
    entry: Entry
    hidden_by: str = ""
    removed: bool = False


class Union:
    """Layers over one another, bottom first: who has each path, the lowest first."""

    def __init__(self, layers: Sequence[Contents]) -> None:
        self.holders: dict[str, list[Holder]] = {}
        for contents in layers:
            self._put(contents)

    def _put(self, contents: Contents) -> None:
        hidden = {name.rstrip("/") for name in contents.hides if not name.endswith("/")}
        opaque = {name.rstrip("/") for name in contents.hides if name.endswith("/")}
        own = {entry.path: entry for entry in contents.entries}
        covered = {path for path, entry in own.items() if entry.kind != DIRECTORY}
        if hidden or opaque or covered & self.holders.keys():
            self._hide(contents.title, hidden, opaque | hidden | (covered & self.holders.keys()), own)
        for path, entry in own.items():
            held = self.holders.setdefault(path, [])
            merged = entry.kind == DIRECTORY and held and held[-1].entry.kind == DIRECTORY
            if held and not held[-1].hidden_by and not merged:
                held[-1] = _hidden(held[-1], contents.title, removed=False)
            held.append(Holder(contents.title, contents.layer.kind, entry))

    def _hide(self, by: str, names: set[str], below: set[str], own: dict[str, Entry]) -> None:
        for path, held in self.holders.items():
            gone = path in names or any(above in below for above in _above(path))
            if gone:
                replaced = path in own
                held[:] = [one if one.hidden_by else _hidden(one, by, removed=not replaced) for one in held]

    def seen(self, path: str) -> Entry | None:
        """What is seen at a path, its own last link not followed."""
        held = self.holders.get(path)
        return held[-1].entry if held and not held[-1].hidden_by else None

    def real(self, path: str) -> str:
        """The path with links on the way followed, as far as they lead somewhere; a link that is the last is not followed."""
        waiting, done, links = [part for part in path.split("/") if part not in ("", ".")][::-1], "", 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, part)
            entry = self.seen(here)
            if entry is not None and entry.kind == "link" and waiting and links < _MOST_LINKS:
                links += 1
                done = "" if entry.target.startswith("/") else done
                waiting += [one for one in entry.target.split("/") if one not in ("", ".")][::-1]
                continue
            done = here
        return done

    def find(self, wanted: str, path_variable: str) -> list[str]:
        """The paths that an absolute path, a glob pattern, or a command's name means; those that somebody has or had."""
        if any(char in wanted for char in "*?["):
            pattern = wanted.lstrip("/") if wanted.startswith("/") else f"*/{wanted}"
            match = re.compile(fnmatch.translate(pattern)).match
            return sorted(path for path in self.holders if match(path))
        if "/" not in wanted:
            paths = [self.real(f"{directory}/{wanted}") for directory in path_variable.split(":") if directory]
            found = [path for path in dict.fromkeys(paths) if path in self.holders]
            return sorted(found, key=lambda path: self.seen(path) is None)[:1]
        path = self.real(wanted)
        return [path] if path in self.holders else []


def _hidden(holder: Holder, by: str, removed: bool) -> Holder:
    return Holder(holder.layer, holder.kind, holder.entry, by, removed)


def _above(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
    yield ""


def rules() -> list[object]:
    return [*collect_rules()]
