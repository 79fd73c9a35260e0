"""`oci-report`: how large images are, and what they share."""

from __future__ import annotations

import os

from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import CreateDigest, FileContent, Workspace
from pants.engine.goal import Goal, GoalSubsystem, Outputting
from pants.engine.target import Targets
from pants.option.option_types import EnumOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.goals.reported_images import images_of_targets
from opam_oci.image_reports.report_json import write_json
from opam_oci.image_reports.report_page import write_page
from opam_oci.image_reports.report_text import write_text
from opam_oci.image_reports.sharing import sharing_of
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, goal_rule
from opam_oci.subsystems.output_format import Format

_PAGE, _DATA = "index.html", "report.json"


class OciReportSubsystem(Outputting, GoalSubsystem):
    name = "oci-report"
    help = help_text(
        """
        Say how large images are and what they share: layers, compressed bytes, unique blobs, what all images would take without
        sharing, what they take, and what is saved; and which images have which packages' layers.

        Targets are `oci_package_image`, `oci_image_layout` (all its images, grouped as the layout has them) and
        `oci_image_index`. What no cache has is built; no layer is read. A page for browsers, `index.html`, and the same as
        JSON, `report.json`, are written to `dist/oci-report/`.
        """
    )

    format = EnumOption(
        default=Format.text, help="What is printed: `text`, or `json`, which `report.json` has as well."
    )
    output_dir = StrOption(
        default="",
        help=softwrap(
            """
            The directory for `index.html` and `report.json`, below the build root. Default: `oci-report` in
            `[GLOBAL].pants_distdir`.
            """
        ),
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OciReport(Goal):
    """The goal `oci-report`."""

    subsystem_cls = OciReportSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


class OutputDirectoryError(Exception):
    """`--output-dir` is no directory below the build root."""


def output_directory(option: str, dist: str) -> str:
    """Where the files go, relative to the build root. Raises OutputDirectoryError."""
    path = os.path.normpath(option or os.path.join(dist, OciReportSubsystem.name))
    if os.path.isabs(path) or path.split(os.sep)[0] == ".." or path == ".":
        raise OutputDirectoryError(
            f"`--oci-report-output-dir` should be a directory below the build root, such as `dist/report`, but is {option!r}."
        )
    return path


@goal_rule
async def oci_report(
    console: Console, workspace: Workspace, targets: Targets, dist: DistDir, subsystem: OciReportSubsystem
) -> OciReport:
    """Make what the targets name, and write what they share."""
    directory = output_directory(subsystem.output_dir, str(dist.relpath))
    sharing = sharing_of(await images_of_targets(targets, OciReportSubsystem.name))
    data = write_json(sharing)
    files = CreateDigest([FileContent(_PAGE, write_page(sharing).encode()), FileContent(_DATA, data.encode())])
    workspace.write_digest(await create_digest(files), path_prefix=directory, clear_paths=(_PAGE, _DATA))
    with subsystem.output(console) as write:
        write(data if subsystem.format is Format.json else write_text(sharing))
    console.print_stderr(f"Wrote {directory}/{_PAGE} and {_DATA} beside it.")
    return OciReport(0)


def rules() -> list[object]:
    return [*collect_rules()]
