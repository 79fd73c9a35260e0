"""Where an image is published to: what `repositories` and `image_tags` say, with all placeholders filled in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from pants.engine.addresses import Address
from pants.util.value_interpolation import InterpolationContext, InterpolationError

from opam_oci.fields.publishing import OciImageRepositoriesField, OciImageTagsField
from opam_oci.subsystems.oci_publish import Registry, RegistryOptionError, tls_of
from opam_oci.target_types import OciPackageImageTarget

LAYOUT = "oci:"

# Source: OCI distribution-spec 1.1, "Pulling manifests".
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")

_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")

_HOST = re.compile(r"(?:localhost|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:\d))(?::\d+)?\Z")

# What docker's own registry is called; images whose path has one part are in `library` there.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class DestinationError(InterpolationError):
    """A place to publish to that makes no sense; the message names the field or option."""


@dataclass(frozen=True)
class Destination:
    """One repository and the tags that an image gets there.

    `layout`: an absolute directory, or "" for a registry; `repository`: HOST[:PORT]/PATH, in a layout the first part
    of the image's names. `skipped` says why nothing goes there, or is "".
    """

    layout: str
    repository: str
    tags: tuple[str, ...]
    tls_verify: bool = True
    cert_dir: str = ""
    skipped: str = ""

    @property
    def refs(self) -> tuple[str, ...]:
        """What follows `docker://`, or names in the layout's index."""
        return tuple(f"{self.repository}:{tag}" for tag in self.tags)

    @property
    def names(self) -> tuple[str, ...]:
        """What people read."""
        return tuple(f"{LAYOUT}{self.layout}:{ref}" for ref in self.refs) if self.layout else self.refs

    @property
    def place(self) -> str:
        """The same text for all ways of writing the same repository."""
        if self.layout:
            return f"{LAYOUT}{os.path.realpath(self.layout)}:{self.repository}"
        host, _, path = self.repository.partition("/")
        host = host.lower().removesuffix(":443")
        if host in _DOCKER_HUB:
            host, path = _DOCKER_HUB[0], path if "/" in path else f"library/{path}"
        return f"{host}/{path}"


@dataclass(frozen=True)
class Naming:
    """What an image's names are made of."""

    address: Address
    image_tags: tuple[str, ...]
    repositories: tuple[str, ...] | None
    placeholders: Mapping[str, str | Mapping[str, str]]
    default_repository: str
    build_root: str

    def context(self) -> InterpolationContext:
        """What placeholders stand for in the names of this image."""
        directory = self.address.spec_path
        return InterpolationContext.from_dict(
            {
                **self.placeholders,
                "name": self.address.target_name,
                "directory": os.path.basename(directory),
                "parent_directory": os.path.basename(os.path.dirname(directory)),
                "parameters": {field: tag_text(value) for field, value in self.address.parameters.items()},
                "default_repository": self.default_repository,
            }
        )

    def field_source(self, alias: str) -> InterpolationContext.TextSource:
        """Where a text comes from, for error messages."""
        return InterpolationContext.TextSource(
            address=self.address, target_alias=OciPackageImageTarget.alias, field_alias=alias
        )


