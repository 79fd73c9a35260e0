"""Fields of `opam_project` and `opam_local_package`."""

from __future__ import annotations

from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import BoolField, InvalidFieldException, MultipleSourcesField, StringField, StringSequenceField
from pants.util.strutil import help_text

# What dune and opam make in a project is no source of it.
DEFAULT_SOURCES = ("**", "!**/BUILD", "!**/BUILD.*", "!**/_build/**", "!**/_opam/**")


class OpamProjectSourcesField(MultipleSourcesField):
    default = DEFAULT_SOURCES
    uses_source_roots = False
    help = help_text(
        """
        The files that the packages are built from, as globs below the target's directory.

        Default: all of them but BUILD files and what lies in a directory `_build` or `_opam`. What git ignores, and what
        `[GLOBAL].pants_ignore` hides, which by default are all directories whose names begin with a dot, is in no build. A link
        is taken for what it leads to, in the build root.
        """
    )


class OpamProjectFilesField(StringSequenceField):
    alias = "opam_files"
    help = help_text(
        """
        The opam files of the packages, below the target's directory: `["hello.opam", "opam/hello-lwt.opam"]`. The name before
        `.opam` is the package's; that of a file `opam` is its field `name`, or the directory's.

        Default: the files `*.opam` and `opam` in the target's own directory that `sources` has.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        if value is None:
            return None
        field = f"The `{cls.alias}` field in target {address}"
        if not value:
            raise InvalidFieldException(f"{field} is empty: name an opam file, or leave the field out.")
        for path in value:
            if not names_a_package(path):
                raise InvalidFieldException(
                    f"{field} names {path!r:.200}, which is no opam file: opam's are named NAME.opam or opam."
                )
            if any(part in ("", ".", "..") for part in path.split("/")):
                raise InvalidFieldException(
                    f"{field} names {path!r:.200}, which is no path below the target's directory, such as 'opam/hello.opam'."
                )
        return tuple(dict.fromkeys(value))


def names_a_package(path: str) -> bool:
    """Whether opam takes a file of this name for a package's opam file."""
    name = path.rpartition("/")[2]
    return name == "opam" or (name.endswith(".opam") and name != ".opam")


class OpamProjectFileField(StringField):
    alias = "opam_file"
    required = True
    value: str
    help = "The package's opam file, as a path in the build root."


class OpamExecutableField(StringField):
    alias = "executable"
    help = help_text(
        """
        The program that `run` runs, by its name in the switch's `bin`. It is for all packages of the project, so `run` takes
        those that install it.

        Default: the only program that the package installs, or the one that is called as the package is.
        """
    )


class OpamSkipLintField(BoolField):
    alias = "skip_opam_lint"
    default = False
    help = "Whether `lint` leaves the package's opam file out."


class OpamProjectDuneLockField(StringField):
    alias = "dune_lock"
    help = help_text(
        """
        The directory that `dune pkg lock` has written, below the target's directory: `"dune.lock"`. The versions in it are bounds
        of the resolve, as those of `constraints` are: what opam builds is then what `dune build` builds.

        What dune's files say about sources, patches and commands has no part in it: opam takes these from the opam repositories.
        Packages that dune has pinned to a source of their own are `opam_project` targets, or come from an overlay. Default: none.
        """
    )
