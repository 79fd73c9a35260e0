"""The config of an image: what a container engine needs to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from opam_oci.field_sets import OciPackageImageFieldSet

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import ImageConfig


_SWITCH = "/home/opam/.opam/default"

# What `opam env` would set for the one switch of an image.
DEFAULT_ENV = {
    "PATH": f"{_SWITCH}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "OPAM_SWITCH_PREFIX": _SWITCH,
    "CAML_LD_LIBRARY_PATH": f"{_SWITCH}/lib/stublibs:{_SWITCH}/lib/ocaml/stublibs:{_SWITCH}/lib/ocaml",
    "OCAML_TOPLEVEL_PATH": f"{_SWITCH}/lib/toplevel",
    "HOME": "/home/opam",
    "LANG": "C.UTF-8",
}

# Debian's names of architectures that OCI calls otherwise.
OCI_ARCHITECTURES = {"i386": "386", "armhf": "arm", "armel": "arm", "ppc64el": "ppc64le", "mips64el": "mips64le"}

CREATED = "1970-01-01T00:00:01Z"


def image_config(field_set: OciPackageImageFieldSet) -> ImageConfig:
    """The `config` of an OCI image; keys without a value are left out."""
    own = dict(field_set.env.value or {})
    env = {name: own.pop(name, value) for name, value in DEFAULT_ENV.items()}
    env.update(sorted(own.items()))
    config: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in env.items()],
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
