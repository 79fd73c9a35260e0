"""The requests of this part. A key that is absent is not looked at. Patterns are regular expressions of Python."""

from typing import List, Literal, TypedDict


class _NamedFields(TypedDict):
    name: str


class ValueCheck(_NamedFields, total=False):
    """A variable or label: `equals` a text, `matches` a pattern, or is `absent`; with none of these, it is there."""

    equals: str
    matches: str
    absent: bool


class ConfigCheck(TypedDict, total=False):
    """What the image's configuration should say. exposed_ports: `8080/tcp`; these, and no others, as the volumes."""

    entrypoint: List[str]
    cmd: List[str]
    user: str
    workdir: str
    stop_signal: str
    exposed_ports: List[str]
    volumes: List[str]
    env: List[ValueCheck]
    labels: List[ValueCheck]


class LimitCheck(TypedDict, total=False):
    """The most that there may be: layers; bytes of their blobs; bytes of all files in them."""

    max_layers: int
    max_size: int
    max_unpacked_size: int


class _FileFields(TypedDict):
    path: str


class FileCheck(_FileFields, total=False):
    """What is at an absolute path. Links above it are followed, one at the path itself with `follow` only. mode: octal, four
    digits. owner, group: a name or a number. target: where a link leads."""

    absent: bool
    follow: bool
    type: Literal["file", "directory", "link", "pipe", "character device", "block device"]
    mode: str
    owner: str
    group: str
    size: int
    max_size: int
    contains: List[str]
    lacks: List[str]
    sha256: str
    target: str


class UserCheck(_NamedFields, total=False):
    """A user of /etc/passwd. groups: names of which the user is a member, by /etc/group or as the user's own."""

    absent: bool
    uid: int
    gid: int
    home: str
    shell: str
    groups: List[str]


class _CommandFields(TypedDict):
    name: str
    exit_code: int
    timeout: int


class CommandCheck(_CommandFields, total=False):
    """A command: `argv` as it is, or the image's entrypoint with `arguments`, in place of its Cmd if there are any. env:
    `NAME=value`. timeout: seconds."""

    argv: List[str]
    arguments: List[str]
    env: List[str]
    user: str
    stdout: List[str]
    stdout_lacks: List[str]
    stderr: List[str]
    stderr_lacks: List[str]


class CheckImageRequest(TypedDict):
    """`check-image`: `image` is the layout of one image, with this `manifest` ("sha256:...")."""

    image: str
    manifest: str
    store: str
    config: ConfigCheck
    limits: LimitCheck
    files: List[FileCheck]
    users: List[UserCheck]
    commands: List[CommandCheck]
