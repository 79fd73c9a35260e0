"""Sends what is about an image: manifests that name it as their subject, and their documents (OCI 1.1 referrers)."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from opam_sandbox.oci import layout as oci
from opam_sandbox.oci.layout import Descriptor
from opam_sandbox.publishing import plan as planning
from opam_sandbox.publishing.contents import Contents
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Client
from opam_sandbox.registry.errors import PassingError, RegistryError
from opam_sandbox.registry.known import Known


def send_referrers(client: Client, repository: str, layout: Path, whole: Contents, known: Known) -> None:
    """To the repository, where they are not there yet; the registry lists them, or else a tag does. Raises ToolError.

    What a sibling has is mounted: all of them have an empty configuration in common.

    They may be sent before the image (distribution-spec, "Pushing Manifests with Subject"), so that whoever pulls it finds them.
    """
    if not whole.referrers or manifests.lists_all(client, repository, whole.image["digest"], whole.referrers):
        return
    try:
        send_all(client, repository, layout, whole, known)
    except PassingError:
        raise
    except RegistryError as error:
        raise RegistryError(
            f"{error}\nNothing was pushed under a tag: the registry does not take what is about the image (its SBOMs and its "
            'provenance, as OCI artifacts). With `sbom="files"` in the image\'s target, and `provenance` not "attached", it is '
            "pushed alone.",
            error.status,
        ) from None


def send_all(client: Client, repository: str, layout: Path, whole: Contents, known: Known) -> None:
    """Documents first, then the manifests, which are listed. Raises ToolError."""
    lacking = planning.lacks(client, repository, list(whole.about.values()))
    for one in planning.mounted(client, repository, lacking, known):
        path = oci.checked_blob(layout, one)
        blobs.upload(client, repository, one["digest"], str(path), one["size"])
    known.add(whole.about, repository)
    listed = [
        manifests.put(client, repository, one["digest"], one["mediaType"], oci.checked_blob(layout, one).read_bytes())
        for one in whole.referrers
    ]
    if not all(listed):
        described = [_described(layout, one) for one in whole.referrers]
        manifests.list_by_tag(client, repository, whole.image["digest"], described)


def _described(layout: Path, referrer: Descriptor) -> Dict[str, object]:
    """The entry for a referrer in a list of them (distribution-spec, "Listing referrers")."""
    manifest = oci.read_manifest(layout, referrer)
    entry: Dict[str, object] = {key: referrer[key] for key in ("mediaType", "digest", "size")}
    entry["artifactType"] = manifest.get("artifactType") or manifest["config"]["mediaType"]
    if manifest.get("annotations"):
        entry["annotations"] = manifest["annotations"]
    return entry
