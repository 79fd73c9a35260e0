"""`push-about`: what is about an image, and not the image, to the repository that has it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opam_sandbox.errors import ToolError
from opam_sandbox.publishing import plan as planning
from opam_sandbox.publishing.contents import contents
from opam_sandbox.publishing.push_referrers import send_all
from opam_sandbox.publishing.requests import PushAboutRequest
from opam_sandbox.registry import manifests
from opam_sandbox.registry.client import Access, repository_in
from opam_sandbox.registry.known import Known
from opam_sandbox.request import read_request


def run(options: argparse.Namespace) -> int:
    """Push as `options.request`, a file, says. Returns the exit status; raises ToolError."""
    request: PushAboutRequest = read_request(options.request, PushAboutRequest)
    layout = Path(request["image"])
    whole = contents(layout)
    host, _, path = request["repository"].partition("/")
    repository, digest = repository_in(host, path), whole.image["digest"]
    access = Access(host, request["tls_verify"], request["cert_dir"], request["retries"])
    with planning.connected(access, repository) as client:
        if manifests.digest_at(client, repository, digest) != digest:
            raise ToolError(f"{request['repository']} does not have the image {digest}, which this is about")
        if manifests.lists_all(client, repository, digest, whole.referrers):
            said = "the registry has it already"
        else:
            send_all(client, repository, layout, whole, Known(None, host))
            said = "sent"
    for one in whole.referrers:
        print(f"{request['repository']}@{one['digest']}, about {digest}: {said}", file=sys.stderr)
    return 0
