"""`oci-verify`: whether this checkout makes a published image again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pants.base.specs import Specs
from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import CreateDigest, FileContent, Workspace
from pants.engine.goal import Goal

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.compared_images import (
    ComparedImage,
    ComparedImagesError,
    ComparingError,
    compare_files,
    field_set_of,
    made_image,
)
from opam_oci.goals.oci_diff import addresses_in_order
from opam_oci.goals.reported_images import request_of_image
from opam_oci.goals.verified_image import (
    about_layout,
    published_image,
    push_about,
    recorded_companions,
    recorded_provenance,
)
from opam_oci.image_reports.differences import difference_of
from opam_oci.images.image import OciImage, make_image
from opam_oci.images.provenance import provenance_of_image
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, goal_rule, implicitly
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem
from opam_oci.subsystems.oci_verify import OciVerifySubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.output_format import Format
from opam_oci.subsystems.rebuild import Rebuild
from opam_oci.verification import reproduced
from opam_oci.verification.inputs import input_differences
from opam_oci.verification.json_differences import json_differences
from opam_oci.verification.result import Verdict, Verification, has_same_contents
from opam_oci.verification.result_json import write_json
from opam_oci.verification.result_text import write_verification


class OciVerify(Goal):
    """The goal `oci-verify`."""

    subsystem_cls = OciVerifySubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


class OciVerifyError(Exception):
    """The command line asks for what makes no sense."""


def check_options(subsystem: OciVerifySubsystem) -> None:
    """Raise OciVerifyError for options that contradict one another, before anything is built."""
    if (subsystem.statement or subsystem.push_statement) and subsystem.rebuild is not Rebuild.all:
        raise OciVerifyError(
            f"`--oci-verify-rebuild={subsystem.rebuild.value}` does not show that the image can be made again, so that no "
            "statement can say so. Leave it out, or leave out `--statement` and `--push-statement`."
        )
    if subsystem.push_statement and subsystem.against.startswith("oci:"):
        raise OciVerifyError(
            f"`--push-statement` is for an image in a registry, and {subsystem.against!r} is in a directory. `--statement` "
            "writes the statement as a file."
        )


def check_rebuilt(asked: Rebuild, held: Rebuild) -> None:
    """Raise OciVerifyError unless this run makes again what the goal was asked to."""
    if asked.more_of(held) is not held:
        # The tool was found by another goal of the same run, when this one had not begun.
        raise OciVerifyError(
            "`oci-verify` runs together with other goals, which have taken layers from caches. Run it by itself, or with "
            f"`--opam-rebuild={asked.value}`."
        )


@dataclass(frozen=True)
class Made:
    """The published image, what was made of this checkout, and the comparison."""

    published: ComparedImage
    image: OciImage
    result: Verification


async def verification_of(
    field_set: OciPackageImageFieldSet,
    subsystem: OciVerifySubsystem,
    publish: OciPublishSubsystem,
    opam: OpamSubsystem,
) -> Made:
    """Ask for the published image and its provenance, and only then build. Raises what is missing, and what cannot be built."""
    published = await published_image(subsystem.against, publish)
    recorded = await recorded_provenance(published, subsystem.provenance, publish)
    companions = await recorded_companions(recorded, field_set)
    tool = await find_sandbox_tool(**implicitly())
    check_rebuilt(subsystem.rebuild, tool.rebuild)
    request = dataclasses.replace(request_of_image(field_set), companions=companions)
    image = await make_image(request, **implicitly())
    made = await made_image(image)
    here = await provenance_of_image(field_set, [one.address for one in companions], opam)
    difference = difference_of(published.record, made.record)
    files = None
    if not difference.is_same_image:
        files = await compare_files((published, made), difference, publish, repacked=True)
    same = not difference.is_same_image and has_same_contents(difference, files)
    plugin = next(one.digest for one in here.dependencies if one.name == "plugin")
    result = Verification(
        target=str(field_set.address),
        rebuilt=tool.rebuild,
        plugin=plugin,
        recorded=recorded,
        inputs=input_differences(recorded, here.parameters, here.dependencies),
        difference=difference,
        files=files,
        manifest=tuple(json_differences(published.manifest, made.manifest)) if same else (),
    )
    return Made(published, image, result)


@goal_rule
async def oci_verify(
    console: Console,
    workspace: Workspace,
    specs: Specs,
    dist: DistDir,
    subsystem: OciVerifySubsystem,
    publish: OciPublishSubsystem,
    opam: OpamSubsystem,
) -> OciVerify:
    """Make the image again, compare, and say what came of it."""
    check_options(subsystem)
    names = addresses_in_order(specs, subsystem.name, "an image by its address")
    if len(names) != 1:
        raise ComparedImagesError(
            f"`oci-verify` verifies one image, but the command line names {len(names) or 'none'}: "
            "`oci-verify --against=docker://registry.example.org/hello:1.0 images:hello`."
        )
    field_set = await field_set_of(names[0], subsystem.name)
    try:
        made = await verification_of(field_set, subsystem, publish, opam)
    except ComparingError as error:
        if str(error):
            console.print_stderr(f"{console.sigil_failed()} oci-verify: {error}")
        return OciVerify(1)
    result = made.result
    with subsystem.output(console) as write:
        write(write_json(result) if subsystem.format is Format.json else write_verification(result))
    if (subsystem.statement or subsystem.push_statement) and result.is_reproduced:
        document = reproduced.reproduced(result, field_set.address.target_name)
        path = field_set.output_path.value_or_default(file_ending=None) + reproduced.SUFFIX
        digest = await create_digest(CreateDigest([FileContent(path, document.text)]))
        workspace.write_digest(digest, path_prefix=str(dist.relpath))
        console.print_stderr(f"Wrote {dist.relpath}/{path}.")
        if subsystem.push_statement:
            assert made.published.reference is not None
            try:
                await push_about(made.published.reference, await about_layout(made.image, document), publish)
            except ComparingError:
                return OciVerify(1)
    passes = {Verdict.identical, *([Verdict.same_contents] if subsystem.same_contents else [])}
    return OciVerify(0 if result.verdict in passes else 1)


def rules() -> list[object]:
    return [*collect_rules()]
