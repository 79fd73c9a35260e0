"""Fields of `debian_rootfs`."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import Dependencies, StringField, StringSequenceField
from pants.util.strutil import help_text

from opam_oci.fields.validation import check_each

_DEBIAN_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")


class DebianRootfsDependenciesField(Dependencies):
    pass


class DebianResolveField(StringField):
    alias = "resolve"
    help = help_text(
        """
        The resolve from `[debian].resolves` whose lockfile lists this base's packages. Two bases cannot share one.

        Default: the target's name.
        """
    )

    def value_or_default(self, address: Address) -> str:
        """The resolve's name: the target's where the field is not set."""
        return self.value or address.target_name


class DebianSuiteField(StringField):
    alias = "suite"
    required = True
    value: str
    help = 'The Debian release to take packages from, by its code name: `"trixie"`.'


class DebianPackagesField(StringSequenceField):
    alias = "packages"
    value: tuple[str, ...]
    default = ("build-essential", "opam", "bzip2", "libdeflate-tools", "passwd", "rsync", "unzip", "zstd")
    help = help_text(
        """
        Debian packages to install beside the essential ones; what they depend on comes along.

        Default: what opam needs to build a package with a C compiler. A list of your own replaces it: keep `opam`
        and `build-essential` in it, and `passwd`, without which the first package whose depexts bring it rewrites
        the accounts of the base. With `libdeflate-tools` in it, layers are compressed in a third of the time that the
        base's gzip takes.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, _DEBIAN_PACKAGE, '"opam"')
        return value


class DebianArchitectureField(StringField):
    alias = "architecture"
    default = "amd64"
    value: str
    help = help_text(
        """
        Debian's name of the processor architecture. It must be one that the building machine runs.

        Images name it to container engines, which refuse one that is not theirs.
        """
    )
