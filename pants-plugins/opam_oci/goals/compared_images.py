"""Two images of a comparison: those of targets are made, those of layouts and registries are asked what they are."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence

from pants.base.build_environment import get_buildroot
from pants.engine.addresses import UnparsedAddressInputs
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import EMPTY_DIGEST, CreateDigest, Digest, DigestSubset, PathGlobs

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.reported_images import record_of_image, request_of_image
from opam_oci.host.programs import ProgramRequest, env_names, find_python, look_for_program
from opam_oci.host.skopeo import SKOPEO_ENV, SKOPEO_MINIMUM, skopeo_env
from opam_oci.image_reports.differences import Difference
from opam_oci.image_reports.file_differences import (
    FileDifferences,
    compared_layers,
    others,
    pairs,
    read_file_differences,
)
from opam_oci.image_reports.records import ImageRecord, LayerRecord, read_image
from opam_oci.image_reports.references import ImageReference, is_reference, parse_reference
from opam_oci.images.image import OciImage, make_image
from opam_oci.images.oci_layout import blob_json, image_of_index
from opam_oci.pants_engine.calls import (
    addresses_of,
    create_digest,
    digest_subset_to_digest,
    environment_vars,
    run_interactive_process,
    targets_of,
)
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.layer import blob_path
from opam_oci.sandbox.process import comparing_process, request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem

if TYPE_CHECKING:
    from opam_sandbox.comparing.requests import ImageOfDiff

# What image configurations call machines, where `uname` calls them otherwise.
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class ComparedImagesError(Exception):
    """The command line does not name two images."""


class ComparingError(Exception):
    """The tool has failed. The message is "" where it has said why."""


@dataclass(frozen=True)
class ComparedImage:
    """One of the two. layout: with all blobs of a target's image; reference: of one that is no target. skopeo: its path, ""
    where it is not needed. manifest: its JSON."""

    record: ImageRecord
    layout: Digest = EMPTY_DIGEST
    reference: ImageReference | None = None
    skopeo: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False)


async def field_set_of(name: str, goal: str) -> OciPackageImageFieldSet:
    """Of an image's address on the command line of a goal. Raises ComparedImagesError, and what Pants says of addresses."""
    origin = f"the command line of `{goal}`"
    request = UnparsedAddressInputs([name], owning_address=None, description_of_origin=origin)
    targets = await targets_of(await addresses_of(request))
    found = [target for target in targets if OciPackageImageFieldSet.is_applicable(target)]
    if not found:
        raise ComparedImagesError(
            f"{name} is no `oci_package_image`. An image of a layout or an index is named as `oci:DIRECTORY:TAG`, behind `--`, "
            "once `package` has written it."
        )
    if len(found) > 1:
        listed = ", ".join(sorted(str(target.address) for target in found))
        raise ComparedImagesError(f"{name} is {len(found)} images: {listed}. Name one of them.")
    return OciPackageImageFieldSet.create(found[0])


async def registry_env(publish: OciPublishSubsystem) -> Mapping[str, str]:
    """The user's environment, as far as skopeo and the tool's client of registries need it."""
    return await environment_vars(EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)]))


async def run_comparing_tool(
    command: str, request: Mapping[str, Any], layouts: Mapping[str, Digest], publish: OciPublishSubsystem
) -> dict[str, Any]:
    """What a command of the tool writes. Raises ComparingError."""
    tool = await find_sandbox_tool(**implicitly())
    environment = await registry_env(publish)
    with tempfile.TemporaryDirectory(prefix="opam-oci-diff-") as directory:
        output = os.path.join(directory, "found.json")
        files = CreateDigest([request_file({**request, "output": output})])
        process = comparing_process(
            tool, find_python(), command, await create_digest(files), layouts, env=skopeo_env(environment)
        )
        result = await run_interactive_process(process)
        if result.exit_code != 0:
            raise ComparingError(
                "" if result.exit_code == 1 else f"`{command}` ended with exit status {result.exit_code}."
            )
        with open(output, "rb") as file:
            return parse_object(file.read(), f"What `{command}` wrote", ComparingError)


