"""The config of an image: what a container engine needs to run it."""

from __future__ import annotations

from typing import Any, cast

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.images.environment import Variables, image_env
from opam_oci.images.image_texts import ImageConfig

CREATED = "1970-01-01T00:00:01Z"


def image_config(field_set: OciPackageImageFieldSet, variables: Variables) -> ImageConfig:
    """The `config` of an OCI image; keys without a value are left out. variables: what the image has without its `env` field.

    Raises InvalidFieldException."""
    config: dict[str, Any] = {
        "Env": image_env(field_set, variables),
        "Entrypoint": list(field_set.entrypoint.value),
        "Cmd": list(field_set.cmd.value),
        "User": field_set.user.value,
        "WorkingDir": field_set.workdir.value,
        "ExposedPorts": {port if "/" in port else f"{port}/tcp": {} for port in field_set.exposed_ports.value},
        "Volumes": {path: {} for path in field_set.volumes.value},
        "StopSignal": field_set.stop_signal.value,
        "Labels": dict(field_set.labels.value or {}),
    }
    return cast("ImageConfig", {key: value for key, value in config.items() if value})
