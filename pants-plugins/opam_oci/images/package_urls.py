"""Package URLs, which documents about images name images and packages by. Source: the specification package-url, its types
`opam`, `deb` and `oci`."""

from __future__ import annotations

from urllib.parse import quote


def url_part(text: str) -> str:
    """Text as it stands in a package URL, or in a name made like one."""
    return quote(text, safe=":~.-_")


def image_purl(name: str, digest: str, repository: str = "") -> str:
    """The package URL of an image. `digest`: its manifest's, "sha256:..."; `repository`: HOST/PATH of a registry that has it."""
    place = f"?repository_url={quote(repository, safe=':.-_')}" if repository else ""
    return f"pkg:oci/{url_part(name.lower())}@{url_part(digest)}{place}"


def opam_purl(name: str, version: str) -> str:
    """The package URL of an opam package."""
    return f"pkg:opam/{url_part(name)}@{url_part(version)}"


def deb_purl(name: str, version: str, architecture: str, suite: str) -> str:
    """The package URL of a Debian package."""
    return f"pkg:deb/debian/{url_part(name)}@{url_part(version)}?arch={architecture}&distro={url_part(suite)}"
