"""`publish` for `oci_package_image`: to registries, and to layout directories that many write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, cast

from pants.core.goals.publish import (
    PublishFieldSet,
    PublishOutputData,
    PublishPackages,
    PublishProcesses,
    PublishRequest,
)
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, Digest
from pants.engine.process import InteractiveProcess
from pants.util.logging import LogLevel

from opam_oci.fields.image import OciImagePackagesField
from opam_oci.fields.publishing import OciImageRepositoriesField, OciImageSkipPushField, OciImageTagsField
from opam_oci.host.programs import ProgramRequest, env_names, find_python, look_for_program
from opam_oci.pants_engine.calls import create_digest, environment_vars
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.publishing.destinations import Destination
from opam_oci.publishing.image_layout import ImageLayout, ImageLayoutRequest, find_image_layout
from opam_oci.publishing.naming import ImageNamingRequest, find_image_naming
from opam_oci.publishing.skopeo import SKOPEO_ENV, SKOPEO_MINIMUM, skopeo_env
from opam_oci.sandbox.process import request_file
from opam_oci.sandbox.tool import SandboxTool, find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem


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


def skipped(names: Iterable[str], reason: str, digest: str = "") -> PublishPackages:
    return PublishPackages(tuple(names), None, reason, PublishOutputData({"digest": digest} if digest else {}))


@rule(desc="Publish OCI image", level=LogLevel.DEBUG)
async def publish_image(request: PublishOciImageRequest, publish: OciPublishSubsystem) -> PublishProcesses:
    field_set = cast(PublishOciImageFieldSet, request.field_set)
    address = str(field_set.address)
    if field_set.skip_push.value:
        return PublishProcesses([skipped([address], f"(by `{field_set.skip_push.alias}` on {address})")])
    layout = await find_image_layout(ImageLayoutRequest(field_set.address, request.packages), **implicitly())
    naming = await find_image_naming(
        ImageNamingRequest(
            field_set.address,
            field_set.packages,
            field_set.image_tags.value,
            field_set.repositories.value,
            layout.manifest_digest,
        ),
        **implicitly(),
    )
    if not naming.destinations:
        reason = (
            "(its `repositories` name none)"
            if field_set.repositories.value is not None
            else ("(it sets no `repositories`, and no entry of `[oci-publish].registries` is a default)")
        )
        return PublishProcesses([skipped([address], reason, layout.manifest_digest)])

    tool = await find_sandbox_tool(**implicitly())
    found: list[PublishPackages] = []
    for destination in naming.destinations:
        if destination.skipped:
            found.append(skipped(destination.names, destination.skipped, layout.manifest_digest))
        elif destination.layout:
            found.append(into_layout(destination, layout, tool, find_python()))
        else:
            environment = await environment_vars(EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)]))
            skopeo = await look_for_program(
                ProgramRequest(
                    ("skopeo",),
                    environment.get("PATH", ""),
                    f"Publishing {address} to a registry",
                    "skopeo",
                    SKOPEO_MINIMUM,
                ),
                **implicitly(),
            )
            for ref in destination.refs:
                values = push_request(destination, ref, skopeo.path, publish.retries)
                inputs = await create_digest(CreateDigest([request_file(values)]))
                found.append(to_registry(ref, layout, tool, skopeo.python, inputs, skopeo_env(environment)))
    return PublishProcesses(found)


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
