"""`publish` for `oci_package_image`: to registries, and to layout directories that many write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, cast

from pants.core.goals.publish import (
    PublishFieldSet,
    PublishOutputData,
    PublishPackages,
    PublishProcesses,
    PublishRequest,
)
from pants.engine.addresses import Address
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest
from pants.option.global_options import GlobalOptions
from pants.util.logging import LogLevel

from opam_oci.fields.image import OciImagePackagesField
from opam_oci.fields.publishing import OciImageRepositoriesField, OciImageSkipPushField, OciImageTagsField
from opam_oci.host.programs import ProgramRequest, env_names, find_python, look_for_program
from opam_oci.host.skopeo import SKOPEO_ENV, SKOPEO_MINIMUM, skopeo_env
from opam_oci.images.stored_files import verified
from opam_oci.pants_engine.calls import create_digest, environment_vars, run_process
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.publishing.claims import Claims, claims_of_this_run
from opam_oci.publishing.destinations import Destination
from opam_oci.publishing.image_layout import ImageLayout, ImageLayoutRequest, find_image_layout
from opam_oci.publishing.naming import ImageNamingRequest, find_image_naming
from opam_oci.publishing.registry_plan import RegistryPlan, RegistryPlanRequest, known_directory, plan_push
from opam_oci.publishing.signing import SignaturesRequest, find_signatures
from opam_oci.sandbox.process import REQUEST_FILE, fetching_process, publishing_process, request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem

if TYPE_CHECKING:
    from opam_sandbox.publishing.requests import PushRequest


class PublishOciImageRequest(PublishRequest):
    """Asks to publish an image."""

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
        """What `--publish-output` says of every image."""
        return PublishOutputData({"publisher": "opam_oci", **super().get_output_data()})


def skipped(names: Iterable[str], reason: str, digest: str = "") -> PublishPackages:
    """What Pants reports as skipped. `reason` follows the names in the report; `digest` is the manifest's, if known."""
    return PublishPackages(tuple(names), None, reason, PublishOutputData({"digest": digest} if digest else {}))


def push_request(
    destination: Destination, ref: str, skopeo: str, retries: int, plan: RegistryPlan, known: str
) -> PushRequest:
    """The request of the tool's `push`."""
    return {
        "image": "image",
        "reference": ref,
        "tls_verify": destination.tls_verify,
        "cert_dir": destination.cert_dir,
        "skopeo": skopeo,
        "retries": retries,
        "known": known,
        "current": ref.rpartition(":")[2] in plan.current,
        "there": list(plan.there),
        "requests": plan.requests,
        "unplanned": plan.unplanned,
    }


def output_data(layout: ImageLayout, repository: str, tags: tuple[str, ...]) -> PublishOutputData:
    """What `--publish-output` says of an image in a repository."""
    return PublishOutputData({"digest": layout.manifest_digest, "repository": repository, "tags": tags})


async def to_registry(
    address: str,
    destination: Destination,
    layout: ImageLayout,
    publish: OciPublishSubsystem,
    options: GlobalOptions,
) -> list[PublishPackages]:
    """One process for each tag: each succeeds or fails for itself. Where images are signed, one behind them has this one signed.

    Raises MissingProgramError where skopeo is missing, or what signs, and SigningOptionError.

    The first get those layers that the registry lacks, and where it has all of the image, none.
    """
    tool = await find_sandbox_tool(**implicitly())
    environment = await environment_vars(EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)]))
    path = environment.get("PATH", "")
    purpose = f"Publishing {address} to a registry"
    skopeo = await look_for_program(
        ProgramRequest(("skopeo",), path, purpose, "skopeo", SKOPEO_MINIMUM), **implicitly()
    )
    plan = await plan_push(RegistryPlanRequest(address, layout.digest, destination), **implicitly())
    # Before layers are fetched: what cannot be signed is not pushed.
    signatures = await find_signatures(
        SignaturesRequest(address, layout.manifest_digest, plan.documents, destination), **implicitly()
    )
    files = plan.documents
    if len(plan.current) < len(destination.tags):
        if plan.missing:
            await run_process(fetching_process(plan.files, f"Fetch what {destination.repository} lacks of {address}"))
        files = await verified(plan.files, f"image {address}")
    found = []
    for ref in destination.refs:
        values = push_request(destination, ref, skopeo.path, publish.retries, plan, known_directory(options))
        process = publishing_process(
            tool,
            skopeo.python,
            ["push", REQUEST_FILE],
            env=skopeo_env(environment),
            image=plan.documents if values["current"] else files,
            input_digest=await create_digest(CreateDigest([request_file(values)])),
        )
        repository, _, tag = ref.rpartition(":")
        host = ref.partition("/")[0]
        found.append(PublishPackages((ref,), process, host, output_data(layout, repository, (tag,))))
    return [*found, *signatures.packages]


