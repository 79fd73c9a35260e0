"""Targets that say what others should be."""

from __future__ import annotations

from pants.engine.target import COMMON_TARGET_FIELDS, InvalidTargetException, Target
from pants.util.docutil import bin_name
from pants.util.strutil import help_text

from opam_oci.fields.image_tests import (
    CHECKS,
    OciTestDependenciesField,
    OciTestImageField,
    OciTestSkipField,
    OciTestTimeoutField,
)


class OciImageTestTarget(Target):
    alias = "oci_image_test"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OciTestDependenciesField,
        OciTestImageField,
        *CHECKS,
        OciTestSkipField,
        OciTestTimeoutField,
    )
    help = help_text(
        f"""
        What an image should be: its configuration, files, users and sizes, and what commands in it do.

        `{bin_name()} test` builds the image and compares; what did not change is not tested again. It takes no engine and no
        network.
        """
    )

    def validate(self) -> None:
        values = [self[field].value for field in CHECKS]
        if not any(value or value == 0 for value in values):
            raise InvalidTargetException(
                f"The target {self.address} checks nothing: give it one of {', '.join(f'`{one.alias}`' for one in CHECKS)}."
            )


TEST_TARGET_TYPES = (OciImageTestTarget,)
