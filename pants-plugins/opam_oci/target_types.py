"""The targets and fields of this backend."""

from __future__ import annotations

import re
from typing import Iterable, Optional

from pants.core.goals.package import OutputPathField
from pants.engine.addresses import Address
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    BoolField,
    Dependencies,
    DictStringToStringField,
    IntField,
    InvalidFieldException,
    InvalidTargetException,
    OptionalSingleSourceField,
    SpecialCasedDependencies,
    StringField,
    StringSequenceField,
    Target,
    TargetGenerator,
)
from pants.util.docutil import bin_name
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from opam_oci.subsystems import OpamSubsystem

_OPAM_REQUIREMENT = re.compile(r"[A-Za-z0-9_+-]+\s*(?:(?:=|!=|<|<=|>|>=)\s*[A-Za-z0-9_+.~-]+)?\Z")
_DEBIAN_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
_PORT = re.compile(r"[0-9]{1,5}(?:/(?:tcp|udp|sctp))?\Z")
_ABSOLUTE = re.compile(r"/[^\0]*\Z")
_SIGNAL = re.compile(r"(?:SIG[A-Z0-9+-]+|[0-9]{1,2})\Z")
# OCI distribution-spec: "Pulling manifests".
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


def _check_each(
    alias: str, address: Address, values: Optional[Iterable[str]], pattern: re.Pattern[str], example: str
) -> None:
    for value in values or ():
        if not pattern.match(value):
            raise InvalidFieldException(
                f"The `{alias}` field in target {address} holds {value!r}; it takes entries such as {example}."
            )


class OpamResolveField(StringField):
    alias = "resolve"
    help = help_text(
        """
        The resolve from `[opam].resolves` that this target belongs to.

        Default: `[opam].default_resolve`.
        """
    )

    def value_or_default(self, opam: OpamSubsystem) -> str:
        return self.value or opam.default_resolve


# opam_requirement


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
        _check_each(cls.alias, address, value, _OPAM_REQUIREMENT, '"lwt" or "lwt>=5.6"')
        return value


class OpamFileField(OptionalSingleSourceField):
    expected_file_extensions = (".opam",)
    help = help_text(
        """
        An opam file of this project, such as `"mylib.opam"`: what it depends on are roots of the resolve, as for
        `opam install --deps-only`. Its name without `.opam` is the package's. The package itself is not in the lockfile.

        Default: none.
        """
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
        _check_each(cls.alias, address, value, _OPAM_REQUIREMENT, '"dune<3.18"')
        return value


class OpamRequirementTarget(Target):
    alias = "opam_requirement"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OpamRequirementsField,
        OpamFileField,
        OpamConstraintsField,
        OpamResolveField,
    )
    help = help_text(
        f"""
        Roots of a resolve: opam packages that its lockfile must contain.

        A resolve's roots are those of all its `opam_requirement` targets together. After a change run
        `{bin_name()} generate-lockfiles --resolve=<name>`; builds refuse a lockfile that no longer fits.
        """
    )


# opam_package and its generator


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


class OpamPackageTarget(Target):
    alias = "opam_package"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OpamPackageNameField,
        OpamPackageVersionField,
        OpamResolveField,
        OpamPackageDependenciesField,
    )
    help = help_text(
        """
        One opam package of a lockfile, which becomes one layer of an image.

        Targets of this type are generated by `opam_packages`; list them in the `packages` field of an
        `oci_package_image`.
        """
    )

    def validate(self) -> None:
        if not self.address.is_generated_target:
            raise InvalidTargetException(
                f"The `{self.alias}` target type is not written by hand, but {self.address} is. Use an "
                f"`{OpamPackagesTarget.alias}` target: it generates one `{self.alias}` for each package of a lockfile."
            )


