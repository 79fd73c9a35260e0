"""`run` for `oci_package_image`: a container without a daemon, or in docker or podman."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from pants.base.build_environment import get_buildroot
from pants.core.goals.package import EnvironmentAwarePackageRequest
from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior, RunRequest
from pants.engine.addresses import Address
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest
from pants.engine.target import WrappedTargetRequest
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImagePackagesField
from opam_oci.fields.publishing import OciImageTagsField
from opam_oci.host.checks import TOOL_PATH
from opam_oci.host.programs import ProgramFound, ProgramRequest, env_names, hidden, look_for_program
from opam_oci.host.skopeo import SKOPEO_MINIMUM
from opam_oci.pants_engine.calls import build_package, create_digest, environment_vars, target_at
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.publishing.image_layout import ImageLayout, ImageLayoutRequest, find_image_layout
from opam_oci.publishing.naming import ImageNamingRequest, find_image_naming
from opam_oci.sandbox.process import STORE, request_file, running_request
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_run import OciRunSubsystem, Runtime

# What `auto` tries, in this order.
_AUTOMATIC = ("crun", "runc", "podman")

_ENGINES = ("docker", "podman")

# The tool takes the value of a variable NAME of the container from this and NAME in its own environment.
_VARIABLE = "OPAM_OCI_RUN_"

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
    """Volumes as the tool takes them. Raises RunOptionError for an entry that is not SOURCE:TARGET."""
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


async def find_runtime(address: Address, options: OciRunSubsystem, path: str) -> ProgramFound:
    """The program that runs containers, from `path`, a PATH. Raises MissingProgramError, RunOptionError."""
    names: tuple[str, ...] = _AUTOMATIC if options.runtime is Runtime.auto else (options.runtime.value,)
    package = _PACKAGES.get(names[0], names[0])
    runtime = await look_for_program(ProgramRequest(names, path, f"Running {address}", package), **implicitly())
    if options.load_only and os.path.basename(runtime.path) not in _ENGINES:
        raise RunOptionError("`[oci-run].load_only` needs `--oci-run-runtime=docker` or `--oci-run-runtime=podman`.")
    return runtime


async def find_skopeo(address: Address, kind: str, path: str) -> str:
    """The program that loads images into docker; "" where another engine needs none. Raises MissingProgramError."""
    if kind != "docker":
        return ""
    purpose = f"Loading {address} into docker"
    found = await look_for_program(ProgramRequest(("skopeo",), path, purpose, "skopeo", SKOPEO_MINIMUM), **implicitly())
    return found.path


async def build_layout(address: Address) -> ImageLayout:
    """The image at an address, built."""
    wrapped = await target_at(WrappedTargetRequest(address, description_of_origin="the `run` goal"))
    built = await build_package(EnvironmentAwarePackageRequest(OciPackageImageFieldSet.create(wrapped.target)))
    return await find_image_layout(ImageLayoutRequest(address, (built,)), **implicitly())


async def engine_names(field_set: OciImageRunFieldSet, kind: str, manifest_digest: str) -> list[str]:
    """What an engine with a store of images calls the image; none for those without."""
    if kind not in _ENGINES:
        return []
    naming = await find_image_naming(
        ImageNamingRequest(
            field_set.address, field_set.packages, field_set.image_tags.value, None, manifest_digest, local=True
        ),
        **implicitly(),
    )
    return [ref for destination in naming.destinations for ref in destination.refs]


@rule(desc="Prepare to run OCI image", level=LogLevel.DEBUG)
async def run_image(field_set: OciImageRunFieldSet, options: OciRunSubsystem) -> RunRequest:
    """How to run an image in a container, or to load it only. Raises RunOptionError, MissingProgramError."""
    address = field_set.address
    environment = await environment_vars(EnvironmentVarsRequest(["PATH"]))
    extra = await environment_vars(EnvironmentVarsRequest(env_names(options.env_vars)))
    path = f"{environment.get('PATH', '')}:{TOOL_PATH}"
    runtime = await find_runtime(address, options, path)
    kind = os.path.basename(runtime.path)
    volumes = read_volumes(options.volumes)
    skopeo = await find_skopeo(address, kind, path)
    layout = await build_layout(address)
    values = {
        "image": "image",
        "store": STORE,
        "runtime": runtime.path,
        "kind": kind,
        "env": sorted(extra),  # values may be secrets, and a request lies in Pants' store
        "network": options.network.value,
        "hostname": re.sub(r"[^A-Za-z0-9-]+", "-", address.target_name).strip("-")[:63] or "image",
        "volumes": volumes,
        "run_args": list(options.run_args),
        "engine_args": list(options.engine_args),
        "names": await engine_names(field_set, kind, layout.manifest_digest),
        "skopeo": skopeo,
    }
    return running_request(
        await find_sandbox_tool(**implicitly()),
        runtime.python,
        "load" if options.load_only else "run",
        () if options.load_only else ("--",),
        image=layout.digest,
        input_digest=await create_digest(CreateDigest([request_file(values)])),
        env=hidden({f"{_VARIABLE}{name}": value for name, value in extra.items()}),
    )


def rules() -> list[object]:
    return [*collect_rules(), *OciImageRunFieldSet.rules()]
