"""Fields of `oci_package_image`: what is in the image, and how it becomes layers and files."""

from __future__ import annotations

from typing import Iterable, Optional

from pants.engine.addresses import Address
from pants.engine.target import (
    Dependencies,
    IntField,
    InvalidFieldException,
    SpecialCasedDependencies,
    StringField,
    StringSequenceField,
)
from pants.util.strutil import help_text

from opam_oci.fields.validation import ABSOLUTE_PATH, check_each


class OciImagePackagesField(SpecialCasedDependencies):
    alias = "packages"
    required = True
    help = help_text(
        """
        The `opam_package` and `opam_local_package` targets that the image is for, as addresses:
        `["3rdparty/opam:default#lwt", "src/hello:project#hello"]`.

        What they depend on comes along. They may be of several resolves, if these have one base and what they share is
        locked the same in each. The address of an `opam_packages` target stands for all packages of its lockfile that are of
        opam repositories, that of an `opam_project` for all of the project's.
        """
    )


class OciImageBaseField(StringField):
    alias = "base"
    help = help_text(
        """
        The address of the image's `debian_rootfs`.

        Default: the base of the packages' resolve, from `[opam].resolves_to_base`. Packages run only on the base
        that they were built in, so that another one is an error; set the field to say which one you count on.
        """
    )


class OciImageDependenciesField(Dependencies):
    pass


class OciImageLayersField(StringField):
    alias = "layers"
    valid_choices = ("grouped", "per_package", "flat")
    default = "grouped"
    value: str
    help = help_text(
        """
        How packages become layers.

        `"grouped"`: each package is a layer as long as the image has no more than `max_layers`; above that, the least
        shared neighbours are joined. `"per_package"`: each package is a layer; more than `max_layers` are an error.
        `"flat"`: the whole image, its base included, is one layer, which it shares with no other image.
        """
    )


class OciImageMaxLayersField(IntField):
    alias = "max_layers"
    default = 125
    value: int
    help = help_text(
        """
        The most layers that the image may have, the base, opam's root and the state layer included. At least 4.

        The default is what docker's image store takes: of the 127 that its overlay2 driver can stack it keeps two for
        containers, and it refuses the 126th with "max depth exceeded". podman and containerd take more.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[int], address: Address) -> Optional[int]:
        value = super().compute_value(raw_value, address)
        if value is not None and value < 4:
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} must be at least 4 (base, opam's root, packages, state), "
                f"but is {value}."
            )
        return value


class OciImageSharedWithField(StringSequenceField):
    alias = "shared_with"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Addresses of other `oci_package_image` targets whose layers this image is to share where it must join packages
        into groups: packages that more of these images hold stay alone longer, and the groups are formed alike in all.
        Have the images name each other.

        Default: none; the image is then grouped by itself, in an `oci_image_layout` together with its other images. The
        field says nothing about what is built or packaged, and it counts only above `max_layers`.
        """
    )


class OciImageCompressionField(StringField):
    alias = "compression"
    valid_choices = ("gzip", "zstd", "zstd:chunked", "none")
    default = "gzip"
    value: str
    help = help_text(
        """
        How the layers' blobs are compressed. The image's contents, and with it the image's id, are the same for all.

        `"gzip"` is read by everything. `"zstd"` is smaller and several times faster to unpack; it needs containerd
        1.5, podman 3 or docker 23, and `zstd` in the base's `packages`. `"none"` leaves it to others.

        `"zstd:chunked"` is zstd of which podman 5.4 fetches the files that it does not have yet, if its `storage.conf` has
        `enable_partial_images`. It is a tenth larger than `"zstd"`, and the same to whoever else reads that.
        """
    )


class OciImageCompressionLevelField(IntField):
    alias = "compression_level"
    help = help_text(
        """
        The level of compression: 1 to 9 for gzip (default: 5), 1 to 19 for zstd and zstd:chunked (default: 3).

        A level of your own means that layers are compressed once more than they otherwise are.
        """
    )


class OciImageFormatField(StringField):
    alias = "format"
    valid_choices = ("oci", "oci-archive", "docker-archive")
    default = "oci"
    value: str
    help = help_text(
        """
        What `package` writes: `"oci"`, a directory (an OCI image layout); `"oci-archive"`, the same as one `.tar` file;
        `"docker-archive"`, a `.tar` file for `docker load` and `podman load`, with uncompressed layers and with
        neither SBOM nor provenance.
        """
    )


class OciImageSbomField(StringField):
    alias = "sbom"
    valid_choices = ("attached", "files", "none")
    default = "attached"
    value: str
    help = help_text(
        """
        What becomes of the list of the image's opam and Debian packages (SPDX 2.3 and CycloneDX 1.5, JSON).

        `"attached"`: it is written beside the image, and into it as OCI 1.1 referrers, which `publish` sends along. The
        layout's index.json then has entries for them as well, so that tools want the image's tag:
        `oci:dist/images/name:latest`. `"files"`: beside the image only. `"none"`: not at all.
        """
    )


class OciImageProvenanceField(StringField):
    alias = "provenance"
    valid_choices = ("attached", "files", "none")
    help = help_text(
        """
        What becomes of the statement of what the image was made of: in-toto's, with SLSA's provenance (v1), not signed. It
        names the lockfiles, opam files, sources, patches, .debs and opam repositories with their checksums, and the plugin.

        `"attached"`: it is written beside the image, as `name.provenance.json`, and into it as an OCI 1.1 referrer.
        `"files"`: beside the image only. `"none"`: not at all. Default: as the field `sbom` says.
        """
    )


class OciImageOverlappingFilesField(StringSequenceField):
    alias = "overlapping_files"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Paths that packages of the image may hold differently although they do not depend on one another, as glob patterns of
        absolute paths in which `*` also stands for slashes: `["/home/opam/.opam/default/share/*/index"]`. Of such a path the
        image has what the later of its layers says, and nothing of what the others do.

        Default: none, so that such a path is an error that names the packages. Builds have `[opam].overlapping_files`, which
        holds for images too.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        check_each(cls.alias, address, value, ABSOLUTE_PATH, '"/etc/foo.conf"')
        return value
