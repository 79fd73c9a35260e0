"""`push`: an image and what is about it to one reference of a registry.

skopeo sends the image. What it cannot do is done before it starts: blobs are mounted from siblings that others than itself have
seen, and referrers are sent. So whatever fails leaves the tag as it was.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, List

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci import layout_files
from opam_sandbox.publishing import plan as planning
from opam_sandbox.publishing import skopeo
from opam_sandbox.publishing.contents import Contents, contents
from opam_sandbox.publishing.push_referrers import send_referrers
from opam_sandbox.publishing.requests import PushRequest
from opam_sandbox.registry import manifests
from opam_sandbox.registry.client import Access, Client, repository_in
from opam_sandbox.registry.known import Known
from opam_sandbox.request import read_request


def run(options: argparse.Namespace) -> int:
    """Push as `options.request`, a file, says. Returns the exit status; raises ToolError."""
    request: PushRequest = read_request(options.request, PushRequest)
    layout = Path(request["image"])
    whole = contents(layout)
    reference, digest = request["reference"], whole.image["digest"]
    said = _look_again(request, whole) if request.get("current") else _push(request, layout, whole)
    print(f"{reference}: {said}", file=sys.stderr)
    print(f"{reference}@{digest}")
    return 0


def _access(request: PushRequest) -> Access:
    host = request["reference"].split("/", 1)[0]
    return Access(host, request["tls_verify"], request.get("cert_dir", ""), request["retries"])


def _repository(request: PushRequest) -> str:
    host, _, path = request["reference"].rpartition(":")[0].partition("/")
    return repository_in(host, path)


def _look_again(request: PushRequest, whole: Contents) -> str:
    """The plan may be older than the run of another build. Returns what is said; raises ToolError where the tag has moved."""
    reference = request["reference"]
    try:
        with planning.connected(_access(request), _repository(request)) as client:
            found = manifests.digest_at(client, _repository(request), reference.rpartition(":")[2])
            requests = request.get("requests", 0) + client.connections.exchanges
    except ToolError as error:
        raise ToolError(f"{reference} is not known to be in the registry, as it had been before: {error}") from None
    if found != whole.image["digest"]:
        raise ToolError(
            f"{reference} was {whole.image['digest']} when the registry was first asked, and is {found or 'nothing'} now. "
            "Somebody else has written it: publish again."
        )
    return f"the registry has it already, with all {len(whole.blobs)} blobs; nothing was sent ({requests} requests)"


def _push(request: PushRequest, layout: Path, whole: Contents) -> str:
    """Returns what it took, for people."""
    reference = request["reference"]
    destination = skopeo.Destination(reference, request["tls_verify"], request.get("cert_dir", ""))
    repository = _repository(request)
    known = Known(Path(request["known"]) if request.get("known") else None, destination.host)
    there = set(request.get("there", []))
    prepared, unplanned = None, request.get("unplanned", "")
    if not unplanned:
        try:
            with planning.connected(_access(request), repository) as client:
                prepared = _prepare(client, repository, whole, known)
                _check_there(prepared, there, client)
                send_referrers(client, repository, layout, whole)
        except ToolError as error:
            if prepared is not None or there:
                raise ToolError(f"{reference} was not pushed, and its tag is as it was: {error}") from None
            unplanned = str(error)  # skopeo has all that it needs, and perhaps another way
    with oci.lone_image(layout, whole.image, without=there) as lone:
        skopeo.push(request["skopeo"], lone, whole.image["digest"], destination, request["retries"])
    known.add(whole.blobs, repository)
    if prepared is not None:
        return _report(layout, whole, prepared)
    if whole.referrers:
        print(
            f"warning: {reference} was pushed without what is about it (its SBOMs), as skopeo does not send it: {unplanned}",
            file=sys.stderr,
        )
    return f"pushed by skopeo alone, with all layers at hand: {unplanned}"


@dataclass(frozen=True)
class _Prepared:
    """Digests of the image's blobs that are left to skopeo; how many others were mounted."""

    missing: List[str]
    mounted: int


def _prepare(client: Client, repository: str, whole: Contents, known: Known) -> _Prepared:
    """Ask again, as what the plan found may be long ago, and mount. Raises RegistryError."""
    lacking = planning.lacks(client, repository, list(whole.blobs.values()))
    missing = planning.mounted(client, repository, lacking, known)
    return _Prepared([one["digest"] for one in missing], len(lacking) - len(missing))


def _check_there(prepared: _Prepared, there: Collection[str], client: Client) -> None:
    gone = next((digest for digest in prepared.missing if digest in there), "")
    if gone:
        raise ToolError(
            f"{client.access.host} had the blob {gone} when it was first asked, and has it no more. Publish again."
        )


def _report(layout: Path, whole: Contents, prepared: _Prepared) -> str:
    sent = sum(whole.blobs[digest]["size"] for digest in prepared.missing)
    held = [
        one["size"]
        for digest, one in whole.blobs.items()
        if layout_files.size_of(layout, layout_files.blob_name(digest, str(layout))) >= 0
    ]
    siblings = f", {prepared.mounted} mounted from other repositories" if prepared.mounted else ""
    return (
        f"{len(prepared.missing)} of {len(whole.blobs)} blobs sent ({sent:,} bytes){siblings}; "
        f"{len(held)} taken from Pants' cache ({sum(held):,} bytes)"
    )