def tag_text(version: str) -> str:
    """A version as a part of a tag: what tags may not hold becomes `-`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", version)


def destinations(naming: Naming, registries: Mapping[str, Registry]) -> tuple[Destination, ...]:
    """All places in the order of the field. Raises DestinationError, also for one that is there twice, or RegistryOptionError."""
    source = naming.field_source(OciImageRepositoriesField.alias)
    if naming.repositories is None:
        chosen = [(f"@{alias}", registry, "") for alias, registry in sorted(registries.items()) if registry.default]
        subject = "default entries of `[oci-publish].registries`"
    else:
        chosen = [(entry, *_registry_of(naming, entry, registries, source)) for entry in naming.repositories]
        subject = "entries of its `repositories`"
    found: dict[str, tuple[str, Destination]] = {}
    skipped = []
    for entry, registry, path in chosen:
        destination = _destination(naming, registry, path, source)
        if destination.skipped:
            skipped.append(destination)
            continue
        other, _ = found.setdefault(destination.place, (entry, destination))
        if found[destination.place][1] is not destination:
            raise DestinationError(
                f"{naming.address} would be published to {destination.names[0].rpartition(':')[0]} twice: by {other!r} and "
                f"{entry!r}, two {subject}. Leave one of them out."
            )
    return (*(destination for _, destination in found.values()), *dict.fromkeys(skipped))


def _registry_of(
    naming: Naming, entry: str, registries: Mapping[str, Registry], source: InterpolationContext.TextSource
) -> tuple[Registry, str]:
    """The registry of an entry of `repositories`, and the path that it gives itself ("" for none)."""
    if entry.startswith("@"):
        alias, _, path = entry[1:].partition("/")
        if alias not in registries:
            known = ", ".join(f"@{name}" for name in sorted(registries)) or "none"
            raise RegistryOptionError(
                f"The {source} names the registry @{alias}, which is not defined. "
                f"Defined in `[oci-publish].registries`: {known}."
            )
        return registries[alias], path
    text = naming.context().format(entry, source=source, error_cls=DestinationError)
    if text.startswith(LAYOUT):
        directory, _, path = text[len(LAYOUT) :].partition(":")
        return Registry(f"{LAYOUT}{directory}"), path
    host, _, path = text.partition("/")
    if "@" in host:
        raise DestinationError(
            f"The {source} has a registry with a user or a password. Credentials do not belong there: log in with "
            "`skopeo login`, `podman login` or `docker login`, or set REGISTRY_AUTH_FILE to the path of an auth file."
        )
    if not _HOST.match(host):
        raise DestinationError(
            f"The {source} has {entry!r}, which begins with no registry. It takes `@name` for an entry of "
            "`[oci-publish].registries`, `registry.example.org/path` or `oci:/directory`."
        )
    return Registry(host), path


def _destination(naming: Naming, registry: Registry, path: str, source: InterpolationContext.TextSource) -> Destination:
    context = naming.context()
    template, template_source = path, source
    if not path and registry.repository:
        template = registry.repository
        template_source = InterpolationContext.TextSource(options_scope=f"{registry.origin}.repository")
    elif not path:
        template = naming.default_repository
        template_source = InterpolationContext.TextSource(options_scope="[oci-publish].default_repository")
    repository = context.format(template, source=template_source, error_cls=DestinationError).lower()
    if not _PATH.match(repository):
        raise DestinationError(
            f"The {template_source} gives the repository {repository!r}; it takes lower-case letters, digits, and "
            "single separators (. _ - /) between them."
        )
    tags = [
        *_tags(naming.image_tags, context, naming.field_source(OciImageTagsField.alias)),
        *_tags(
            registry.extra_image_tags,
            context,
            InterpolationContext.TextSource(options_scope=f"{registry.origin}.extra_image_tags")
            if registry.alias
            else source,
        ),
    ]
    skipped = f"(by `skip_push` on registry @{registry.alias})" if registry.skip_push else ""
    if registry.address.startswith(LAYOUT):
        directory = os.path.expanduser(registry.address[len(LAYOUT) :])
        if not directory:
            raise DestinationError(f"The {source} has `{LAYOUT}` without a directory, as in `{LAYOUT}/srv/images`.")
        return Destination(
            os.path.normpath(os.path.join(naming.build_root, directory)),
            repository,
            tuple(dict.fromkeys(tags)),
            skipped=skipped,
        )
    tls_verify, cert_dir = tls_of(registry, naming.build_root)
    return Destination(
        "",
        f"{registry.address.rstrip('/')}/{repository}",
        tuple(dict.fromkeys(tags)),
        tls_verify,
        cert_dir,
        skipped,
    )


def _tags(
    templates: Sequence[str], context: InterpolationContext, source: InterpolationContext.TextSource
) -> Iterable[str]:
    for template in templates:
        tag = context.format(template, source=source, error_cls=DestinationError)
        if not _TAG.match(tag):
            raise DestinationError(
                f"The {source} gives the tag {tag!r}; it takes at most 128 letters, digits, `_`, `.` and `-`, and "
                "begins with none of the latter two."
            )
        yield tag
