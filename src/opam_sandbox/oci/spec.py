"""Names of the OCI image-spec 1.1: media types of manifests, files of a layout, annotations.

The media types of layers are `layer.compress.Packing.media_type`: what builds packages needs no manifests.
"""

from __future__ import annotations

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# What other tools may have put into a layout.
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"

REF_NAME = "org.opencontainers.image.ref.name"

LAYOUT_FILE = "oci-layout"
LAYOUT_VERSION = "1.0.0"
LAYOUT = {"imageLayoutVersion": LAYOUT_VERSION}
INDEX_FILE = "index.json"
