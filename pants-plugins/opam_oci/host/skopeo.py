"""How skopeo is run."""

from __future__ import annotations

import os
from typing import Mapping

from pants.base.build_environment import get_buildroot

from opam_oci.host.programs import hidden

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


def skopeo_env(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's environment for skopeo; where Pants was started is where a relative path is from."""
    env = dict(environment)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF"):
        if env.get(name):
            env[name] = os.path.join(get_buildroot(), env[name])
    return hidden(env)
