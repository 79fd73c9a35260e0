"""Fields of `oci_base_image`."""

from __future__ import annotations

import re
from typing import Optional

from pants.engine.addresses import Address
from pants.engine.target import InvalidFieldException, StringField
from pants.util.strutil import help_text

SCRATCH = "scratch"
LAYOUT = "oci:"

# HOST[:PORT]/PATH. Source: OCI distribution-spec 1.1, "Pulling manifests".
_PLACE = re.compile(
    r"(?:localhost|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:\d))(?::\d+)?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+\Z"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class OciBaseImageImageField(StringField):
    alias = "image"
    required = True
    value: str
    help = help_text(
        """
        Where the image is: a repository of a registry, with its host and without a tag
        (`"registry.example.org/team/base"`); an OCI image layout, as `oci:` and its directory, which is absolute or below the
        build root (`"oci:3rdparty/images/base"`); or `"scratch"` for an image that is empty.

        A registry is asked by skopeo, with the credentials of `skopeo login`, `podman login` or `docker login`, and as its
        entry in `[oci-publish].registries` says (`tls_verify`, `cert_dir`). What was fetched is kept in Pants' cache.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is None or value == SCRATCH or (value.startswith(LAYOUT) and value != LAYOUT and "\0" not in value):
            return value
        if "@" in value.partition("/")[0]:
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} has a registry with a user or a password. Credentials do not "
                "belong there: log in with `skopeo login`, `podman login` or `docker login`, or set REGISTRY_AUTH_FILE to the "
                "path of an auth file."
            )
        if not _PLACE.match(value):
            raise InvalidFieldException(
                f"The `{cls.alias}` field in target {address} is {value!r}; it takes a repository with its host and without a "
                'tag or a digest, such as "registry.example.org/team/base" (what names its content is `digest`), a layout, '
                f'such as "{LAYOUT}3rdparty/images/base", or "{SCRATCH}".'
            )
        return value


class OciBaseImageDigestField(StringField):
    alias = "digest"
    help = help_text(
        """
        The sha256 digest of the image's manifest, or of an index of several, of which the one for Linux on `architecture` is
        taken: `"sha256:..."`. It names all of the image's content, so that no lockfile is needed: every blob is compared.
        `skopeo inspect --format '{{.Digest}}' docker://registry.example.org/team/base:tag` says it.

        Required, but for `"scratch"`, which has none.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None and not _DIGEST.match(value):
            raise InvalidFieldException(
                f'The `{cls.alias}` field in target {address} is {value!r}; it takes "sha256:" and 64 hex digits.'
            )
        return value