async def into_layout(address: str, destination: Destination, layout: ImageLayout) -> PublishPackages:
    """All tags at once, under one lock."""
    tool = await find_sandbox_tool(**implicitly())
    names = [word for ref in destination.refs for word in ("--name", ref)]
    process = publishing_process(
        tool,
        find_python(),
        ["add", destination.layout, "--image", "image", *names],
        env={"LANG": "C.UTF-8"},
        image=await verified(layout.digest, f"image {address}"),
    )
    repository = f"oci:{destination.layout}:{destination.repository}"
    return PublishPackages(
        destination.names,
        process,
        f"oci:{destination.layout}",
        output_data(layout, repository, destination.tags),
    )


class PublishedTwiceError(Exception):
    """Two targets of one run would be published under one name, and the last would win."""


def claim_names(address: Address, destination: Destination, claims: Claims) -> None:
    """Take the names for this run. Raises PublishedTwiceError where another target has one of them.

    Also where both images are the same today: whether BUILD files are right must not depend on that.
    """
    for tag, name in zip(destination.tags, destination.names):
        other = claims.claim_name(f"{destination.place}:{tag}", address)
        if other is None:
            continue
        first, second = sorted((other, address))
        parameters = sorted({*first.parameters, *second.parameters})
        example = f'"latest-{{parameters.{parameters[0]}}}"' if parameters else '"{name}-latest"'
        raise PublishedTwiceError(
            f"{first} and {second} would both be published under the same name, {name}, so that one of them would be lost. "
            f"Nothing was published. Give one of them another `{OciImageTagsField.alias}` (such as `[{example}]`) or "
            f"`{OciImageRepositoriesField.alias}`, or keep it out by `{OciImageSkipPushField.alias}` or `[]`."
        )


@rule(desc="Publish OCI image", level=LogLevel.DEBUG)
async def publish_image(
    request: PublishOciImageRequest, publish: OciPublishSubsystem, options: GlobalOptions
) -> PublishProcesses:
    """The processes that put an image everywhere that it goes to. Raises PublishedTwiceError.

    Pants runs none of them before it has those of all targets.
    """
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
        reason = "(its `repositories` name none)"
        if field_set.repositories.value is None:
            reason = "(it sets no `repositories`, and no entry of `[oci-publish].registries` is a default)"
        return PublishProcesses([skipped([address], reason, layout.manifest_digest)])
    claims = await claims_of_this_run(**implicitly())
    for destination in naming.destinations:
        if not destination.skipped:
            claim_names(field_set.address, destination, claims)
    found: list[PublishPackages] = []
    for destination in naming.destinations:
        if destination.skipped:
            found.append(skipped(destination.names, destination.skipped, layout.manifest_digest))
        elif destination.layout:
            found.append(await into_layout(address, destination, layout))
        else:
            found.extend(await to_registry(address, destination, layout, publish, options))
    return PublishProcesses(found)


def rules() -> list[object]:
    return [*collect_rules(), *PublishOciImageFieldSet.rules()]
