"""Fields of `opam_docs`."""

from __future__ import annotations

from pants.engine.target import BoolField, Dependencies, SpecialCasedDependencies, StringField
from pants.util.strutil import help_text


class OpamDocsDependenciesField(Dependencies):
    pass


class OpamDocsPackagesField(SpecialCasedDependencies):
    alias = "packages"
    required = True
    help = help_text(
        """
        What is documented, as addresses: `opam_package` and `opam_local_package` targets, and `oci_package_image` targets for
        the packages of an image: `["3rdparty/opam:default#lwt", "images:hello"]`. All are of one resolve.

        The address of an `opam_packages` target stands for all packages of its lockfile, that of an `opam_project` for all of
        the project's.
        """
    )


class OpamDocsOdocField(StringField):
    alias = "odoc"
    help = help_text(
        """
        The address of the `opam_package` that brings the program `odoc`, 3.0 or newer: `"3rdparty/opam:default#odoc"`. It is
        of the same resolve as `packages`, as odoc reads what its own version of OCaml wrote. It need not be odoc itself: a
        package with `ocaml-odoc` among its depexts brings Debian's, for Debian's OCaml.

        Default: the package `odoc` of the resolve.
        """
    )


class OpamDocsWithDependenciesField(BoolField):
    alias = "with_dependencies"
    default = True
    help = help_text(
        """
        Whether what `packages` depend on is documented too, the standard library among it. Without it, names of its modules are
        text, and a few links of odoc's may lead nowhere.
        """
    )


class OpamDocsTitleField(StringField):
    alias = "title"
    default = "OCaml packages"
    value: str
    help = "The title of the first page."
