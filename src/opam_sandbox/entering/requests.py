"""The requests of this part. Relative paths are relative to the request's own directory."""

from typing import List, TypedDict


class Mount(TypedDict):
    """A directory of the machine, `source`, that the command sees at `target`; both are absolute."""

    source: str
    target: str
    writable: bool


class EnterRequest(TypedDict):
    """`enter`: the layers are those of an image, bottom first, its state the last. command: its words. mounts: what it sees of
    the machine. cwd: where it starts, absolute. env: `NAME=value`, on top of what opam says. network: the machine's is to be had.
    """

    store: str
    layers: List[str]
    command: List[str]
    mounts: List[Mount]
    cwd: str
    env: List[str]
    network: bool
