"""A published image and its provenance, and what becomes of a statement about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping

from pants.base.build_environment import get_buildroot
from pants.engine.fs import CreateDigest, Digest, FileContent

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.compared_images import (
    ComparedImage,
    ComparedImagesError,
    ComparingError,
    described_image,
    field_set_of,
    host_platform,
    registry_env,
    run_comparing_tool,
)
from opam_oci.host.programs import find_python
from opam_oci.host.skopeo import skopeo_env
from opam_oci.image_reports.references import ImageReference, ImageReferenceError, is_reference, parse_reference
from opam_oci.images.config import CREATED
from opam_oci.images.image import OciImage
from opam_oci.images.manifest import attached
from opam_oci.images.oci_layout import OCI_LAYOUT, blob_json, image_of_index, index_json
from opam_oci.images.referrers import Document
from opam_oci.pants_engine.calls import create_digest, run_interactive_process
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.layer import blob_path
from opam_oci.sandbox.process import REQUEST_FILE, publishing_process, request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem
from opam_oci.verification.recorded import Recorded, RecordedError, recorded_of

if TYPE_CHECKING:
    from opam_sandbox.publishing.requests import PushAboutRequest

# Bytes: as many as are read of what is attached to an image.
_LARGEST = 16 << 20


async def published_image(text: str, publish: OciPublishSubsystem) -> ComparedImage:
    """The image that `--against` names. Raises ImageReferenceError, ComparingError."""
    if not is_reference(text):
        said = f"{text!r} is none" if text else "it is not set"
        raise ImageReferenceError(
            f"`--oci-verify-against` should name the published image, as `docker://registry.example.org/hello:1.0` or "
            f"`oci:DIRECTORY`, but {said}."
        )
    return await described_image(parse_reference(text, get_buildroot(), publish.registries), host_platform(), publish)


async def recorded_provenance(published: ComparedImage, path: str, publish: OciPublishSubsystem) -> Recorded:
    """What is attached to an image, or in a file (`path`, "" for none). Raises RecordedError, ComparingError."""
    name, manifest = published.record.name, published.record.manifest
    if path:
        return recorded_of(name, manifest, [(path, _read_file(path))])
    assert published.reference is not None
    request = {"name": name, "reference": published.reference.request(published.skopeo, manifest), "image": manifest}
    found = await run_comparing_tool("statements", request, {}, publish)
    origin = f"attached to {name}"
    return recorded_of(name, manifest, [(origin, one["text"].encode()) for one in found["statements"]])


def _read_file(path: str) -> bytes:
    try:
        with open(os.path.join(get_buildroot(), os.path.expanduser(path)), "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordedError(f"`--oci-verify-provenance` names {path!r}, which cannot be read: {reason}.") from None
    if len(content) > _LARGEST:
        raise RecordedError(f"`--oci-verify-provenance` names {path!r}, which has more than {_LARGEST:,} bytes.")
    return content


async def recorded_companions(
    recorded: Recorded, field_set: OciPackageImageFieldSet
) -> tuple[OciPackageImageFieldSet, ...]:
    """The images of a layout that the published image was grouped with, as this checkout has them. Raises RecordedError."""
    names = recorded.parameters.get("layout", [])
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise RecordedError(f"{recorded.origin}: its `layout` should be a list of addresses, but is {names!r:.100}.")
    if not names or field_set.shared_with.value:
        return ()
    try:
        return tuple([await field_set_of(f"//{name}", "oci-verify") for name in names])
    except ComparedImagesError as error:
        raise RecordedError(
            f"{recorded.origin}: its `layout` names what this checkout does not have: {error}"
        ) from None


async def about_layout(image: OciImage, document: Document) -> Digest:
    """A layout of an image without its layers, and of a document that is about it."""
    name = str(image.address)
    entry = image_of_index(name, image.index).descriptor
    config = (await blob_json(name, image.layout, entry))["config"]
    blobs: dict[str, bytes] = {}
    for one in (entry, config):
        blobs.update(await read_files(image.layout, blob_path(one["digest"])))
    referrer = attached(blobs, {key: entry[key] for key in ("mediaType", "digest", "size")}, document, CREATED)
    files = {"index.json": index_json([entry, referrer]), "oci-layout": OCI_LAYOUT, **blobs}
    return await create_digest(CreateDigest([FileContent(path, content) for path, content in sorted(files.items())]))


async def push_about(reference: ImageReference, layout: Digest, publish: OciPublishSubsystem) -> None:
    """Attach what a layout has about an image to that image in its registry. Raises ComparingError."""
    request: PushAboutRequest = {
        "image": "image",
        "repository": reference.repository.partition("://")[2],
        "tls_verify": reference.tls_verify,
        "cert_dir": reference.cert_dir,
        "retries": publish.retries,
    }
    values: Mapping[str, Any] = request
    process = publishing_process(
        await find_sandbox_tool(**implicitly()),
        find_python(),
        ["push-about", REQUEST_FILE],
        env=skopeo_env(await registry_env(publish)),
        image=layout,
        input_digest=await create_digest(CreateDigest([request_file(values)])),
    )
    if (await run_interactive_process(process)).exit_code != 0:
        raise ComparingError("")
