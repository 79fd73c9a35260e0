"""What a user calls an image that is no target: one of a layout directory, or of a registry."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping

from opam_oci.publishing.destinations import LAYOUT
from opam_oci.subsystems.oci_publish import Registry, registry_of, tls_of

if TYPE_CHECKING:
    from opam_sandbox.comparing.requests import LayoutReference, RegistryReference

REGISTRY = "docker://"

# Source: OCI distribution-spec 1.1, "Pulling manifests".
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IN_REGISTRY = re.compile(
    r"(?P<host>[A-Za-z0-9.\-]+(?::\d+)?|\[[0-9A-Fa-f:]+\](?::\d+)?)"
    rf"(?P<path>/{_COMPONENT}(?:/{_COMPONENT})*)(?::[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,127}}|@sha256:[0-9a-f]{{64}})\Z"
)
# As skopeo has it: names in a layout have colons, directories have none.
_IN_LAYOUT = re.compile(
    r"(?!.*@sha256:(?![0-9a-f]{64}\Z))(?P<path>[^:]*?)(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>.+))?\Z"
)


class ImageReferenceError(Exception):
    """A text that names no image; the message has it."""


@dataclass(frozen=True)
class ImageReference:
    """An image that is no target. text: what the user wrote. In a layout: `layout`, its absolute path, and `wanted`, a tag or a
    digest, "" for its only image. In a registry: `repository` (`docker://HOST/PATH`), and how the registry is asked."""

    text: str
    layout: str = ""
    wanted: str = ""
    repository: str = ""
    tls_verify: bool = True
    cert_dir: str = ""

    def request(self, skopeo: str, manifest: str = "") -> LayoutReference | RegistryReference:
        """As the tool's requests have it. skopeo: its path. manifest: its digest, where it is known: by then a tag may stand for
        another image."""
        if self.layout:
            return {"kind": "layout", "path": self.layout, "wanted": manifest or self.wanted}
        return {
            "kind": "registry",
            "source": f"{self.repository}@{manifest}" if manifest else self.text,
            "skopeo": skopeo,
            "tls_verify": self.tls_verify,
            "cert_dir": self.cert_dir,
        }


def is_reference(text: str) -> bool:
    """Whether a text names an image that is no target."""
    return text.startswith((LAYOUT, REGISTRY))


def parse_reference(text: str, build_root: str, registries: Mapping[str, Registry]) -> ImageReference:
    """What such a text names; relative paths are below the build root. Raises ImageReferenceError."""
    if text.startswith(LAYOUT):
        match = _IN_LAYOUT.match(text[len(LAYOUT) :])
        if match is None or not match["path"]:
            raise ImageReferenceError(f"{text!r} names no image: it should be `oci:DIRECTORY` or `oci:DIRECTORY:TAG`.")
        directory = os.path.normpath(os.path.join(build_root, os.path.expanduser(match["path"])))
        return ImageReference(text, layout=directory, wanted=match["digest"] or match["tag"] or "")
    match = _IN_REGISTRY.match(text[len(REGISTRY) :])
    if match is None:
        raise ImageReferenceError(
            f"{text!r} names no image in a registry: it should be `{REGISTRY}HOST/PATH:TAG` or "
            f"`{REGISTRY}HOST/PATH@sha256:DIGEST`, without user and password (log in with `skopeo login`)."
        )
    repository = f"{match['host']}{match['path']}"
    tls_verify, cert_dir = tls_of(registry_of(repository, registries), build_root)
    return ImageReference(text, repository=f"{REGISTRY}{repository}", tls_verify=tls_verify, cert_dir=cert_dir)
