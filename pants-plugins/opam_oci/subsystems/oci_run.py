"""The options `[oci-run]`."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import BoolOption, EnumOption, ShellStrListOption, StrListOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class Runtime(Enum):
    """What runs containers."""

    auto = "auto"
    crun = "crun"
    runc = "runc"
    podman = "podman"
    docker = "docker"


class Network(Enum):
    """The network of containers."""

    host = "host"
    none = "none"


class OciRunSubsystem(Subsystem):
    options_scope = "oci-run"
    help = "How `run` runs images."

    runtime = EnumOption(
        default=Runtime.auto,
        help=softwrap(
            """
            What containers run with.

            `crun` and `runc` need no daemon and start at once: the root of the container is an overlay of the layers that
            builds have unpacked already, and what the container writes is gone when it ends. They also run without
            root where user namespaces are allowed (with `newuidmap` and a line for the user in /etc/subuid and
            /etc/subgid, the command runs as the image's user).

            With `podman` or `docker` the image is loaded there first, under the names that it is published with, and
            then run by it. `docker` also needs skopeo.

            `auto` takes the first of crun, runc and podman that is on PATH (or in /usr/sbin).
            """
        ),
    )
    load_only = BoolOption(
        default=False,
        help=softwrap(
            """
            With `--oci-run-runtime=docker` or `podman`: load the image, print its names there, and run nothing.
            """
        ),
    )
    network = EnumOption(
        default=Network.host,
        help=softwrap(
            """
            `host`: the container uses this machine's network, its /etc/resolv.conf and its /etc/hosts. `none`: it has a
            network of its own, which leads nowhere. For docker and podman, `host` leaves their own default.
            """
        ),
    )
    env_vars = ShellStrListOption(
        help=softwrap(
            """
            Environment variables for the command, on top of the image's. Entries are `NAME=value`, or `NAME` to take the
            value from the environment that Pants runs in. Default: none.
            """
        ),
    )
    volumes = StrListOption(
        help=softwrap(
            """
            Directories and files to show to the container, as `SOURCE:TARGET`: a path on this machine (below the build
            root if it is relative) and an absolute one inside. The container can write to them. Default: none.
            """
        ),
    )
    run_args = ShellStrListOption(
        advanced=True,
        help="Further arguments for `docker run` or `podman run`, such as `-p 8080:80`. Default: none.",
    )
    engine_args = ShellStrListOption(
        advanced=True,
        help=softwrap(
            """
            Arguments for `docker` or `podman` itself, before the command, such as `--root /srv/containers`. Default:
            none.
            """
        ),
    )
