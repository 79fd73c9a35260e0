"""`sign`: has a program sign the image that a repository of a registry has, once.

A signature is for the digest that was built, whatever a tag is by then. It counts when the public key says that it is valid: that
is asked before, so that nothing is signed twice, and afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Dict, List, Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.publishing import plan as planning
from opam_sandbox.publishing import signer_program
from opam_sandbox.publishing.contents import contents
from opam_sandbox.publishing.requests import SignRequest
from opam_sandbox.publishing.signer_program import Ended, Environment
from opam_sandbox.publishing.signers import Signed, sign_argv, verify_argv
from opam_sandbox.publishing.skopeo import last_line
from opam_sandbox.registry import manifests
from opam_sandbox.registry.client import Access, repository_in
from opam_sandbox.request import read_request
from opam_sandbox.sandbox.scratch import temporary


def run(options: argparse.Namespace) -> int:
    """Sign as `options.request`, a file, says. Returns the exit status; raises ToolError where something is left unsigned."""
    request: SignRequest = read_request(options.request, SignRequest)
    layout = Path(request["image"])
    whole = contents(layout)
    if whole.image["digest"] != request["digest"]:
        raise ToolError(f"{layout} should hold the image {request['digest']}, but holds {whole.image['digest']}")
    wanted = [whole.image, *(whole.referrers if request.get("attached") else ())]
    digests = [one["digest"] for one in wanted]
    there = _there(request, digests)
    if there is not None and digests[0] not in there:
        raise ToolError(
            f"{_reference(request, digests[0])} is not in the registry, and so it is not signed. Publish it first."
        )
    environment = Environment(dict(os.environ), request.get("password", ""), request.get("secrets", []))
    failed: Dict[str, str] = {}
    for number, one in enumerate(wanted):
        reference = _reference(request, one["digest"])
        # What is about an image was not pushed where the registry could not be asked.
        if number and (there is None or one["digest"] not in there):
            print(f"warning: {reference} is about the image, but was not pushed, and is not signed", file=sys.stderr)
            continue
        layers = [layer["digest"] for layer in oci.read_manifest(layout, one).get("layers", [])]
        try:
            said = _sign(request, Signed(reference, layers), environment)
            print(f"{reference}: {environment.public(said)}", file=sys.stderr, flush=True)
        except ToolError as error:
            failed[reference] = str(error)
    if failed:
        pushed = "was pushed, and is" if there is not None else "is"
        raise ToolError(environment.public(_unsigned(request, failed, pushed)))
    print(_reference(request, digests[0]))
    return 0


def _reference(request: SignRequest, digest: str) -> str:
    return f"{request['repository']}@{digest}"


def _there(request: SignRequest, digests: List[str]) -> Optional[List[str]]:
    """Which manifests the registry has; None where it cannot be asked in this way, but perhaps by the programs."""
    host, _, path = request["repository"].partition("/")
    repository = repository_in(host, path)
    access = Access(host, request["tls_verify"], request.get("cert_dir", ""), request["retries"])
    try:
        with planning.connected(access, repository) as client:
            return [one for one in digests if manifests.digest_at(client, repository, one) == one]
    except ToolError:
        return None


def _sign(request: SignRequest, subject: Signed, environment: Environment) -> str:
    """Returns what was done, for people. Raises ToolError where there is no valid signature in the end."""
    program = os.path.basename(request["sign"][0])
    key = f" of {request['public_key']}" if request.get("public_key") else ""
    before = _verify(request, subject, environment)
    if before.code == 0:
        return f"has a valid signature{key} already, and is not signed again"
    with temporary() as work:
        done = signer_program.run(sign_argv(request, subject, work), environment, request.get("directory", ""))
    if done.code != 0:
        raise ToolError(f"{_said(program, done)}{_hint(request, done, environment)}")
    after = _verify(request, subject, environment)
    if after.code != 0:
        verifier = os.path.basename(request["verify"][0])
        raise ToolError(
            f"{program} signed it, but there is no valid signature{key}: {_said(verifier, after)}"
            + (" Are the two keys a pair?" if key else "")
        )
    return f"signed by {program}; the signature{key} is valid (before: {last_line(before.text)})"


def _verify(request: SignRequest, subject: Signed, environment: Environment) -> Ended:
    if request["signer"] == "skopeo":
        environment = environment.without_password()
    with temporary() as work:
        return signer_program.run(verify_argv(request, subject, work), environment, request.get("directory", ""))


def _said(program: str, ended: Ended) -> str:
    how = f"exit status {ended.code}" if ended.code >= 0 else f"signal {-ended.code}"
    lines = [line.strip() for line in ended.text.splitlines() if line.strip()]
    return f"{program} ended with {how}: {last_line(ended.text)[:1000] if lines else 'it said nothing'}"


def _hint(request: SignRequest, ended: Ended, environment: Environment) -> str:
    if "sigstore disabled" in ended.text:
        return "\nDebian 12's skopeo is built without sigstore's signatures; Debian 13's has them."
    name = environment.password
    if name and name not in environment.values and request["signer"] != "command":
        return f"\nThe variable {name}, for the password of the private key, is not set."
    return ""


def _unsigned(request: SignRequest, failed: Dict[str, str], pushed: str) -> str:
    reasons = "\n".join(f"{reference} {pushed} NOT signed: {reason}" for reference, reason in failed.items())
    again = request.get("again", "")
    return reasons + (f"\nWhen that is mended, `{again}` signs it, and sends nothing again." if again else "")