async def described_image(
    reference: ImageReference, of_platform: tuple[str, str], publish: OciPublishSubsystem
) -> ComparedImage:
    """Asks a layout or a registry for manifest and configuration. of_platform: (os, architecture), chosen of an index."""
    skopeo = ""
    if reference.repository:
        environment = await registry_env(publish)
        wanted = ProgramRequest(
            ("skopeo",), environment.get("PATH", ""), f"Reading {reference.text}", "skopeo", SKOPEO_MINIMUM
        )
        skopeo = (await look_for_program(wanted, **implicitly())).path
    request = {
        "name": reference.text,
        "reference": reference.request(skopeo),
        "os": of_platform[0],
        "architecture": of_platform[1],
    }
    found = await run_comparing_tool("describe", request, {}, publish)
    record = read_image(reference.text, found["digest"], found["manifest"], found["config"])
    return ComparedImage(record, reference=reference, skopeo=skopeo, manifest=found["manifest"])


async def made_image(image: OciImage) -> ComparedImage:
    """An image that was made here."""
    name = str(image.address)
    manifest = await blob_json(name, image.layout, image_of_index(name, image.index).descriptor)
    return ComparedImage(await record_of_image(image), layout=image.layout, manifest=manifest)


async def compared_images(names: Sequence[str], publish: OciPublishSubsystem) -> tuple[ComparedImage, ComparedImage]:
    """The two images of these names, addresses or references. Raises ComparedImagesError, ImageReferenceError, what cannot be
    built or is missing here, and ComparingError."""
    if len(names) != 2:
        said = f"the command line names {len(names)}" if names else "the command line names none"
        raise ComparedImagesError(
            f"`oci-diff` compares two images, but {said}: `oci-diff images:a images:b`, or "
            "`oci-diff -- docker://registry.example.org/hello:1.0 images:hello`."
        )
    references = {
        name: parse_reference(name, get_buildroot(), publish.registries) for name in names if is_reference(name)
    }
    field_sets = [await field_set_of(name, "oci-diff") for name in names if name not in references]
    images = await concurrently(make_image(request_of_image(one), **implicitly()) for one in field_sets)
    made = [await made_image(image) for image in images]
    platforms = [_platform_of(one.record) for one in made]
    found: list[ComparedImage] = []
    for name in names:
        if name not in references:
            found.append(made.pop(0))
            continue
        found.append(await described_image(references[name], platforms[0] if platforms else host_platform(), publish))
        platforms = platforms or [_platform_of(found[-1].record)]
    return found[0], found[1]


def host_platform() -> tuple[str, str]:
    """(os, architecture) of this machine, as image configurations call them."""
    machine = platform.machine()
    return "linux", _MACHINES.get(machine, machine)


def _platform_of(record: ImageRecord) -> tuple[str, str]:
    system, _, machine = record.platform.partition("/")
    return (system, machine.partition("/")[0]) if machine else host_platform()


async def _blobs_of(layout: Digest, layers: Iterable[LayerRecord | None]) -> Digest:
    paths = [blob_path(layer.digest) for layer in layers if layer is not None]
    return await digest_subset_to_digest(DigestSubset(layout, PathGlobs(paths)))


async def compare_files(
    images: tuple[ComparedImage, ComparedImage],
    difference: Difference,
    publish: OciPublishSubsystem,
    *,
    repacked: bool = False,
) -> FileDifferences:
    """In which files the layers differ that are not the same. repacked: layers that are said to be compressed otherwise are
    looked at as well, whether they are. Raises ComparingError."""
    numbered = compared_layers(difference, repacked)
    layers = [one for _, one in numbered]
    if not layers:
        return FileDifferences(())
    layouts: dict[str, Digest] = {}
    sides: list[ImageOfDiff] = []
    wanted = ([one.before for one in layers], [one.after for one in layers])
    for place, image, own in zip(("first", "second"), images, wanted):
        name = image.record.name
        if image.reference is None:
            layouts[place] = await _blobs_of(image.layout, own)
            sides.append({"name": name, "reference": {"kind": "layout", "path": place, "wanted": ""}, "others": []})
        else:
            asked = image.reference.request(image.skopeo, image.record.manifest)
            sides.append({"name": name, "reference": asked, "others": others(image.record, own)})
    request: Mapping[str, Any] = {"first": sides[0], "second": sides[1], "layers": pairs(numbered)}
    return read_file_differences(numbered, await run_comparing_tool("compare-files", request, layouts, publish))
