"""`push`: an image to one reference of a registry."""

from __future__ import annotations

import argparse
from pathlib import Path

from opam_sandbox.oci import layout as oci
from opam_sandbox.publishing import skopeo
from opam_sandbox.publishing.requests import PushRequest
from opam_sandbox.request import read_request


def run(options: argparse.Namespace) -> int:
    """Push as `options.request`, a file, says. Returns the exit status; raises ToolError."""
    request: PushRequest = read_request(options.request, PushRequest)
    layout = Path(request["image"])
    image, _ = oci.image_and_referrers(layout)
    destination = skopeo.Destination(request["reference"], request["tls_verify"], request.get("cert_dir", ""))
    with oci.lone_image(layout, image) as lone:
        skopeo.push(request["skopeo"], lone, image["digest"], destination, request["retries"])
    print(f"{destination.reference}@{image['digest']}")
    return 0
