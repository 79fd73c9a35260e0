"""Where an image is fetched from: a layout's directory, or a registry, of which skopeo makes a directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Mapping, Optional, Protocol, Type

from opam_sandbox import passwords, strict_json
from opam_sandbox.digests import hex_of
from opam_sandbox.errors import ToolError
from opam_sandbox.importing.requests import FetchImageRequest, Handover
from opam_sandbox.oci import layout_files
from opam_sandbox.request import check

_RETRIES = 3
_LONGEST = 1000
# What skopeo ends with, in the frame that its logger puts around it.
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
# Registries send to stores of blobs, whose addresses let everybody in for a while.
_SIGNED = re.compile(r"(?<=[\w/%.~-])\?[^\s\"'?]*=[^\s\"']*")


class ImageSource(Protocol):
    """Digests are `sha256:<hex>`. Nothing of what it gives is compared with them yet. All raise ToolError."""

    def document(self, digest: str) -> bytes:
        """A manifest or an index."""
        ...

    def prepare(self, manifest: str) -> None:
        """Fetch what a manifest names."""
        ...

    def blob_text(self, digest: str) -> bytes:
        """A small blob: a config."""
        ...

    def copy_blob(self, digest: str, target: Path) -> None:
        """Write a blob as a new file."""
        ...


class LayoutSource:
    """An OCI image layout. Its blobs are found by their names, whatever its index.json lists."""

    def __init__(self, layout: Path) -> None:
        self._layout = layout

    def document(self, digest: str) -> bytes:
        """A manifest or an index."""
        if not os.path.isdir(self._layout):
            raise ToolError(f"{self._layout}: there is no such directory, which should be an OCI image layout")
        return layout_files.read(self._layout, layout_files.blob_name(digest, "the base's digest"))

    def prepare(self, manifest: str) -> None:
        """All is there."""

    def blob_text(self, digest: str) -> bytes:
        """A small blob: a config."""
        return self.document(digest)

    def copy_blob(self, digest: str, target: Path) -> None:
        """Write a blob as a new file."""
        name = layout_files.blob_name(digest, "a layer's digest")
        with layout_files.opened(self._layout, name) as descriptor, open(target, "xb") as out:
            with open(os.dup(descriptor), "rb") as blob:
                shutil.copyfileobj(blob, out, 1 << 20)


class RegistrySource:
    """A registry, as skopeo asks it, with its user's credentials. A context: what was fetched goes at its end."""

    def __init__(self, request: FetchImageRequest) -> None:
        self._request = request
        self._env = _environment(request["handover"])
        self._directory: Optional[tempfile.TemporaryDirectory[str]] = None

    def __enter__(self) -> "RegistrySource":
        # In the sandbox: an image may be larger than what memory or /tmp holds.
        self._directory = tempfile.TemporaryDirectory(prefix="fetched-", dir=".")
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def document(self, digest: str) -> bytes:
        """A manifest or an index."""
        return self._skopeo("inspect", self._tls(""), "--raw", self._reference(digest))

    def prepare(self, manifest: str) -> None:
        """Fetch what a manifest names: a `dir:` keeps all of it byte for byte, a layout would not."""
        self._skopeo("copy", self._tls("src-"), "--preserve-digests", self._reference(manifest), f"dir:{self._fetched}")

    def blob_text(self, digest: str) -> bytes:
        """A small blob: a config."""
        with open(self._fetched / hex_of(digest), "rb") as file:
            return strict_json.read_descriptor(file.fileno(), f"the blob {digest}")

    def copy_blob(self, digest: str, target: Path) -> None:
        """Write a blob as a new file."""
        try:
            # Of an image that has one layer several times skopeo fetches it once.
            shutil.copyfile(self._fetched / hex_of(digest), target)
        except FileNotFoundError:
            raise ToolError(f"skopeo did not fetch the blob {digest} of {self._request['place']}") from None

    @property
    def _fetched(self) -> Path:
        assert self._directory is not None
        return Path(self._directory.name, "image")

    def _reference(self, digest: str) -> str:
        return f"docker://{self._request['place']}@{digest}"

    def _tls(self, side: str) -> List[str]:
        # Said both ways: without the option, registries.conf may decide.
        found = [f"--{side}tls-verify={'true' if self._request['tls_verify'] else 'false'}"]
        if self._request["cert_dir"]:
            found.append(f"--{side}cert-dir={self._request['cert_dir']}")
        return found

    def _skopeo(self, command: str, tls: List[str], *arguments: str) -> bytes:
        # The policy says whose signatures images must bear; this one is known by its digest.
        argv = ["skopeo", "--insecure-policy", command, f"--retry-times={_RETRIES}", *tls, *arguments]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=self._env, check=False)
        except OSError as error:
            raise ToolError(
                f"to fetch a base from a registry, skopeo is run, which does not start ({error.strerror}): "
                "`apt-get install skopeo` (as root)"
            ) from None
        if done.returncode != 0:
            raise ToolError(self._failure(done.stderr.decode(errors="replace")))
        return done.stdout

    def _failure(self, text: str) -> str:
        said = reason(text, self._env)
        place, lower = self._request["place"], said.lower()
        host = place.partition("/")[0]
        hint = "Is it there, and does this machine reach it? Behind no network, name a layout: `oci:DIRECTORY`."
        if any(word in lower for word in ("unauthorized", "authentication required", "denied")):
            hint = f"Log in first: `skopeo login {host}` (or `podman login`, `docker login`)."
        elif "x509" in lower or "server gave http response" in lower:
            hint = (
                f'Add an entry with `address = "{host}"` to `[oci-publish].registries`, with a `cert_dir` for an authority of '
                "your own, or with `tls_verify = false`."
            )
        return f"{place}@{self._request['digest']} cannot be fetched: {said}\n{hint}"


def reason(text: str, env: Mapping[str, str]) -> str:
    """What skopeo ended with, of what it printed, without what is nobody else's business."""
    text = passwords.hide_proxies(text, env)
    messages = _MESSAGE.findall(text) or [line for line in text.splitlines() if line.strip()]
    said = messages[-1].replace('\\"', '"').strip() if messages else "skopeo ended without a message"
    return "".join(letter if letter.isprintable() else "?" for letter in _SIGNED.sub("?...", said)[:_LONGEST])


def _environment(path: str) -> Dict[str, str]:
    """The environment for skopeo. Raises ToolError where the file that has it is not there."""
    if not path:
        return dict(os.environ)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        raise ToolError(
            "the credentials of registries are on the machine that runs Pants, and not here: a base from a registry cannot be "
            "fetched by a remote worker"
        ) from None
    value = strict_json.parse_object(content, "the environment of skopeo", escaped_bytes=True)
    check(value, Handover, "the environment of skopeo")
    found: Dict[str, str] = value["env"]
    return {**os.environ, **found}
