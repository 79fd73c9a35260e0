"""Fields of `opam_health_check`."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import (
    BoolField,
    Dependencies,
    IntField,
    InvalidFieldException,
    OptionalSingleSourceField,
    StringField,
    StringSequenceField,
)
from pants.util.strutil import help_text

from opam_oci.fields.opam import OPAM_REQUIREMENT
from opam_oci.fields.validation import check_each

_PATTERN = re.compile(r"[A-Za-z0-9_+*?\[\]!-]+(?:\.[A-Za-z0-9_+.~-]+|\s*(?:(?:=|!=|<|<=|>|>=)\s*[A-Za-z0-9_+.~-]+))?\Z")
_COMPILER = re.compile(
    r"[A-Za-z0-9_+-]*[A-Za-z][A-Za-z0-9_+-]*(?:\.[A-Za-z0-9_+.~-]+|\s*(?:(?:=|!=|<|<=|>|>=)\s*[A-Za-z0-9_+.~-]+))?\Z"
)


class OpamHealthResolveField(StringField):
    alias = "resolve"
    help = help_text(
        """
        The name in `[opam-health].resolves`, which has the path of the lockfile. Two checks cannot share one.

        Default: the target's name.
        """
    )

    def value_or_default(self, address: Address) -> str:
        """The resolve's name: the target's where the field is not set."""
        return self.value or address.target_name


class OpamHealthBaseField(StringField):
    alias = "base"
    required = True
    value: str
    help = help_text(
        """
        The address of the `debian_rootfs` in which packages are solved and built, such as `"//3rdparty/debian:trixie"`.
        """
    )


class OpamHealthPackagesField(StringSequenceField):
    alias = "packages"
    value: tuple[str, ...]
    default = ("*",)
    help = help_text(
        """
        The packages to check, each solved on its own: names (`"lwt"`), versions (`"lwt.5.6.1"`), bounds (`"lwt>=5"`) and
        patterns of names (`"dune*"`).

        Default: all that the repositories have and that are available on the base.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, _PATTERN, '"lwt", "lwt.5.6.1" or "dune*"')
        return value


class OpamHealthPackagesFileField(OptionalSingleSourceField):
    alias = "packages_file"
    help = help_text(
        """
        A JSON file with more packages to check: `{"packages": ["lwt.5.6.1", "0install"]}`.

        Where it is set and `packages` is not, its packages are all that are checked. Default: none.
        """
    )


class OpamHealthLatestField(IntField):
    alias = "latest"
    default = 1
    value: int
    help = help_text(
        """
        How many versions of each package to check, the newest first, where `packages` does not name a version.

        Default: 1.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[int], address: Address) -> Optional[int]:
        value = super().compute_value(raw_value, address)
        if value is not None and value < 1:
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} is {value}; it must be 1 or more."
            )
        return value


class OpamHealthCompilersField(StringSequenceField):
    alias = "compilers"
    value: tuple[str, ...]
    default = ()
    help = help_text(
        """
        The OCaml compilers to check with: packages with a version or bounds, such as `"ocaml-base-compiler.5.3.0"`,
        `"ocaml=5.3.0"` or `"ocaml-system"`. Each package is solved with each of them.

        Default: one that the solver chooses for each package.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, _COMPILER, '"ocaml=5.3.0" or "ocaml-base-compiler.5.3.0"')
        return value


class OpamHealthConstraintsField(StringSequenceField):
    alias = "constraints"
    value: tuple[str, ...]
    default = ()
    help = help_text(
        """
        Version bounds that hold in every solution in which the package is: `"dune<3.18"`. Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, OPAM_REQUIREMENT, '"dune<3.18"')
        return value


class OpamHealthWithTestField(BoolField):
    alias = "with_test"
    default = False
    help = "Whether the tests of each checked package are run, over what they need. Default: False."


class OpamHealthWithDocField(BoolField):
    alias = "with_doc"
    default = False
    help = "Whether each checked package is solved with what its documentation needs. Default: False."


class OpamHealthPreferOldestField(BoolField):
    alias = "prefer_oldest"
    default = False
    help = "Whether the oldest versions are chosen that opam files allow, to check their lower bounds. Default: False."


class OpamHealthDependenciesField(Dependencies):
    pass
