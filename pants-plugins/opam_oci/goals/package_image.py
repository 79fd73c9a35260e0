"""`package` for `oci_package_image`."""

from __future__ import annotations

from typing import Iterable

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, PackageFieldSet
from pants.engine.fs import EMPTY_DIGEST, AddPrefix, FileEntry, MergeDigests
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.dist_paths import claim_output
from opam_oci.goals.kept_output import written_or_kept
from opam_oci.images.archive import as_archive, renamed, repository_name
from opam_oci.images.image import ImageRequest, OciImage, make_image
from opam_oci.images.stored_files import verified
from opam_oci.pants_engine.calls import add_prefix, executing_goals, get_digest_entries, merge_digests
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule


def log_lines(image: OciImage) -> Iterable[str]:
    """What `package` prints below the path."""
    yield f"manifest {image.manifest}"
    size = sum(layer.size for layer in image.layers)
    yield f"{pluralize(len(image.layers), 'layer')}, {size:,} bytes compressed"


@rule(desc="Package opam packages as an OCI image", level=LogLevel.DEBUG)
async def package_image(field_set: OciPackageImageFieldSet) -> BuiltPackage:
    """An image as a layout or an archive, and the documents about it beside it. Raises SameOutputPathError."""
    if field_set.skip_push.value and (await executing_goals()).is_running("publish"):
        # `publish` asks for packages before it asks whether they are wanted.
        return BuiltPackage(EMPTY_DIGEST, ())
    kind = field_set.format.value
    path = field_set.output_path.value_or_default(file_ending=None if kind == "oci" else "tar")
    await claim_output(field_set.address, path)  # Before anything is built.
    image = await make_image(ImageRequest(field_set, for_docker=kind == "docker-archive"), **implicitly())
    lines = tuple(log_lines(image))
    if kind == "oci":
        digest = await add_prefix(AddPrefix(image.layout, path))
    else:
        tag = f"{repository_name(field_set.address)}:latest"
        # An archive of what is damaged would be whole.
        layout = await verified(image.layout, f"image {field_set.address}")
        archive = await as_archive(kind, f"Write {field_set.address} as {kind}", layout, {tag: image})
        digest = await renamed(archive, path, {"image.tar": ""})
    stem = path[: -len(".tar")] if path.endswith(".tar") else path
    suffixes = {
        "sbom.spdx.json": ".spdx.json",
        "sbom.cdx.json": ".cdx.json",
        "provenance.json": ".provenance.json",
    }
    documents = await renamed(image.documents, stem, suffixes)
    artifacts = [BuiltPackageArtifact(path, lines)]
    artifacts += [
        BuiltPackageArtifact(entry.path)
        for entry in await get_digest_entries(documents)
        if isinstance(entry, FileEntry)
    ]
    await claim_output(field_set.address, *(artifact.relpath or "" for artifact in artifacts))
    whole = await merge_digests(MergeDigests([digest, documents]))
    return await written_or_kept(whole, tuple(artifacts), f"image {field_set.address}")


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciPackageImageFieldSet)]
