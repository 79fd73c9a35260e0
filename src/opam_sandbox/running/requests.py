"""The request of `run` and `load`. Its paths are relative to the request's own directory."""

from typing import List, Literal, TypedDict


class Volume(TypedDict):
    """`source`: an absolute path of the machine; `target`: one of the container."""

    source: str
    target: str


class RunRequest(TypedDict):
    """`image` is the layout of one image, `store` the store of unpacked layers; `kind` says what the program `runtime` is.

    env: `NAME=value`. docker and podman also take: `names` (`NAME:TAG`) of the loaded image, `skopeo` (docker only),
    `engine_args` before and `run_args` after the engine's own command `run`.
    """

    image: str
    store: str
    runtime: str
    kind: Literal["crun", "runc", "podman", "docker"]
    env: List[str]
    network: Literal["host", "none"]
    hostname: str
    volumes: List[Volume]
    names: List[str]
    skopeo: str
    engine_args: List[str]
    run_args: List[str]
