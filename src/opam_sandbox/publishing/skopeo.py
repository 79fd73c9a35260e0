"""Calls skopeo, and makes of what it says a decision (try again or not) and a message that helps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, List, Optional, Sequence

from opam_sandbox import passwords
from opam_sandbox.errors import ToolError
from opam_sandbox.registry.pauses import pauses
from opam_sandbox.sandbox.scratch import temporary


@dataclass(frozen=True)
class Destination:
    """A place in a registry: `reference` is HOST[:PORT]/PATH:TAG. cert_dir: certificates for this registry, as skopeo's
    --dest-cert-dir has it."""

    reference: str
    tls_verify: bool
    cert_dir: str

    @property
    def host(self) -> str:
        """HOST[:PORT]."""
        return self.reference.split("/", 1)[0]


def push(skopeo: str, layout: Path, digest: str, destination: Destination, retries: int) -> None:
    """Copy the only image of a layout, byte for byte. Raises ToolError when it is not there at the end.

    The manifest is sent last and under its tag: what fails before leaves the tag as it was. Blobs that a failed try left
    in the registry are not sent again.
    """
    for attempt, pause in zip(range(retries + 1), pauses()):
        with temporary() as directory:
            pushed = directory / "digest"
            done = _run(_argv(skopeo, layout, destination, pushed))
            if done.code == 0:
                _compare(pushed, digest, destination)
                return
        if done.code < 0 or attempt == retries or not _is_passing(done.text):
            break
        print(
            f"{destination.reference}: {last_line(done.text)}\n"
            f"Trying again in {pause:.0f} s ({attempt + 1} of {retries}).",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(pause)
    tries = f", tried {attempt + 1} times" if attempt else ""
    hint = _hint(done.text, destination)
    raise ToolError(
        f"{destination.reference} was not pushed{tries}, and its tag is as it was: {last_line(done.text)}"
        + (f"\n{hint}" if hint else "")
    )


def _argv(skopeo: str, layout: Path, destination: Destination, digestfile: Path) -> List[str]:
    # The policy says whose signatures images must bear that come from elsewhere; this one was made here.
    argv = [skopeo, "--insecure-policy", "copy", "--preserve-digests", f"--digestfile={digestfile}"]
    # Said both ways: without the option, registries.conf may decide.
    argv.append(f"--dest-tls-verify={'true' if destination.tls_verify else 'false'}")
    if destination.cert_dir:
        argv.append(f"--dest-cert-dir={destination.cert_dir}")
    return [*argv, f"oci:{layout}", f"docker://{destination.reference}"]


@dataclass(frozen=True)
class _Done:
    """How skopeo ended, and what it wrote to standard error."""

    code: int
    text: str


def _run(argv: Sequence[str]) -> _Done:
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise ToolError(f"{argv[0]} does not start: {error.strerror}") from None
    assert process.stderr is not None
    kept: List[bytes] = []
    reader = threading.Thread(target=_keep, args=(process.stderr, kept))
    reader.start()
    try:
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        reader.join()
    return _Done(process.returncode, _public(b"".join(kept).decode(errors="replace")))


def _keep(stream: BinaryIO, kept: List[bytes]) -> None:
    with stream:
        kept.extend(iter(lambda: stream.read(4096), b""))


def _public(text: str) -> str:
    """What skopeo says, without the proxies' passwords: it shows an address whole that it cannot read."""
    return passwords.hide_proxies(text, os.environ)


def _compare(digestfile: Path, digest: str, destination: Destination) -> None:
    try:
        found = digestfile.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise ToolError(f"skopeo does not say what it pushed to {destination.reference}: {error.strerror}") from None
    if found != digest:
        raise ToolError(f"{destination.reference} was pushed as {found}, but the image is {digest}")


_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


def last_line(text: str) -> str:
    """What skopeo ended with, without the frame that its logger puts around it."""
    messages = _MESSAGE.findall(text)
    if messages:
        return str(messages[-1]).replace('\\"', '"').replace("\\n", " ").strip()
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "skopeo ended without a message"


# What another try does not mend.
_LASTING = re.compile(
    r"unauthorized|authentication required|\bdenied\b|forbidden|x509|server gave HTTP response|no such host"
    r"|invalid reference|unsupported|manifest invalid|status 40[0-7]|no space left",
    re.IGNORECASE,
)


def _is_passing(text: str) -> bool:
    return not _LASTING.search(last_line(text))


def _hint(text: str, destination: Destination) -> Optional[str]:
    message = last_line(text).lower()
    if "unauthorized" in message or "authentication required" in message or "denied" in message:
        login = f"skopeo login {destination.host}" + ("" if destination.tls_verify else " --tls-verify=false")
        return (
            f"Log in first: `{login}` (or `podman login`, `docker login`). Credentials are read from "
            f"{_auth_file()} and from docker's configuration."
        )
    if "x509" in message:
        return (
            "Its certificate is of an authority that this machine does not know: set `cert_dir` of this registry in "
            "`[oci-publish].registries` to a directory that holds the authority's certificate as `ca.crt`."
        )
    if "server gave http response" in message:
        return "It speaks no TLS: set `tls_verify = false` for this registry in `[oci-publish].registries`."
    return None


def _auth_file() -> str:
    if "REGISTRY_AUTH_FILE" in os.environ:
        return f"{os.environ['REGISTRY_AUTH_FILE']} (REGISTRY_AUTH_FILE)"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    return f"{runtime}/containers/auth.json" if "XDG_RUNTIME_DIR" in os.environ else f"{runtime}/auth.json"