class OpamPackagesTarget(TargetGenerator):
    alias = "opam_packages"
    generated_target_cls = OpamPackageTarget
    core_fields = (*COMMON_TARGET_FIELDS, OpamResolveField)
    copied_fields = COMMON_TARGET_FIELDS
    moved_fields = ()
    help = help_text(
        f"""
        Generates one `opam_package` for each package of a resolve's lockfile.

        With `opam_packages(name="default")` in `3rdparty/opam`, the package lwt of the lockfile has the address
        `3rdparty/opam:default#lwt`. The lockfile is written by `{bin_name()} generate-lockfiles`.
        """
    )


# debian_rootfs


class DebianResolveField(StringField):
    alias = "resolve"
    help = help_text(
        """
        The resolve from `[debian].resolves` whose lockfile lists this base's packages. Two bases cannot share one.

        Default: the target's name.
        """
    )

    def value_or_default(self, address: Address) -> str:
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
        _check_each(cls.alias, address, value, _DEBIAN_PACKAGE, '"opam"')
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


class DebianRootfsTarget(Target):
    alias = "debian_rootfs"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        DebianResolveField,
        DebianSuiteField,
        DebianPackagesField,
        DebianArchitectureField,
    )
    help = help_text(
        f"""
        A Debian system that opam packages are built in, and the lowest layer of their images.

        Its packages are locked with checksums in `[debian].resolves`; run
        `{bin_name()} generate-lockfiles --resolve=<name>` after a change. `[opam].resolves_to_base` says which
        resolves use it.
        """
    )


# oci_package_image


class OciImagePackagesField(SpecialCasedDependencies):
    alias = "packages"
    required = True
    help = help_text(
        """
        The `opam_package` targets that the image is for, as addresses: `["3rdparty/opam:default#lwt"]`.

        What they depend on comes along. They may be of several resolves, if these have one base and what they share is
        locked the same in each. The address of an `opam_packages` target stands for all packages of its lockfile.
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


class OciImageEntrypointField(StringSequenceField):
    alias = "entrypoint"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        The command, word by word, that a container runs before what its user adds: `["opam", "exec", "--"]`.

        Default: none; a container then runs `cmd`, or what its user says instead.
        """
    )


class OciImageCmdField(StringSequenceField):
    alias = "cmd"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        The words that follow `entrypoint` if a container's user gives none.

        Default: none; with no `entrypoint` either, a command must be given to run the image.
        """
    )


class OciImageEnvField(DictStringToStringField):
    alias = "env"
    help = help_text(
        """
        Environment variables of containers.

        They come on top of those which make the opam switch usable (PATH, OPAM_SWITCH_PREFIX, CAML_LD_LIBRARY_PATH,
        OCAML_TOPLEVEL_PATH, HOME and LANG); one of the same name replaces it.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        for name in value or ():
            if not name or "=" in name or "\0" in name:
                raise InvalidFieldException(
                    f"The `{cls.alias}` field in target {address} has {name!r}, which cannot name a variable."
                )
        return value


class OciImageUserField(StringField):
    alias = "user"
    default = "opam"
    value: str
    help = help_text(
        """
        The user that containers run as, by name or number.

        The default owns the opam switch (1000:1000); another user can read it but not install into it.
        """
    )


class OciImageWorkdirField(StringField):
    alias = "workdir"
    default = "/home/opam"
    value: str
    help = "The directory, absolute, that containers start in."

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None and not value.startswith("/"):
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} must be an absolute path, but is {value!r}."
            )
        return value


class OciImageLabelsField(DictStringToStringField):
    alias = "labels"
    help = "Labels in the image's configuration, as `docker inspect` shows them. Default: none."


class OciImageAnnotationsField(DictStringToStringField):
    alias = "annotations"
    help = help_text(
        """
        Annotations of the image's manifest, such as `{"org.opencontainers.image.source": "https://..."}`.

        Default: none.
        """
    )


