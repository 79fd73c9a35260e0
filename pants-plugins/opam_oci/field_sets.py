"""Field sets that several goals use."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.package import OutputPathField, PackageFieldSet

from opam_oci.fields.image import (
    OciImageBaseField,
    OciImageCompressionField,
    OciImageCompressionLevelField,
    OciImageFormatField,
    OciImageLayersField,
    OciImageMaxLayersField,
    OciImageOverlappingFilesField,
    OciImagePackagesField,
    OciImageProvenanceField,
    OciImageSbomField,
    OciImageSharedWithField,
)
from opam_oci.fields.image_config import (
    OciImageAnnotationsField,
    OciImageCmdField,
    OciImageEntrypointField,
    OciImageEnvField,
    OciImageExposedPortsField,
    OciImageLabelsField,
    OciImageStopSignalField,
    OciImageUserField,
    OciImageVolumesField,
    OciImageWorkdirField,
)
from opam_oci.fields.publishing import OciImageSkipPushField
from opam_oci.fields.runtime_image import OciImageRuntimeBaseField, OciImageRuntimeField, OciImageRuntimeKeepField


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
    overlapping_files: OciImageOverlappingFilesField
    compression: OciImageCompressionField
    compression_level: OciImageCompressionLevelField
    format: OciImageFormatField
    sbom: OciImageSbomField
    provenance: OciImageProvenanceField
    runtime: OciImageRuntimeField
    runtime_base: OciImageRuntimeBaseField
    runtime_keep: OciImageRuntimeKeepField
    skip_push: OciImageSkipPushField
    output_path: OutputPathField
