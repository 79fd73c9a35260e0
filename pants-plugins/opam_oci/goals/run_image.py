"""`run` for `oci_package_image`: a container without a daemon, or in docker or podman."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from pants.base.build_environment import get_buildroot
from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior, RunRequest
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest
from pants.engine.target import WrappedTargetRequest
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImagePackagesField
from opam_oci.fields.publishing import OciImageTagsField
from opam_oci.host.checks import TOOL_PATH
from opam_oci.host.programs import ProgramFound, ProgramRequest, env_names, look_for_program
from opam_oci.pants_engine.calls import build_package, create_digest, environment_vars, target_at
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.publishing.image_layout import ImageLayoutRequest, find_image_layout
from opam_oci.publishing.naming import ImageNamingRequest, find_image_naming
from opam_oci.publishing.skopeo import SKOPEO_MINIMUM
from opam_oci.sandbox.process import request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_run import OciRunSubsystem, Runtime

# What `auto` tries, in this order.
_AUTOMATIC = ("crun", "runc", "podman")

_ENGINES = ("docker", "podman")

# Debian's names of packages that are not called as their program.
_PACKAGES = {"docker": "docker.io"}


class RunOptionError(Exception):
    """An option in `[oci-run]` makes no sense."""


@dataclass(frozen=True)
class OciImageRunFieldSet(RunFieldSet):
    required_fields = (OciImagePackagesField, OciImageTagsField)
    run_in_sandbox_behavior = RunInSandboxBehavior.NOT_SUPPORTED

    packages: OciImagePackagesField
    image_tags: OciImageTagsField


def read_volumes(entries: tuple[str, ...]) -> list[dict[str, str]]:
    """Raises RunOptionError for what is no SOURCE:TARGET."""
    volumes = []
    for entry in entries:
        source, _, target = entry.rpartition(":")
        source = os.path.normpath(os.path.join(get_buildroot(), os.path.expanduser(source))) if source else ""
        if not source or not target.startswith("/"):
            raise RunOptionError(
                f"`[oci-run].volumes` has {entry!r}; it takes `SOURCE:/target`, such as `data:/srv/data`."
            )
        if not os.path.exists(source):
            raise RunOptionError(f"`[oci-run].volumes` has {entry!r}, but there is no {source}.")
        volumes.append({"source": source, "target": target})
    return volumes


@rule(desc="Prepare to run OCI image", level=LogLevel.DEBUG)
async def run_image(field_set: OciImageRunFieldSet, options: OciRunSubsystem) -> RunRequest:
    address = field_set.address
    environment = await environment_vars(EnvironmentVarsRequest(["PATH"]))
    extra = await environment_vars(EnvironmentVarsRequest(env_names(options.env_vars)))
    path = f"{environment.get('PATH', '')}:{TOOL_PATH}"
    purpose = f"Running {address}"
    runtime: ProgramFound
    if options.runtime is Runtime.auto:
        runtime = await look_for_program(ProgramRequest(_AUTOMATIC, path, purpose, "crun"), **implicitly())
    else:
        name = options.runtime.value
        runtime = await look_for_program(
            ProgramRequest((name,), path, purpose, _PACKAGES.get(name, name)), **implicitly()
        )
    kind = os.path.basename(runtime.path)
    if options.load_only and kind not in _ENGINES:
        raise RunOptionError("`[oci-run].load_only` needs `--oci-run-runtime=docker` or `--oci-run-runtime=podman`.")
    values: dict[str, Any] = {
        "image": "image",
        "store": "store",
        "runtime": runtime.path,
        "kind": kind,
        "env": [f"{name}={value}" for name, value in sorted(extra.items())],
        "network": options.network.value,
        "hostname": re.sub(r"[^A-Za-z0-9-]+", "-", address.target_name).strip("-")[:63] or "image",
        "volumes": read_volumes(options.volumes),
        "run_args": list(options.run_args),
        "engine_args": list(options.engine_args),
        "names": [],
        "skopeo": "",
    }
    if kind == "docker":
        skopeo = await look_for_program(
            ProgramRequest(("skopeo",), path, f"Loading {address} into docker", "skopeo", SKOPEO_MINIMUM),
            **implicitly(),
        )
        values["skopeo"] = skopeo.path

    wrapped = await target_at(WrappedTargetRequest(address, description_of_origin="the `run` goal"))
    built = await build_package(OciPackageImageFieldSet.create(wrapped.target))
    layout = await find_image_layout(ImageLayoutRequest(address, (built,)), **implicitly())
    if kind in _ENGINES:
        naming = await find_image_naming(
            ImageNamingRequest(
                address, field_set.packages, field_set.image_tags.value, None, layout.manifest_digest, local=True
            ),
            **implicitly(),
        )
        values["names"] = [ref for destination in naming.destinations for ref in destination.refs]
    tool = await find_sandbox_tool(**implicitly())
    return RunRequest(
        digest=await create_digest(CreateDigest([request_file(values)])),
        args=(
            runtime.python,
            "-sEB",
            "{chroot}/__tool",
            "load" if options.load_only else "run",
            "{chroot}/request.json",
            *(() if options.load_only else ("--",)),
        ),
        immutable_input_digests={"__tool": tool.parts["publishing"], "image": layout.digest},
        append_only_caches={"opam_oci_layers": "store"},
    )


def rules() -> list[object]:
    return [*collect_rules(), *OciImageRunFieldSet.rules()]
