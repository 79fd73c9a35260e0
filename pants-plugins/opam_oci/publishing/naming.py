"""The names that an image is published with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping

from pants.base.build_environment import get_buildroot
from pants.engine.addresses import Address
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.util.frozendict import FrozenDict

from opam_oci.fields.image import OciImagePackagesField
from opam_oci.host.programs import env_names
from opam_oci.images.packages import packages_by_resolve
from opam_oci.pants_engine.calls import addresses_of, environment_vars, targets_of
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.publishing.destinations import Destination, Naming, destinations, tag_text
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.subsystems.oci_publish import OciPublishSubsystem, Registry


@dataclass(frozen=True)
class ImageNamingRequest:
    """Asks under which names an image is published; if `local`, under which an engine of this machine has it.

    `digest`: of its manifest.
    """

    address: Address
    packages: OciImagePackagesField
    image_tags: tuple[str, ...]
    repositories: tuple[str, ...] | None
    digest: str
    local: bool = False


@dataclass(frozen=True)
class ImageNaming:
    """Where an image goes, in the order of its `repositories`."""

    destinations: tuple[Destination, ...]


def name_templates(
    image_tags: Iterable[str], repositories: Iterable[str] | None, publish: OciPublishSubsystem
) -> list[str]:
    """All texts that an image's names are made of, placeholders and all."""
    return [
        *image_tags,
        *(repositories or ()),
        publish.default_repository,
        *(text for r in publish.registries.values() for text in (*r.extra_image_tags, r.repository or "")),
    ]


@rule
async def find_image_naming(request: ImageNamingRequest, publish: OciPublishSubsystem) -> ImageNaming:
    """The placeholders of an image's names. The lockfile is read only where a version is asked for."""
    registries = publish.registries
    texts = name_templates(request.image_tags, request.repositories, publish)
    placeholders: dict[str, str | Mapping[str, str]] = {"pants": {"hash": request.digest.rpartition(":")[2]}}
    environment = await environment_vars(EnvironmentVarsRequest(env_names(publish.tag_env_vars)))
    placeholders["env"] = dict(environment)
    if any("{versions." in text for text in texts):
        addresses = await addresses_of(request.packages.to_unparsed_address_inputs())
        selections = packages_by_resolve(request.address, await targets_of(addresses))
        locks = await concurrently(
            read_opam_lockfile(OpamLockRequest(selection.resolve), **implicitly()) for selection in selections
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


def rules() -> list[object]:
    return [*collect_rules()]
