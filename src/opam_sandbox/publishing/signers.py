"""How programs are called that sign an image and that verify signatures: skopeo, or commands of the user's.

skopeo makes sigstore's signatures, and keeps them under the tag `sha256-DIGEST.sig`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

from opam_sandbox.oci.layout_files import BLOBS, blob_name
from opam_sandbox.oci.spec import LAYOUT, LAYOUT_FILE
from opam_sandbox.publishing.requests import SignRequest

# Stands in arguments for the file that a password is read from.
PASSWORD_FILE = "{password file}"
_REFERENCE = "{reference}"


@dataclass(frozen=True)
class Signed:
    """What is signed: a manifest in a registry. `reference` is HOST/PATH@DIGEST, `layers` the digests of its layers."""

    reference: str
    layers: Sequence[str]


def sign_argv(request: SignRequest, subject: Signed, work: Path) -> List[str]:
    """The command that signs. `work`: an empty directory of this user's, for files of the command."""
    program, *further = request["sign"]
    if request["signer"] == "skopeo":
        # A copy onto itself: the registry has all blobs, and so they are not sent.
        options = ["--preserve-digests", f"--retry-times={request['retries']}"]
        options += _skopeo_access(request, "src") + _skopeo_access(request, "dest")
        options += [f"--sign-by-sigstore-private-key={request['key']}", f"--sign-passphrase-file={PASSWORD_FILE}"]
        place = f"docker://{subject.reference}"
        first = [program, "--insecure-policy", f"--registries.d={_attachments(work)}", "copy"]
        return [*first, *options, *further, place, place]
    return _filled(request["sign"], subject)


def verify_argv(request: SignRequest, subject: Signed, work: Path) -> List[str]:
    """The command that ends with exit status 0 where the registry has a valid signature of the key."""
    program, *further = request["verify"]
    if request["signer"] == "skopeo":
        options = ["--remove-signatures", f"--retry-times={request['retries']}", *_skopeo_access(request, "src")]
        first = [
            program,
            f"--policy={_policy(work, request['public_key'])}",
            f"--registries.d={_attachments(work)}",
            "copy",
        ]
        return [*first, *options, *further, f"docker://{subject.reference}", f"oci:{_layout(work, subject)}:image"]
    return _filled(request["verify"], subject)


def _filled(command: Sequence[str], subject: Signed) -> List[str]:
    return [word.replace(_REFERENCE, subject.reference) for word in command]


def _skopeo_access(request: SignRequest, side: str) -> List[str]:
    found = [f"--{side}-tls-verify={'true' if request['tls_verify'] else 'false'}"]
    if request.get("cert_dir"):
        found.append(f"--{side}-cert-dir={request['cert_dir']}")
    return found


def _attachments(work: Path) -> Path:
    """Configuration for skopeo by which signatures lie in the registry itself."""
    directory = work / "registries.d"
    directory.mkdir(exist_ok=True)
    (directory / "signatures.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    return directory


def _policy(work: Path, public_key: str) -> Path:
    """A policy that takes what the key has signed as something of this repository, and nothing else."""
    signed = {
        "type": "sigstoreSigned",
        "keyPath": public_key,
        # A signature is for a digest, and names no tag.
        "signedIdentity": {"type": "matchRepository"},
    }
    path = work / "policy.json"
    path.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {"": [signed]}}}))
    return path


def _layout(work: Path, subject: Signed) -> Path:
    """A layout that has the layers, as empty files: skopeo fetches what is not there, and a signature says nothing of layers."""
    directory = work / "layout"
    (directory / BLOBS).mkdir(parents=True)
    (directory / LAYOUT_FILE).write_text(json.dumps(LAYOUT))
    for digest in subject.layers:
        (directory / blob_name(digest, subject.reference)).touch()
    return directory