class OciImageExposedPortsField(StringSequenceField):
    alias = "exposed_ports"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Ports that containers listen on, as documentation for whoever runs them: `["8080", "53/udp"]`.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        _check_each(cls.alias, address, value, _PORT, '"8080" or "53/udp"')
        return value


class OciImageVolumesField(StringSequenceField):
    alias = "volumes"
    default = ()
    value: tuple[str, ...]
    help = help_text(
        """
        Directories, absolute, that containers keep outside of the image: `["/var/lib/data"]`.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        _check_each(cls.alias, address, value, _ABSOLUTE, '"/var/lib/data"')
        return value


class OciImageStopSignalField(StringField):
    alias = "stop_signal"
    help = help_text(
        """
        The signal that ends a container, by name or number: `"SIGINT"`.

        Default: none; engines then send SIGTERM.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        _check_each(cls.alias, address, [value] if value is not None else [], _SIGNAL, '"SIGINT" or "2"')
        return value


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
    valid_choices = ("gzip", "zstd", "none")
    default = "gzip"
    value: str
    help = help_text(
        """
        How the layers' blobs are compressed. The image's contents, and with it the image's id, are the same for all.

        `"gzip"` is read by everything. `"zstd"` is smaller and several times faster to unpack; it needs containerd
        1.5, podman 3 or docker 23, and `zstd` in the base's `packages`. `"none"` leaves it to others.
        """
    )


class OciImageCompressionLevelField(IntField):
    alias = "compression_level"
    help = help_text(
        """
        The level of compression: 1 to 9 for gzip (default: 5), 1 to 19 for zstd (default: 3).

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
        `"docker-archive"`, a `.tar` file for `docker load` and `podman load`, with uncompressed layers and without SBOM.
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

        `"attached"`: it is written beside the image, and into it as OCI 1.1 referrers. The layout's index.json then has
        three entries, so that tools want the image's tag: `oci:dist/images/name:latest`. `"files"`: beside the image only.
        `"none"`: not at all.
        """
    )


class OciImageRuntimeField(BoolField):
    alias = "runtime"
    default = False
    help = help_text(
        """
        Whether to make an image that only runs the `packages`: their programs, shared data and the libraries that they
        load, on the slim base named by `runtime_base`; without compilers, headers, opam and what only builds need.

        Every program's libraries are looked up in the result, and one that is missing is an error that names its Debian
        package. Files that are opened by name at run time can be found by nobody: list them in `runtime_keep`.
        """
    )


class OciImageRuntimeBaseField(StringField):
    alias = "runtime_base"
    help = help_text(
        """
        The address of the `debian_rootfs` that a `runtime` image stands on. It needs neither opam nor a compiler, but must be
        of the same suite and architecture as the base that the packages are built in.

        Required if `runtime` is set, and no use otherwise.
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
        layers; a pattern that matches nothing is an error.

        Default: none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        _check_each(cls.alias, address, value, _ABSOLUTE, '"/usr/bin/gpg"')
        return value


class OciImageRepositoriesField(StringSequenceField):
    alias = "repositories"
    help = help_text(
        f"""
        Where `{bin_name()} publish` puts the image:

          * `"@name"`: the registry or layout directory of that name in `[oci-publish].registries`; with a path,
            `"@name/tools/{{name}}"`, the image has that path there
          * `"registry.example.org/tools/{{name}}"`: a registry, and the image's path
          * `"oci:/srv/images"`: a directory that many publish to at once, an OCI image layout. The image is named
            `{{name}}:{{tag}}` in its index; `"oci:/srv/images:tools/{{name}}"` says another name before the tag

        Placeholders are those of `image_tags`. Where the path is left out, it is that of the registry's `repository`
        or of `[oci-publish].default_repository`.

        Default: all registries with `default = true`; with none of them, the image is not published. `[]` keeps it
        from being published.
        """
    )


class OciImageTagsField(StringSequenceField):
    alias = "image_tags"
    default = ("latest",)
    value: tuple[str, ...]
    help = help_text(
        """
        The tags that the image is published with, in every repository. They may contain placeholders:

          * `{versions.0install}`: the version of a package of the image's resolve (what a tag cannot hold becomes
            `-`)
          * `{pants.hash}`: the digest of the image's manifest, 64 digits; the same for the same image
          * `{env.GIT_COMMIT}`: a variable named in `[oci-publish].tag_env_vars`
          * `{name}`, `{directory}`, `{parent_directory}`: of this target

        Tags are in no cache key: changing them builds nothing.
        """
    )


class OciImageSkipPushField(BoolField):
    alias = "skip_push"
    default = False
    value: bool
    help = help_text(
        f"""
        If true, `{bin_name()} publish` neither builds nor publishes the image. Default: false.

        `skip_push` of an entry of `[oci-publish].registries` does so for one registry.
        """
    )


class OciPackageImageTarget(Target):
    alias = "oci_package_image"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OciImageDependenciesField,
        OciImagePackagesField,
        OciImageBaseField,
        OciImageEntrypointField,
        OciImageCmdField,
        OciImageEnvField,
        OciImageUserField,
        OciImageWorkdirField,
        OciImageExposedPortsField,
        OciImageVolumesField,
        OciImageStopSignalField,
        OciImageLabelsField,
        OciImageAnnotationsField,
        OciImageLayersField,
        OciImageMaxLayersField,
        OciImageSharedWithField,
        OciImageCompressionField,
        OciImageCompressionLevelField,
        OciImageFormatField,
        OciImageSbomField,
        OciImageRuntimeField,
        OciImageRuntimeBaseField,
        OciImageRuntimeKeepField,
        OciImageRepositoriesField,
        OciImageTagsField,
        OciImageSkipPushField,
        OutputPathField,
    )
    help = help_text(
        f"""
        An OCI image of opam packages: the base, one layer for each package, and a small layer with the state of
        opam and dpkg.

        `{bin_name()} package` writes it as an OCI image layout, a directory that skopeo, podman and others read:
        `skopeo inspect oci:dist/images/name:latest`. Images share the layers of the packages that they share.
        """
    )


# oci_image_layout


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

        Default: each image's target name. Two images cannot have the same tag.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        _check_each(cls.alias, address, (value or {}).values(), _TAG, '"v1.0"')
        return value


class OciImageLayoutTarget(Target):
    alias = "oci_image_layout"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OciImageDependenciesField,
        OciLayoutImagesField,
        OciLayoutTagsField,
        OciImageFormatField,
        OutputPathField,
    )
    help = help_text(
        f"""
        Several images in one OCI image layout: every blob is there once, and each image has a tag.

        `{bin_name()} package` writes a directory (or a file, see `format`), from which tools take an image by its tag:
        `skopeo inspect oci:dist/images/all:hello`. Where images have to join packages into groups, they are grouped
        together, so that what they share stays shared.
        """
    )


# oci_image_index


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
        what `[GLOBAL].pants_ignore` names, which includes `dist/`.

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
        _check_each(cls.alias, address, [value] if value is not None else [], _TAG, '"v1.0"')
        return value


class OciImageIndexTarget(Target):
    alias = "oci_image_index"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OciImageDependenciesField,
        OciIndexImagesField,
        OciIndexLayoutsField,
        OciIndexTagField,
        OutputPathField,
    )
    help = help_text(
        f"""
        One name for the images of several platforms: an OCI image index, from which an engine takes the image of its own.

        Packages run on what they were built on, so each platform's image is built by a machine of that platform; their
        layouts come together here. `{bin_name()} package` writes an OCI image layout.
        """
    )


TARGET_TYPES = (
    OpamRequirementTarget,
    OpamPackagesTarget,
    OpamPackageTarget,
    DebianRootfsTarget,
    OciPackageImageTarget,
    OciImageLayoutTarget,
    OciImageIndexTarget,
)
