"""`unpublish`: takes images out of the layout directories that they are published to."""

from __future__ import annotations

from pants.core.goals.package import EnvironmentAwarePackageRequest
from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import Target, Targets
from pants.util.strutil import help_text

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.publish import PublishOciImageFieldSet
from opam_oci.host.programs import find_python
from opam_oci.pants_engine.calls import build_package, run_interactive_process
from opam_oci.pants_engine.rules import collect_rules, goal_rule, implicitly
from opam_oci.publishing.image_layout import ImageLayoutRequest, find_image_layout
from opam_oci.publishing.naming import ImageNaming, ImageNamingRequest, find_image_naming, name_templates
from opam_oci.sandbox.process import publishing_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem


class UnpublishSubsystem(GoalSubsystem):
    name = "unpublish"
    help = help_text(
        """
        Take images out of the layout directories that `publish` puts them into: their tags, and the blobs that nothing
        there refers to any more. Others may publish there at the same time.

        Images in registries are left alone: a registry deletes a manifest with all its tags, where it allows that at all
        (`skopeo delete docker://...`).
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class Unpublish(Goal):
    """The goal `unpublish`."""

    subsystem_cls = UnpublishSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


def names_need_digest(field_set: PublishOciImageFieldSet, publish: OciPublishSubsystem) -> bool:
    """Whether the image must be built to know what it is called."""
    texts = name_templates(field_set.image_tags.value, field_set.repositories.value, publish)
    return any("{pants." in text for text in texts)


async def names_of(field_set: PublishOciImageFieldSet, target: Target, publish: OciPublishSubsystem) -> ImageNaming:
    """Where an image was published to."""
    digest = ""
    if names_need_digest(field_set, publish):
        built = await build_package(EnvironmentAwarePackageRequest(OciPackageImageFieldSet.create(target)))
        layout = await find_image_layout(ImageLayoutRequest(field_set.address, (built,)), **implicitly())
        digest = layout.manifest_digest
    return await find_image_naming(
        ImageNamingRequest(
            field_set.address, field_set.packages, field_set.image_tags.value, field_set.repositories.value, digest
        ),
        **implicitly(),
    )


@goal_rule
async def unpublish(console: Console, targets: Targets, publish: OciPublishSubsystem) -> Unpublish:
    """Remove the images from each layout directory in turn; the first failure's exit code is the goal's."""
    tool = await find_sandbox_tool(**implicitly())
    exit_code = 0
    for target in sorted(targets, key=lambda target: target.address):
        if not PublishOciImageFieldSet.is_applicable(target):
            continue
        naming = await names_of(PublishOciImageFieldSet.create(target), target, publish)
        for destination in naming.destinations:
            if not destination.layout:
                for name in destination.names:
                    console.print_stderr(f"{console.sigil_skipped()} {name} skipped (it is in a registry).")
                continue
            arguments = ["remove", "--missing-ok", destination.layout, *destination.refs]
            process = publishing_process(tool, find_python(), arguments, env={"LANG": "C.UTF-8"})
            result = await run_interactive_process(process)
            failed = result.exit_code != 0
            sigil = console.sigil_failed() if failed else console.sigil_succeeded()
            for name in destination.names:
                console.print_stderr(f"{sigil} {name} {'failed' if failed else 'removed'}.")
            exit_code = exit_code or result.exit_code
    return Unpublish(exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
