"""Fields of `oci_package_image`: images that only run programs."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import BoolField, StringField, StringSequenceField
from pants.util.strutil import help_text

from opam_oci.fields.validation import check_each

_PATTERN = re.compile(r"!?/[^\0]*\Z")


class OciImageRuntimeField(BoolField):
    alias = "runtime"
    default = False
    help = help_text(
        """
        Whether to make an image that only runs the `packages`: their programs, shared data and the libraries that they
        load, on the slim base named by `runtime_base`; without compilers, headers, opam and what only builds need.

        Every program's libraries are looked up in the result, and one that is missing is an error that names its Debian
        package; so are what runs its scripts (`#!/usr/bin/env X` too) and the primitives of bytecode programs. Programs that
        are run by name, and files whose names are computed, can be seen by nobody: a warning names what was left out. List
        what is needed of it in `runtime_keep`.
        """
    )


class OciImageRuntimeBaseField(StringField):
    alias = "runtime_base"
    help = help_text(
        """
        The address of the `debian_rootfs` or `oci_base_image` that a `runtime` image stands on. It needs neither opam nor a
        compiler, but must be of the same architecture as the base that the packages are built in, and a `debian_rootfs` of
        the same suite. On an `oci_base_image` of another release or distribution, or an empty one, only statically linked
        programs run: one that loads libraries is an error.

        Required if `runtime` is set; it means nothing otherwise.
        """
    )


class OciImageRuntimeKeepField(StringSequenceField):
    alias = "runtime_keep"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Further files for a `runtime` image, as glob patterns of absolute paths in the full image, in which `*` also
        stands for slashes: `["/home/opam/.opam/default/lib/foo/*.cmxs", "/usr/bin/gpg"]`. They come from any of the image's
        layers; a pattern that matches nothing is an error. With "!" before it, a pattern names what is not to be kept by its
        place, such as scripts that nobody runs: `["!/home/opam/.opam/default/share/foo/examples/*"]`.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, _PATTERN, '"/usr/bin/gpg"')
        return value
