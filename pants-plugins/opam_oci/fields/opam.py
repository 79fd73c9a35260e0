"""Fields of `opam_requirement`, and of targets of packages and those that generate them."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import (
    Dependencies,
    InvalidFieldException,
    OptionalSingleSourceField,
    OverridesField,
    StringField,
    StringSequenceField,
)
from pants.util.strutil import help_text

from opam_oci.fields.validation import check_each
from opam_oci.subsystems.opam import OpamSubsystem

OPAM_REQUIREMENT = re.compile(r"[A-Za-z0-9_+-]+\s*(?:(?:=|!=|<|<=|>|>=)\s*[A-Za-z0-9_+.~-]+)?\Z")


class OpamResolveField(StringField):
    alias = "resolve"
    help = help_text(
        """
        The resolve from `[opam].resolves` that this target belongs to.

        Default: `[opam].default_resolve`.
        """
    )

    def value_or_default(self, opam: OpamSubsystem) -> str:
        """The resolve's name: `[opam].default_resolve` where the field is not set."""
        return self.value or opam.default_resolve


class OpamRequirementsField(StringSequenceField):
    alias = "requirements"
    value: tuple[str, ...]
    default = ()
    help = help_text(
        """
        Packages that the resolve must contain, each with a version bound or without one: `"lwt"`,
        `"lwt>=5.6"`, `"0install=2.18"`.

        Default: none; the roots are then those of `source`, or the target only adds `constraints`.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, OPAM_REQUIREMENT, '"lwt" or "lwt>=5.6"')
        return value


def is_opam_file(path: str) -> bool:
    """Whether opam takes a file of this name for a package's opam file; `opam install --locked` those that end in .locked."""
    name = path.rpartition("/")[2]
    name = name[: -len(".locked")] if name.endswith(".locked") else name
    return name == "opam" or (name.endswith(".opam") and name != ".opam")


class OpamFileField(OptionalSingleSourceField):
    help = help_text(
        """
        An opam file of this project, such as `"mylib.opam"`: what it depends on are roots of the resolve, as for
        `opam install --deps-only`. The package itself is not in the lockfile.

        Its name without `.opam` is the package's: `"mylib.opam"`, `"opam/mylib.opam"`, `"mylib.opam/opam"`. That of a file
        `opam` or `opam/opam` is its field `name`, or the directory's. `"mylib.opam.locked"` is what `opam lock` writes.

        System packages of its `depexts` are those of a package `deps-of-mylib` in the lockfile, which depends on all that
        `mylib` depends on. Pins of its `pin-depends` hold if a repository has the package, made from that source.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is None or is_opam_file(value):
            return value
        problem = f"The `{cls.alias}` field in target {address} names {value!r:.200}, which is no opam file"
        if value.endswith(".opam.template"):
            generated = value[: -len(".template")]
            raise InvalidFieldException(
                f"{problem} but a template of one: name {generated!r}, which `dune build` writes."
            )
        raise InvalidFieldException(
            f"{problem}: opam's are named NAME.opam or opam, or NAME.opam.locked where `opam lock` wrote them."
        )


class OpamConstraintsField(StringSequenceField):
    alias = "constraints"
    value: tuple[str, ...]
    default = ()
    help = help_text(
        """
        Version bounds that hold if the package is in the solution, without asking for it: `"dune<3.18"`.

        Default: none; the solver is then free within what opam files say.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, OPAM_REQUIREMENT, '"dune<3.18"')
        return value


class OpamPackageNameField(StringField):
    alias = "package"
    required = True
    value: str
    help = "The name of the opam package, from the lockfile."


class OpamPackageVersionField(StringField):
    alias = "version"
    required = True
    value: str
    help = "The version of the opam package, from the lockfile."


class OpamPackageDependenciesField(Dependencies):
    help = help_text(
        """
        The packages below this one, from the lockfile: those that its build needs, post-dependencies that do not lead
        back to it, and its base.
        """
    )


class OpamPackagesOverridesField(OverridesField):
    help = help_text(
        """
        Fields of single packages, by their names: `{"lwt": {"tags": ["slow"]}, ("dune", "dune-configurator"): {...}}`.

        `tags`, `description`, `skip_tests` and `timeout` can be set; the lockfile says everything else. A name that the lockfile
        does not have is an
        error. Default: none.
        """
    )
