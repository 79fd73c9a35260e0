"""Asks skopeo for what it knows of an image, or for its blobs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Sequence

from opam_sandbox import passwords
from opam_sandbox.comparing.requests import RegistryReference
from opam_sandbox.errors import ToolError

# What passes, skopeo tries so often again.
_RETRIES = 3
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


def inspect(name: str, reference: RegistryReference, source: str, *words: str) -> bytes:
    """What `skopeo inspect --raw` prints. source: the reference's, or another image of the same place. Raises ToolError."""
    return _run(name, reference, "read", ["inspect", "--raw", *words, *_access(reference, ""), source])


def copy_blobs(name: str, reference: RegistryReference, layout: Path) -> None:
    """Copy an image's blobs as they are; those that the layout has are not fetched. Raises ToolError."""
    # Layers that are not compressed would be compressed else.
    words = ["copy", "--quiet", "--dest-oci-accept-uncompressed-layers", *_access(reference, "src-")]
    _run(name, reference, "fetched", [*words, reference["source"], f"oci:{layout}:image"])


def _access(reference: RegistryReference, prefix: str) -> Sequence[str]:
    # Said both ways: without the option, registries.conf may decide.
    verify = "true" if reference["tls_verify"] else "false"
    words = [f"--retry-times={_RETRIES}", f"--{prefix}tls-verify={verify}"]
    return [*words, *([f"--{prefix}cert-dir={reference['cert_dir']}"] if reference["cert_dir"] else [])]


def _run(name: str, reference: RegistryReference, done: str, words: Sequence[str]) -> bytes:
    # The policy says whose signatures images must bear: here it is looked at what an image is, and nothing of it is run.
    argv = [reference["skopeo"], "--insecure-policy", *words]
    try:
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise ToolError(f"{reference['skopeo']} does not start: {error.strerror}") from None
    if result.returncode != 0:
        raise ToolError(f"{name} cannot be {done}: {_reason(result.stderr.decode(errors='replace'))}")
    return result.stdout


def _reason(text: str) -> str:
    """What skopeo ended with, without the frame that its logger puts around it, and without passwords of proxies."""
    text = passwords.hide_proxies(text, os.environ)
    messages = _MESSAGE.findall(text)
    lines = messages or [line for line in text.splitlines() if line.strip()]
    last = _printable(str(lines[-1]).replace('\\"', '"').strip())[:1000] if lines else "skopeo ended without a message"
    low = last.lower()
    if "unauthorized" in low or "authentication required" in low or "denied" in low:
        return f"{last}. Log in first: `skopeo login`, `podman login` or `docker login`"
    if "http response to https client" in low:
        return f"{last}. It speaks no TLS: set `tls_verify = false` for this registry in `[oci-publish].registries`"
    return last


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
