"""What the rules for images ask each other for: field sets, requests and results, no logic."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.package import OutputPathField, PackageFieldSet
from pants.engine.addresses import Address
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import Digest

from opam_oci.image_packages import PackageSelection, UnionPackage
from opam_oci.lockfile import Deb
from opam_oci.products import BuildPlan, Foundation, Layer
from opam_oci.target_types import (
    OciImageAnnotationsField,
    OciImageBaseField,
    OciImageCmdField,
    OciImageCompressionField,
    OciImageCompressionLevelField,
    OciImageEntrypointField,
    OciImageEnvField,
    OciImageExposedPortsField,
    OciImageFormatField,
    OciImageLabelsField,
    OciImageLayersField,
    OciImageMaxLayersField,
    OciImagePackagesField,
    OciImageRuntimeBaseField,
    OciImageRuntimeField,
    OciImageRuntimeKeepField,
    OciImageSbomField,
    OciImageSharedWithField,
    OciImageSkipPushField,
    OciImageStopSignalField,
    OciImageUserField,
    OciImageVolumesField,
    OciImageWorkdirField,
)


@dataclass(frozen=True)
class OciPackageImageFieldSet(PackageFieldSet):
    required_fields = (OciImagePackagesField, OciImageBaseField)

    packages: OciImagePackagesField
    base: OciImageBaseField
    entrypoint: OciImageEntrypointField
    cmd: OciImageCmdField
    env: OciImageEnvField
    user: OciImageUserField
    workdir: OciImageWorkdirField
    exposed_ports: OciImageExposedPortsField
    volumes: OciImageVolumesField
    stop_signal: OciImageStopSignalField
    labels: OciImageLabelsField
    annotations: OciImageAnnotationsField
    layers: OciImageLayersField
    max_layers: OciImageMaxLayersField
    shared_with: OciImageSharedWithField
    compression: OciImageCompressionField
    compression_level: OciImageCompressionLevelField
    format: OciImageFormatField
    sbom: OciImageSbomField
    runtime: OciImageRuntimeField
    runtime_base: OciImageRuntimeBaseField
    runtime_keep: OciImageRuntimeKeepField
    skip_push: OciImageSkipPushField
    output_path: OutputPathField


@dataclass(frozen=True)
class ImagePartsRequest(EngineAwareParameter):
    """Asks for all packages of an image, built."""

    field_set: OciPackageImageFieldSet

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class ImageParts:
    """An image's packages, dependencies first, with their layers, and what they stand on. `debs` are of the packages."""

    address: Address
    selections: tuple[PackageSelection, ...]
    plan: BuildPlan
    ground: Foundation
    packages: tuple[UnionPackage, ...]
    layers: tuple[Layer, ...]
    debs: tuple[Deb, ...]


@dataclass(frozen=True)
class ImageRequest(EngineAwareParameter):
    """Asks for an image. `companions`: further images that it is to share layers with. `plain`: with gzip layers
    whatever its field says, and without SBOM."""

    field_set: OciPackageImageFieldSet
    companions: tuple[OciPackageImageFieldSet, ...] = ()
    plain: bool = False

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class OciImage:
    """An image as an OCI layout. `layout` holds all of it, `sbom` the files of its SBOM (perhaps none).

    `index` is the text of index.json, `manifest` and `config` are digests "sha256:...", `layers` bottom first.
    """

    address: Address
    layout: Digest
    index: bytes
    manifest: str
    config: str
    layers: tuple[Layer, ...]
    sbom: Digest


@dataclass(frozen=True)
class PackedLayerRequest(EngineAwareParameter):
    """Asks for one layer out of one or more that lie on one another, compressed anew.

    `base` is the base whose programs compress. whole: the layers are an image, base and all. level 0: the default.
    """

    base: Layer
    layers: tuple[Layer, ...]
    compression: str
    level: int
    whole: bool = False

    def debug_hint(self) -> str:
        return ", ".join(layer.full_name for layer in self.layers[:3])


@dataclass(frozen=True)
class RuntimeLayerRequest(EngineAwareParameter):
    """Asks for what a runtime image holds above its base."""

    parts: ImageParts
    base: Layer
    keep: tuple[str, ...]

    def debug_hint(self) -> str:
        return str(self.parts.address)
