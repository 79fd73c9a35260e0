"""An image of a layout as what runs it needs it: unpacked layers, the command, the user, the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from opam_sandbox import digests
from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci.layer_file import LayerFile
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.stack import MAX_LOWER

# Of /etc/passwd and /etc/group, in bytes.
_LARGEST_TABLE = 16 << 20
# What follows means "leave it as it is" to system calls.
_LARGEST_ID = (1 << 32) - 2


@dataclass(frozen=True)
class Image:
    """What a container of the image has where nobody says otherwise. `env`: `NAME=value` entries; `user`: a name or a number,
    with `:group` or without; `workdir`: an absolute path inside."""

    digest: str
    layers: Sequence[LayerFile]
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    env: Sequence[str] = ()
    user: str = "0"
    workdir: str = "/"

    def argv(self, arguments: Sequence[str]) -> List[str]:
        """What a container runs, with `arguments` in place of Cmd. Raises ToolError where that is nothing."""
        argv = [*self.entrypoint, *(arguments or self.cmd)]
        if not argv:
            raise ToolError("the image has neither `entrypoint` nor `cmd`: say after `--` what to run")
        return argv


def read_image(layout: Path) -> Image:
    """The one image of a layout, all of whose blobs are there. Raises ToolError, which names file and field."""
    descriptor, _ = oci.image_and_referrers(layout)
    if not oci.is_image(descriptor):
        raise ToolError(f"{layout}: its entry is {descriptor['mediaType']!r:.80}, which is no image that can be run")
    manifest_path = oci.blob_path(layout, descriptor["digest"])
    children = oci.children(layout, descriptor)
    oci.check_blobs(layout, children)
    config_descriptor, layers = children[0], children[1:]
    if not layers:
        raise ToolError(f"{manifest_path}: its `layers` are none: there is nothing to run")
    if len(layers) > MAX_LOWER:
        raise ToolError(f"{manifest_path}: it has {len(layers)} layers, but overlayfs stacks at most {MAX_LOWER}")
    config = _Fields(
        oci.read_json_blob(layout, config_descriptor), str(oci.blob_path(layout, config_descriptor["digest"]))
    )
    diff_ids = config.object("rootfs").list("diff_ids")
    if len(diff_ids) != len(layers):
        raise ToolError(
            f"{config.where}: its `rootfs` has {len(diff_ids)} `diff_ids`, but there are {len(layers)} layers"
        )
    titles = _titles(config)
    found = [
        LayerFile(
            title=f"layer {titles[number] if number < len(titles) else number}",
            layout=layout,
            media_type=layer["mediaType"],
            digest=layer["digest"],
            diff_id=digests.checked(diff_ids[number], f"{config.where}: rootfs: diff_ids[{number}]"),
        )
        for number, layer in enumerate(layers)
    ]
    run = config.object("config")
    workdir = run.text("WorkingDir") or "/"
    if not workdir.startswith("/"):
        raise ToolError(f"{run.where}: its `WorkingDir` should be an absolute path, but is {workdir!r:.80}")
    return Image(
        descriptor["digest"],
        found,
        entrypoint=run.texts("Entrypoint"),
        cmd=run.texts("Cmd"),
        env=run.texts("Env"),
        user=run.text("User") or "0",
        workdir=workdir,
    )


def _titles(config: "_Fields") -> List[str]:
    """What the history says of each layer."""
    result: List[str] = []
    for number, entry in enumerate(config.list("history")):
        if not isinstance(entry, dict):
            raise ToolError(f"{config.where}: history[{number}] should be an object, but is {entry!r:.80}")
        if not entry.get("empty_layer"):
            text = str(entry.get("created_by", number))
            # It goes to terminals.
            result.append("".join(letter if letter.isprintable() else "?" for letter in text)[:200])
    return result


class _Fields:
    """A JSON object that somebody else wrote, whose fields may be missing or null, but are not of other types."""

    def __init__(self, values: Dict[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    def object(self, key: str) -> "_Fields":
        return _Fields(self._typed(key, dict, "an object") or {}, f"{self.where}: `{key}`")

    def list(self, key: str) -> List[Any]:
        return self._typed(key, list, "a list") or []

    def text(self, key: str) -> str:
        text: str = self._typed(key, str, "a string") or ""
        self._refuse_nul(key, text)
        return text

    def texts(self, key: str) -> List[str]:
        values = self.list(key)
        for value in values:
            if not isinstance(value, str):
                raise ToolError(f"{self.where}: its `{key}` should be a list of strings, but has {value!r:.80}")
            self._refuse_nul(key, value)
        return values

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise ToolError(f"{self.where}: its `{key}` should be {name}, but is {value!r:.80}")
        return value

    def _refuse_nul(self, key: str, text: str) -> None:
        if "\0" in text:
            raise ToolError(f"{self.where}: its `{key}` has a NUL, which nothing can be passed: {text!r:.80}")


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
    if account is None and name.isdecimal():
        account = next((row for row in accounts if row[2] == name), None)
    uid = _number(account[2] if account else name, f"the image's user {name!r:.80} is not in its /etc/passwd")
    if group:
        row = next((row for row in groups if row[0] == group), None)
        gid = _number(row[2] if row else group, f"the image's group {group!r:.80} is not in its /etc/group")
        return Ids(uid, gid, ())
    gid = _number(account[3], f"the group of the image's user {name!r:.80} is no number") if account else 0
    member = {
        _number(row[2], f"the image's /etc/group has no number for {row[0]!r:.80}")
        for row in groups
        if account and account[0] in row[3].split(",")
    }
    return Ids(uid, gid, tuple(sorted(member - {gid})))


def _table(lower: Sequence[Path], name: str, columns: int) -> List[List[str]]:
    for layer in reversed(lower):
        content = _account_file(layer, name)
        if content is not None:
            rows = [line.split(":") for line in content.decode("utf-8", "surrogateescape").split("\n")]
            return [row for row in rows if len(row) == columns]
    return []


def _account_file(layer: Path, name: str) -> Optional[bytes]:
    try:
        file = view_files.open_file(layer, name, links=False)
        if file is None:
            return None
        with file:
            content = file.read(_LARGEST_TABLE + 1)
    except OSError as error:
        raise ToolError(f"the image's /{name} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_TABLE:
        raise ToolError(f"the image's /{name} has more than {_LARGEST_TABLE} bytes")
    return content


def _number(text: str, message: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > _LARGEST_ID:
        raise ToolError(message)
    return int(text)


def under(directory: Path, name: str) -> str:
    """A path of a request, which is relative to the request's directory."""
    return os.path.normpath(directory / name)
