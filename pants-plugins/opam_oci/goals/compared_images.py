"""Two images of a comparison: those of targets are made, those of layouts and registries are asked what they are."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass
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
    where it is not needed."""

    record: ImageRecord
    layout: Digest = EMPTY_DIGEST
    reference: ImageReference | None = None
    skopeo: str = ""


async def _field_set_of(name: str) -> OciPackageImageFieldSet:
    origin = "the command line of `oci-diff`"
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


async def _env(publish: OciPublishSubsystem) -> Mapping[str, str]:
    return await environment_vars(EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)]))


async def _run_tool(
    command: str, request: Mapping[str, Any], layouts: Mapping[str, Digest], publish: OciPublishSubsystem
) -> dict[str, Any]:
    """What a command of the tool writes. Raises ComparingError."""
    tool = await find_sandbox_tool(**implicitly())
    environment = await _env(publish)
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


async def _described(
    reference: ImageReference, of_platform: tuple[str, str], publish: OciPublishSubsystem
) -> ComparedImage:
    """Asks a layout or a registry for manifest and configuration. of_platform: (os, architecture), chosen of an index."""
    skopeo = ""
    if reference.repository:
        environment = await _env(publish)
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
    found = await _run_tool("describe", request, {}, publish)
    record = read_image(reference.text, found["digest"], found["manifest"], found["config"])
    return ComparedImage(record, reference=reference, skopeo=skopeo)


async def _made(image: OciImage) -> ComparedImage:
    return ComparedImage(await record_of_image(image), layout=image.layout)


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
    field_sets = [await _field_set_of(name) for name in names if name not in references]
    images = await concurrently(make_image(request_of_image(one), **implicitly()) for one in field_sets)
    made = [await _made(image) for image in images]
    platforms = [_platform_of(one.record) for one in made]
    found: list[ComparedImage] = []
    for name in names:
        if name not in references:
            found.append(made.pop(0))
            continue
        found.append(await _described(references[name], platforms[0] if platforms else _host_platform(), publish))
        platforms = platforms or [_platform_of(found[-1].record)]
    return found[0], found[1]


def _host_platform() -> tuple[str, str]:
    machine = platform.machine()
    return "linux", _MACHINES.get(machine, machine)


def _platform_of(record: ImageRecord) -> tuple[str, str]:
    system, _, machine = record.platform.partition("/")
    return (system, machine.partition("/")[0]) if machine else _host_platform()


async def _blobs_of(layout: Digest, layers: Iterable[LayerRecord | None]) -> Digest:
    paths = [blob_path(layer.digest) for layer in layers if layer is not None]
    return await digest_subset_to_digest(DigestSubset(layout, PathGlobs(paths)))


async def compare_files(
    images: tuple[ComparedImage, ComparedImage], difference: Difference, publish: OciPublishSubsystem
) -> FileDifferences:
    """In which files the layers differ that are not the same. Raises ComparingError."""
    layers = [one for _, one in compared_layers(difference)]
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
    request: Mapping[str, Any] = {"first": sides[0], "second": sides[1], "layers": pairs(difference)}
    return read_file_differences(difference, await _run_tool("compare-files", request, layouts, publish))
