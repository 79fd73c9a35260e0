"""`publish` for `oci_package_image`: to registries, and to layout directories that many write to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, cast

from pants.base.build_environment import get_buildroot
from pants.core.goals.publish import (
    PublishFieldSet,
    PublishOutputData,
    PublishPackages,
    PublishProcesses,
    PublishRequest,
)
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, Digest, DigestSubset, PathGlobs, RemovePrefix
from pants.engine.process import InteractiveProcess
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from opam_oci.destinations import Destination, Naming, destinations, tag_text
from opam_oci.engine import (
    addresses_of,
    collect_rules,
    concurrently,
    create_digest,
    digest_contents,
    digest_subset,
    environment_vars,
    image_layout,
    image_naming,
    opam_lock,
    program_found,
    remove_prefix,
    rule,
    sandbox_tool,
    targets_of,
    uncacheable_rule,
)
from opam_oci.host_programs import check_version, env_names, find_program, find_python, hidden
from opam_oci.image_packages import packages_by_resolve
from opam_oci.lockfile import OpamLock
from opam_oci.products import (
    ImageLayout,
    ImageLayoutRequest,
    ImageNaming,
    ImageNamingRequest,
    OpamLockRequest,
    ProgramFound,
    ProgramRequest,
    SandboxTool,
)
from opam_oci.publish_options import OciPublishSubsystem, Registry
from opam_oci.sandbox import request_file
from opam_oci.target_types import (
    OciImagePackagesField,
    OciImageRepositoriesField,
    OciImageSkipPushField,
    OciImageTagsField,
)

# Digests are preserved, and tried again what fails, from this one on; Debian 12 has 1.9.3.
SKOPEO_MINIMUM = (1, 9)

# Where skopeo finds its way, its credentials, its certificates and its memory of which blobs are where.
SKOPEO_ENV = (
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "CONTAINERS_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
    *(name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())),
)


class PublishOciImageRequest(PublishRequest):
    pass


@dataclass(frozen=True)
class PublishOciImageFieldSet(PublishFieldSet):
    publish_request_type = PublishOciImageRequest
    required_fields = (OciImagePackagesField, OciImageRepositoriesField)

    packages: OciImagePackagesField
    repositories: OciImageRepositoriesField
    image_tags: OciImageTagsField
    skip_push: OciImageSkipPushField

    def get_output_data(self) -> PublishOutputData:
        return PublishOutputData({"publisher": "opam_oci", **super().get_output_data()})


class NoLayoutError(Exception):
    """A package is no OCI image layout."""


@rule
async def find_image_layout(request: ImageLayoutRequest) -> ImageLayout:
    for built in request.packages:
        for artifact in built.artifacts:
            if artifact.relpath is None:
                continue
            index = await digest_contents(
                await digest_subset(DigestSubset(built.digest, PathGlobs([f"{artifact.relpath}/index.json"])))
            )
            if index:
                entries = json.loads(index[0].content)["manifests"]
                # What has no name is about an image, or there is one image only.
                named = [e for e in entries if "org.opencontainers.image.ref.name" in e.get("annotations", {})]
                digests = {entry["digest"] for entry in named or entries}
                if len(digests) == 1:
                    layout = await digest_subset(DigestSubset(built.digest, PathGlobs([f"{artifact.relpath}/**"])))
                    return ImageLayout(digests.pop(), await remove_prefix(RemovePrefix(layout, artifact.relpath)))
    raise NoLayoutError(
        f"{request.address} was not packaged as an OCI image layout of one image, which publishing and running it need."
    )


@rule
async def find_image_naming(request: ImageNamingRequest, publish: OciPublishSubsystem) -> ImageNaming:
    """The placeholders of an image's names. The lockfile is read only where a version is asked for."""
    registries = publish.registries
    texts = [
        *request.image_tags,
        *(request.repositories or ()),
        publish.default_repository,
        *(text for r in registries.values() for text in (*r.extra_image_tags, r.repository or "")),
    ]
    placeholders: dict[str, str | Mapping[str, str]] = {"pants": {"hash": request.digest.rpartition(":")[2]}}
    environment: EnvironmentVars = await environment_vars(EnvironmentVarsRequest(env_names(publish.tag_env_vars)))
    placeholders["env"] = dict(environment)
    if any("{versions." in text for text in texts):
        addresses = await addresses_of(request.packages.to_unparsed_address_inputs())
        selections = packages_by_resolve(request.address, await targets_of(addresses))
        locks: tuple[OpamLock, ...] = await concurrently(
            opam_lock(OpamLockRequest(selection.resolve)) for selection in selections
        )
        placeholders["versions"] = {
            name: tag_text(package.version) for lock in locks for name, package in lock.packages.items()
        }
    naming = Naming(
        request.address,
        request.image_tags,
        request.repositories,
        placeholders,
        publish.default_repository,
        get_buildroot(),
    )
    if request.local:
        # As a layout names it: without a registry.
        registries = FrozenDict({"": Registry("oci:/", default=True)})
    return ImageNaming(destinations(naming, registries))


