"""The options `[oci-verify]`."""

from __future__ import annotations

from pants.engine.goal import GoalSubsystem, Outputting
from pants.option.option_types import BoolOption, EnumOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.subsystems.output_format import COMPARED_FORMAT_HELP, Format
from opam_oci.subsystems.rebuild import Rebuild


class OciVerifySubsystem(Outputting, GoalSubsystem):
    name = "oci-verify"
    help = help_text(
        """
        Make a published image again, and say whether it is the same: `oci-verify
        --against=docker://registry.example.org/hello:1.0 images:hello`.

        The target is an `oci_package_image` of this checkout. The image's provenance, which is attached to it, says what it was
        made of; what this checkout takes in place of it is listed: lockfiles, repositories, the plugin, opam files, sources,
        .debs. Then all layers are made again, whatever caches have of them, and the two images are compared, layer by layer and
        file by file.

        The exit status is 0 only if the manifests are the same bytes, and so all of the image.
        """
    )

    against = StrOption(
        default="",
        help=softwrap(
            """
            The published image: `docker://HOST/PATH:TAG`, `docker://HOST/PATH@sha256:...`, `oci:DIRECTORY` or
            `oci:DIRECTORY:TAG`, as `oci-diff` takes it. Of an index, the image for this machine's platform is taken.
            """
        ),
    )
    provenance = StrOption(
        default="",
        help=softwrap(
            """
            A file with the image's provenance, such as `dist/images/hello.provenance.json`, absolute or below the build root.
            Default: what is attached to the image.
            """
        ),
    )
    rebuild = EnumOption(
        default=Rebuild.all,
        help=softwrap(
            """
            What is made again, whatever a local or remote cache has of it. `all`: all layers, which shows that the image can be
            made again. `packages`: all but the base, and opam's root on it. `none`: nothing that a cache has. That is quick, and
            says whether this checkout's image is the published one; but a layer of it may be the very one that was published.
            """
        ),
    )
    same_contents = BoolOption(
        default=False,
        help=softwrap(
            """
            Exit with status 0 also if all layers have the same content and the configurations are the same bytes, while layers
            are compressed otherwise or annotations differ. What differs is listed all the same.
            """
        ),
    )
    statement = BoolOption(
        default=False,
        help=softwrap(
            """
            If the image was made again, and its manifest is the same bytes, write that as an in-toto statement beside where
            `package` writes the image: `dist/images/hello.reproduced.json`. It is not signed. Only with `--rebuild=all`.
            """
        ),
    )
    push_statement = BoolOption(
        default=False,
        help="Write the statement, and attach it to the image in its registry, as an OCI 1.1 referrer.",
    )
    format = EnumOption(default=Format.text, help=COMPARED_FORMAT_HELP)

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True
