"""An image of a layout as what runs it needs it: unpacked layers, the command, the user, the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.sandbox import view_files


@dataclass(frozen=True)
class ImageLayer:
    """A layer of a manifest: `title` is its history's, `blob` the file. Digests are `sha256:<hex>`."""

    title: str
    blob: Path
    media_type: str
    digest: str
    diff_id: str


@dataclass(frozen=True)
class Image:
    """`config`: the `config` object of the image's configuration; its keys may be missing."""

    digest: str
    layers: Sequence[ImageLayer]
    config: Dict[str, Any]

    def argv(self, arguments: Sequence[str]) -> List[str]:
        """What a container runs, with `arguments` in place of Cmd. Raises ToolError where that is nothing."""
        argv = [*self._strings("Entrypoint"), *(arguments or self._strings("Cmd"))]
        if not argv:
            raise ToolError("the image has neither `entrypoint` nor `cmd`: say after `--` what to run")
        return argv

    @property
    def env(self) -> List[str]:
        """`NAME=value` entries."""
        return self._strings("Env")

    @property
    def user(self) -> str:
        """A name or a number, with `:group` or without."""
        return str(self.config.get("User") or "0")

    @property
    def workdir(self) -> str:
        """An absolute path inside."""
        return str(self.config.get("WorkingDir") or "/")

    def _strings(self, key: str) -> List[str]:
        return [str(word) for word in self.config.get(key) or ()]


def read_image(layout: Path) -> Image:
    """The one image of a layout. Raises ToolError."""
    descriptor, _ = oci.image_and_referrers(layout)
    manifest = oci.read_manifest(layout, descriptor)
    config = oci.read_manifest(layout, manifest["config"])
    diff_ids = config["rootfs"]["diff_ids"]
    history = [entry for entry in config.get("history") or () if not entry.get("empty_layer")]
    layers = [
        ImageLayer(
            title=f"layer {history[number].get('created_by', number) if number < len(history) else number}",
            blob=oci.blob_path(layout, layer["digest"]),
            media_type=layer["mediaType"],
            digest=layer["digest"],
            diff_id=diff_ids[number],
        )
        for number, layer in enumerate(manifest["layers"])
    ]
    return Image(descriptor["digest"], layers, config.get("config") or {})


@dataclass(frozen=True)
class Ids:
    """Numbers of a user; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: Tuple[int, ...]


def find_user(user: str, lower: Sequence[Path]) -> Ids:
    """The `User` of an image (name or number, with `:group` or without), looked up in its unpacked layers, bottom first.

    Raises ToolError for a name that is not there.
    """
    name, _, group = user.partition(":")
    accounts = _table(lower, "etc/passwd", 7)
    groups = _table(lower, "etc/group", 4)
    account = next((row for row in accounts if row[0] == name), None)
    if account is None and name.isdigit():
        account = next((row for row in accounts if row[2] == name), None)
    uid = int(account[2]) if account else _number(name, f"the image's user {name!r} is not in its /etc/passwd")
    if group:
        row = next((row for row in groups if row[0] == group), None)
        gid = int(row[2]) if row else _number(group, f"the image's group {group!r} is not in its /etc/group")
        return Ids(uid, gid, ())
    gid = int(account[3]) if account else 0
    member = {int(row[2]) for row in groups if account and account[0] in row[3].split(",")}
    return Ids(uid, gid, tuple(sorted(member - {gid})))


def _table(lower: Sequence[Path], name: str, columns: int) -> List[List[str]]:
    for layer in reversed(lower):
        text = view_files.read_text(layer, name, links=False)
        if text is not None:
            rows = [line.split(":") for line in text.splitlines()]
            return [row for row in rows if len(row) == columns]
    return []


def _number(text: str, message: str) -> int:
    if not text.isdigit():
        raise ToolError(message)
    return int(text)


def under(directory: Path, name: str) -> str:
    """A path of a request, which is relative to the request's directory."""
    return os.path.normpath(directory / name)