# Not cached: what was missing in one run may be installed in the next, under the same daemon.
@uncacheable_rule
async def look_for_program(request: ProgramRequest) -> ProgramFound:
    path = find_program(request.names, request.path, purpose=request.purpose, package=request.package)
    if request.minimum:
        check_version(path, request.minimum, package=request.package)
    return ProgramFound(path, find_python())


def skipped(names: Iterable[str], reason: str, digest: str = "") -> PublishPackages:
    return PublishPackages(tuple(names), None, reason, PublishOutputData({"digest": digest} if digest else {}))


@rule(desc="Publish OCI image", level=LogLevel.DEBUG)
async def publish_image(request: PublishOciImageRequest, publish: OciPublishSubsystem) -> PublishProcesses:
    field_set = cast(PublishOciImageFieldSet, request.field_set)
    address = str(field_set.address)
    if field_set.skip_push.value:
        return PublishProcesses([skipped([address], f"(by `{field_set.skip_push.alias}` on {address})")])
    layout: ImageLayout = await image_layout(ImageLayoutRequest(field_set.address, request.packages))
    naming: ImageNaming = await image_naming(
        ImageNamingRequest(
            field_set.address,
            field_set.packages,
            field_set.image_tags.value,
            field_set.repositories.value,
            layout.manifest_digest,
        )
    )
    if not naming.destinations:
        reason = (
            "(its `repositories` name none)"
            if field_set.repositories.value is not None
            else ("(it sets no `repositories`, and no entry of `[oci-publish].registries` is a default)")
        )
        return PublishProcesses([skipped([address], reason, layout.manifest_digest)])

    tool: SandboxTool = await sandbox_tool()
    found: list[PublishPackages] = []
    for destination in naming.destinations:
        if destination.skipped:
            found.append(skipped(destination.names, destination.skipped, layout.manifest_digest))
        elif destination.layout:
            found.append(into_layout(destination, layout, tool, find_python()))
        else:
            environment: EnvironmentVars = await environment_vars(
                EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)])
            )
            skopeo: ProgramFound = await program_found(
                ProgramRequest(
                    ("skopeo",),
                    environment.get("PATH", ""),
                    f"Publishing {address} to a registry",
                    "skopeo",
                    SKOPEO_MINIMUM,
                )
            )
            for ref in destination.refs:
                values = push_request(destination, ref, skopeo.path, publish.retries)
                inputs = await create_digest(CreateDigest([request_file(values)]))
                found.append(to_registry(ref, layout, tool, skopeo.python, inputs, skopeo_env(environment)))
    return PublishProcesses(found)


def skopeo_env(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's environment for skopeo; where Pants was started is where a relative path is from."""
    env = dict(environment)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF"):
        if env.get(name):
            env[name] = os.path.join(get_buildroot(), env[name])
    return hidden(env)


def push_request(destination: Destination, ref: str, skopeo: str, retries: int) -> dict[str, Any]:
    return {
        "image": "image",
        "reference": ref,
        "tls_verify": destination.tls_verify,
        "cert_dir": destination.cert_dir,
        "skopeo": skopeo,
        "retries": retries,
    }


def output_data(layout: ImageLayout, repository: str, tags: tuple[str, ...]) -> PublishOutputData:
    return PublishOutputData(
        {
            "digest": layout.manifest_digest,
            "repository": repository,
            "tags": tags,
        }
    )


def to_registry(
    ref: str, layout: ImageLayout, tool: SandboxTool, python: str, inputs: Digest, env: Mapping[str, str]
) -> PublishPackages:
    """One process for each tag: each succeeds or fails for itself."""
    return PublishPackages(
        names=(ref,),
        process=InteractiveProcess(
            argv=[python, "-sEB", "__tool", "push", "request.json"],
            env=env,
            input_digest=inputs,
            immutable_input_digests={"__tool": tool.parts["publishing"], "image": layout.digest},
        ),
        description=ref.partition("/")[0],
        data=output_data(layout, ref.rpartition(":")[0], (ref.rpartition(":")[2],)),
    )


def into_layout(destination: Destination, layout: ImageLayout, tool: SandboxTool, python: str) -> PublishPackages:
    """All tags at once, under one lock."""
    argv = [python, "-sEB", "__tool", "add", destination.layout, "--image", "image"]
    for ref in destination.refs:
        argv += ["--name", ref]
    return PublishPackages(
        names=destination.names,
        process=InteractiveProcess(
            argv=argv,
            env={"LANG": "C.UTF-8"},
            immutable_input_digests={"__tool": tool.parts["publishing"], "image": layout.digest},
        ),
        description=f"oci:{destination.layout}",
        data=output_data(layout, f"oci:{destination.layout}:{destination.repository}", destination.tags),
    )


def rules() -> list[object]:
    return [*collect_rules(), *PublishOciImageFieldSet.rules()]
