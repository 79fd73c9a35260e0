"""The options `[oci-dist]`."""

from __future__ import annotations

from pants.option.option_types import BoolOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class OciDistSubsystem(Subsystem):
    options_scope = "oci-dist"
    help = "Options for the images that `package` writes below dist/."

    link_blobs = BoolOption(
        default=True,
        help=softwrap(
            """
            Whether image layouts below dist/ share the files of equal blobs as hard links, so that each takes up room once
            however many images hold it. Turn it off where tools that change files in place work below dist/.
            """
        ),
    )
