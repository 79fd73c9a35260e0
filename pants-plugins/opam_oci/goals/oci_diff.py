"""`oci-diff`: in what two images differ."""

from __future__ import annotations

from dataclasses import replace

from pants.base.specs import Specs
from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem, Outputting
from pants.option.option_types import ArgsListOption, BoolOption, EnumOption
from pants.util.strutil import help_text, softwrap

from opam_oci.goals.compared_images import ComparedImagesError, ComparingError, compare_files, compared_images
from opam_oci.image_reports.difference_json import write_json
from opam_oci.image_reports.difference_text import write_text
from opam_oci.image_reports.differences import difference_of
from opam_oci.pants_engine.rules import collect_rules, goal_rule
from opam_oci.subsystems.oci_publish import OciPublishSubsystem
from opam_oci.subsystems.output_format import COMPARED_FORMAT_HELP, Format


class OciDiffSubsystem(Outputting, GoalSubsystem):
    name = "oci-diff"
    help = help_text(
        """
        Say in what two images differ: packages, their versions and sizes, layers, the configuration; with `--files`, also the
        files. `oci-diff images:a images:b`, or `oci-diff -- docker://registry.example.org/hello:1.0 images:hello`.

        An image is an `oci_package_image` target, by its address; or, behind `--`, an image of a layout directory
        (`oci:DIRECTORY`, `oci:DIRECTORY:TAG`) or of a registry (`docker://HOST/PATH:TAG`, `docker://HOST/PATH@sha256:...`),
        which skopeo reads, with the logins and the entries of `[oci-publish].registries` that `publish` has. The first is what
        was before: addresses in front of `--`, then what is behind it. What no cache has of a target is built. Of an index, the
        image for the other image's platform is taken.

        Without `--files` no layer is read or fetched. Layers are the same if their content is, however it is compressed. The exit
        status is 0, and 1 with `--check` if the images are not the same, or if one of them cannot be had.
        """
    )

    args = ArgsListOption(
        example="docker://registry.example.org/hello:1.0 images:hello",
        passthrough=True,
        extra_help="Images, behind those in front of `--`: addresses, `oci:DIRECTORY:TAG`, `docker://HOST/PATH:TAG`.",
    )
    files = BoolOption(
        default=False,
        help=softwrap(
            """
            Compare the files of layers that are not the same: mode, owner, size, time, content, links, attributes. They are read
            for it, and fetched from a registry; other layers are not. Layers compressed by zstd need the program `zstd` here.
            """
        ),
    )
    check = BoolOption(
        default=False,
        help="Exit with status 1 if the images are not the same: if their manifests are not the same bytes.",
    )
    format = EnumOption(default=Format.text, help=COMPARED_FORMAT_HELP)

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OciDiff(Goal):
    """The goal `oci-diff`."""

    subsystem_cls = OciDiffSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


def addresses_in_order(
    specs: Specs, goal: str = OciDiffSubsystem.name, takes: str = "two images by their addresses"
) -> list[str]:
    """What stands in front of `--`, as whole addresses. Raises ComparedImagesError for all but addresses, whose order nobody
    knows."""
    given = specs.includes
    if replace(given, address_literals=()) or specs.ignores or given.from_change_detection:
        raise ComparedImagesError(
            f"`{goal}` takes {takes}, such as `images:hello`, and no directories, globs or files."
        )
    return [f"//{one}" for one in given.address_literals]


@goal_rule
async def oci_diff(
    console: Console, specs: Specs, subsystem: OciDiffSubsystem, publish: OciPublishSubsystem
) -> OciDiff:
    """Make or ask for both, and print in what they differ."""
    try:
        images = await compared_images([*addresses_in_order(specs), *subsystem.args], publish)
        difference = difference_of(images[0].record, images[1].record)
        files = await compare_files(images, difference, publish) if subsystem.files else None
    except ComparingError as error:
        if str(error):
            console.print_stderr(f"{console.sigil_failed()} oci-diff: {error}")
        return OciDiff(1)
    write_values = write_json if subsystem.format is Format.json else write_text
    with subsystem.output(console) as write:
        write(write_values(difference, files))
    return OciDiff(1 if subsystem.check and not difference.is_same_image else 0)


def rules() -> list[object]:
    return [*collect_rules()]
