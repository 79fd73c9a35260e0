"""The request of `run` and `load`. Its paths are relative to the request's own directory."""

from typing import List, Literal, TypedDict, Union


class Volume(TypedDict):
    """`source`: an absolute path of the machine; `target`: one of the container."""

    source: str
    target: str


class _RunFields(TypedDict):
    image: str
    store: str
    runtime: str
    env: List[str]
    network: Literal["host", "none"]
    hostname: str
    volumes: List[Volume]


class _ContainerRequest(_RunFields):
    kind: Literal["crun", "runc"]


class ContainerRequest(_ContainerRequest, total=False):
    """`run` with an OCI runtime: `image` is the layout of one image, `store` the store of unpacked layers, `runtime` the path of
    the program that `kind` names; `env` has entries `NAME=value`, or `NAME` (see `variables`). What engines take
    as well is not looked at.
    """

    names: List[str]
    skopeo: str
    engine_args: List[str]
    run_args: List[str]


class EngineRequest(_RunFields):
    """`load`, and `run` in docker or podman: the image gets the `names` (`NAME:TAG`); `skopeo` is a program's path (docker
    only); `engine_args` stand before and `run_args` after the engine's own command `run`.
    """

    kind: Literal["podman", "docker"]
    names: List[str]
    skopeo: str
    engine_args: List[str]
    run_args: List[str]


RunRequest = Union[ContainerRequest, EngineRequest]
