"""`push`: an image to one reference of a registry."""

from __future__ import annotations

import argparse
from pathlib import Path

from opam_sandbox.publishing import oci, skopeo
from opam_sandbox.request import Request


def run(options: argparse.Namespace) -> int:
    request = Request.read(options.request)
    layout = Path(request.get("image", str))
    image, _ = oci.image_and_referrers(layout)
    destination = skopeo.Destination(
        request.get("reference", str), request.get("tls_verify", bool), request.get_or("cert_dir", "")
    )
    with oci.lone_image(layout, image) as lone:
        skopeo.push(request.get("skopeo", str), lone, image["digest"], destination, request.get("retries", int))
    print(f"{destination.reference}@{image['digest']}")
    return 0
