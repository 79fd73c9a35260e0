"""The options of images' tests."""

from __future__ import annotations

from pants.option.option_types import SkipOption
from pants.option.subsystem import Subsystem


class OciTestSubsystem(Subsystem):
    options_scope = "oci-test"
    name = "tests of images"
    help = "The tests of images, as `oci_image_test` targets have them."

    skip = SkipOption("test")
