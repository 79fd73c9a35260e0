"""`unpublish`: takes images out of the layout directories that they are published to."""

from __future__ import annotations

from pants.core.goals.package import BuiltPackage
from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.process import InteractiveProcess, InteractiveProcessResult
from pants.engine.target import Targets
from pants.util.strutil import help_text

from opam_oci.engine import (
    built_package,
    collect_rules,
    goal_rule,
    image_layout,
    image_naming,
    run_interactively,
    sandbox_tool,
)
from opam_oci.host_programs import find_python
from opam_oci.image_products import OciPackageImageFieldSet
from opam_oci.products import ImageLayout, ImageLayoutRequest, ImageNaming, ImageNamingRequest, SandboxTool
from opam_oci.publish import PublishOciImageFieldSet
from opam_oci.publish_options import OciPublishSubsystem


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
    subsystem_cls = UnpublishSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@goal_rule
async def unpublish(console: Console, targets: Targets, publish: OciPublishSubsystem) -> Unpublish:
    field_sets = [
        PublishOciImageFieldSet.create(target)
        for target in sorted(targets, key=lambda target: target.address)
        if PublishOciImageFieldSet.is_applicable(target)
    ]
    by_address = {target.address: target for target in targets}
    tool: SandboxTool = await sandbox_tool()
    exit_code = 0
    for field_set in field_sets:
        digest = ""
        if names_need_digest(field_set, publish):
            built: BuiltPackage = await built_package(OciPackageImageFieldSet.create(by_address[field_set.address]))
            layout: ImageLayout = await image_layout(ImageLayoutRequest(field_set.address, (built,)))
            digest = layout.manifest_digest
        naming: ImageNaming = await image_naming(
            ImageNamingRequest(
                field_set.address,
                field_set.packages,
                field_set.image_tags.value,
                field_set.repositories.value,
                digest,
            )
        )
        for destination in naming.destinations:
            if not destination.layout:
                for name in destination.names:
                    console.print_stderr(f"{console.sigil_skipped()} {name} skipped (it is in a registry).")
                continue
            argv = [find_python(), "-sEB", "__tool", "remove", "--missing-ok", destination.layout, *destination.refs]
            result: InteractiveProcessResult = await run_interactively(
                InteractiveProcess(
                    argv=argv,
                    env={"LANG": "C.UTF-8"},
                    immutable_input_digests={"__tool": tool.parts["publishing"]},
                )
            )
            failed = result.exit_code != 0
            sigil = console.sigil_failed() if failed else console.sigil_succeeded()
            for name in destination.names:
                console.print_stderr(f"{sigil} {name} {'failed' if failed else 'removed'}.")
            exit_code = exit_code or result.exit_code
    return Unpublish(exit_code)


def names_need_digest(field_set: PublishOciImageFieldSet, publish: OciPublishSubsystem) -> bool:
    """Whether the image must be built to know what it is called."""
    texts = [
        *field_set.image_tags.value,
        *(field_set.repositories.value or ()),
        publish.default_repository,
        *(text for r in publish.registries.values() for text in (*r.extra_image_tags, r.repository or "")),
    ]
    return any("{pants." in text for text in texts)


def rules() -> list[object]:
    return [*collect_rules()]
