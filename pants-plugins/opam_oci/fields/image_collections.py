"""Fields of `oci_image_layout` and `oci_image_index`."""

from __future__ import annotations

from typing import Optional

from pants.engine.addresses import Address
from pants.engine.target import DictStringToStringField, SpecialCasedDependencies, StringField, StringSequenceField
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from opam_oci.fields.validation import TAG, check_each


class OciLayoutImagesField(SpecialCasedDependencies):
    alias = "images"
    required = True
    help = help_text(
        """
        The `oci_package_image` targets to put into the layout, as addresses: `["images:0install", "images:hello"]`.
        """
    )


class OciLayoutTagsField(DictStringToStringField):
    alias = "tags"
    help = help_text(
        """
        Tags of images by their address as `images` has it: `{"images:hello": "hello-1.0"}`.

        Default: each image's target name, with the parameters of one that `parametrize` made. Two images cannot have the
        same tag.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, (value or {}).values(), TAG, '"v1.0"')
        return value


class OciIndexImagesField(SpecialCasedDependencies):
    alias = "images"
    help = help_text(
        """
        `oci_package_image` targets, as addresses, one for each platform that this machine builds.

        Default: none.
        """
    )


class OciIndexLayoutsField(StringSequenceField):
    alias = "layouts"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Directories, relative to the build root, with OCI image layouts from other machines, such as what
        `package` left in `dist/` there: `["prebuilt/arm64/0install"]`. Each must hold one image. Pants does not read
        what `[GLOBAL].pants_ignore` names, which includes `dist/`. For `--changed-since` name a target that owns their
        files in `dependencies`.

        Default: none.
        """
    )


class OciIndexTagField(StringField):
    alias = "tag"
    default = "latest"
    value: str
    help = "The tag of the index in the layout."

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, [value] if value is not None else [], TAG, '"v1.0"')
        return value
