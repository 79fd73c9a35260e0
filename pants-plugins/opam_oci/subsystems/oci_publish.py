"""The options `[oci-publish]`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Mapping

from pants.option.option_types import DictOption, IntOption, ShellStrListOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.frozendict import FrozenDict
from pants.util.strutil import bullet_list, softwrap


class RegistryOptionError(Exception):
    """`[oci-publish].registries` makes no sense, or a target names what is not in there."""


@dataclass(frozen=True)
class Registry:
    """An entry of `[oci-publish].registries`, or an address that a target names.

    `address`: HOST[:PORT][/PATH], or `oci:DIRECTORY`. `tls_verify` is None where nobody said.
    """

    address: str
    alias: str = ""
    default: bool = False
    skip_push: bool = False
    extra_image_tags: tuple[str, ...] = ()
    repository: str | None = None
    tls_verify: bool | None = None
    cert_dir: str = ""

    @property
    def origin(self) -> str:
        """The section of pants.toml that defines the registry."""
        return f"[oci-publish.registries.{self.alias}]"


_LOCAL_HOST = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?\Z")


def tls_of(registry: Registry, build_root: str) -> tuple[bool, str]:
    """Whether a registry's certificate is verified, and the directory with certificates for it, "" for none."""
    cert_dir = os.path.join(build_root, os.path.expanduser(registry.cert_dir)) if registry.cert_dir else ""
    if registry.tls_verify is not None:
        return registry.tls_verify, cert_dir
    return bool(cert_dir) or not _LOCAL_HOST.match(registry.address.partition("/")[0]), cert_dir


def registry_of(repository: str, registries: Mapping[str, Registry]) -> Registry:
    """The entry for the host of HOST[:PORT]/PATH; of several the one whose address has most of the path."""
    host = repository.partition("/")[0]

    def shared(registry: Registry) -> int:
        address = registry.address.rstrip("/")
        return len(address) if f"{repository}/".startswith(f"{address}/") else 0

    known = [one for _, one in sorted(registries.items()) if one.address.partition("/")[0] == host]
    return max(known, key=shared, default=Registry(host))


_KINDS: Mapping[str, type] = {
    "address": str,
    "default": bool,
    "skip_push": bool,
    "extra_image_tags": list,
    "repository": str,
    "tls_verify": bool,
    "cert_dir": str,
}


def read_registries(option: Mapping[str, Any]) -> FrozenDict[str, Registry]:
    """The registries by alias. Raises RegistryOptionError that names entry and key."""
    result = {}
    for alias, entry in option.items():
        where = f"`[oci-publish].registries` has an entry `{alias}`"
        if not isinstance(entry, Mapping) or not entry.get("address"):
            raise RegistryOptionError(
                f'{where} without an `address`; it takes e.g. {{"address": "registry.example.org/team"}}.'
            )
        if "@" in str(entry["address"]) and not str(entry["address"]).startswith("oci:"):
            raise RegistryOptionError(
                f"{where} whose `address` has a user or a password. Credentials do not belong there: log in with "
                "`skopeo login`, `podman login` or `docker login`, or set REGISTRY_AUTH_FILE to the path of an auth file."
            )
        for key, value in entry.items():
            if key not in _KINDS:
                raise RegistryOptionError(f"{where} with the unknown key `{key}`. Known: {', '.join(_KINDS)}.")
            if not isinstance(value, _KINDS[key]) and not (_KINDS[key] is list and isinstance(value, tuple)):
                raise RegistryOptionError(
                    f"{where} whose `{key}` should be of type {_KINDS[key].__name__}, but is {value!r}."
                )
        values: dict[str, Any] = {key: tuple(value) if _KINDS[key] is list else value for key, value in entry.items()}
        result[alias] = Registry(**{"default": alias == "default", **values, "alias": alias})
    return FrozenDict(result)


class OciPublishSubsystem(Subsystem):
    options_scope = "oci-publish"
    help = "Where and how `publish` puts images: registries and shared layout directories."

    _registries = DictOption[Any](
        fromfile=True,
        help=softwrap(
            """
            Registries and layout directories by name; targets name them as `@name` in `repositories`. An entry:

                [oci-publish.registries.example]
                address = "registry.example.org/team"
                default = true
                repository = "{name}"
                extra_image_tags = ["{pants.hash}"]
                skip_push = false
                tls_verify = true
                cert_dir = "/etc/ssl/registry"

            Only `address` is required: a host, with a port and with the start of a path where there is one, or
            `oci:/directory` for a layout directory (a relative one is below the build root).

            Images whose `repositories` field is not set go to all entries with `default = true`, and to the one named
            `default`. `repository` is the image's path there, in place of `[oci-publish].default_repository`;
            `extra_image_tags` come on top of the target's `image_tags`; both may use the same placeholders as those.
            With `skip_push` nothing goes there.

            `tls_verify = false` allows plain HTTP and unknown certificates; it is the default for addresses of this
            machine itself (localhost, 127.0.0.1, [::1]) and for no others. `cert_dir` is a directory with certificates
            for this registry (`ca.crt`, `client.cert`, `client.key`); without it skopeo looks into
            /etc/containers/certs.d and /etc/docker/certs.d.

            Credentials do not belong here: log in with `skopeo login`, `podman login` or `docker login`, or set
            REGISTRY_AUTH_FILE to the path of an auth file.
            """
        ),
    )
    default_repository = StrOption(
        default="{name}",
        help=softwrap(
            f"""
            The path of images in registries, and the first part of their names in layout directories, where neither
            target nor registry says another. Placeholders:
            {bullet_list(["name: the target's name", "directory, parent_directory: of its BUILD file"])}
            and those of `image_tags`. With the default, two targets of the same name in different directories are the
            same image; `{{directory}}/{{name}}` tells them apart.
            """
        ),
    )
    tag_env_vars = ShellStrListOption(
        help=softwrap(
            """
            Environment variables that `image_tags` and `repositories` may use as `{env.NAME}`. Entries are `NAME=value`, or
            `NAME` to take the value from the environment that Pants runs in. Default: none.
            """
        ),
    )
    env_vars = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            Further environment variables for skopeo, for instance those that a credential helper reads. Entries are
            `NAME=value`, or `NAME` to take the value from the environment that Pants runs in.

            Passed on without being named here: PATH, HOME, XDG_RUNTIME_DIR, XDG_CONFIG_HOME, XDG_DATA_HOME,
            REGISTRY_AUTH_FILE, DOCKER_CONFIG, CONTAINERS_CONF, CONTAINERS_REGISTRIES_CONF, SSL_CERT_FILE, SSL_CERT_DIR,
            TMPDIR, and the variables for proxies.
            """
        ),
    )
    retries = IntOption(
        default=5,
        advanced=True,
        help=softwrap(
            """
            How often a push is tried again that failed for a reason which may pass: a broken connection, too many
            requests (429), an error of the registry (5xx). Pauses are 1, 2, 4 ... at most 30 seconds. Layers that
            arrived are not sent again.
            """
        ),
    )

    @property
    def registries(self) -> FrozenDict[str, Registry]:
        """The registries by alias. Raises RegistryOptionError."""
        return read_registries(self._registries)
