"""The requests of `plan-push`, `push` and `sign`."""

from typing import List, Literal, TypedDict


class _PlanRequest(TypedDict):
    image: str
    repository: str
    tags: List[str]
    tls_verify: bool
    retries: int


class PlanRequest(_PlanRequest, total=False):
    """`plan-push`: `image` is the layout of one image, whose layers need not be there; `repository` is HOST[:PORT]/PATH.

    cert_dir: a directory with certificates for the registry; "" for none. retries: tries after the first. known: a directory
    for what is remembered of registries; "" for none.
    """

    cert_dir: str
    known: str


class _PushRequest(TypedDict):
    image: str
    reference: str
    tls_verify: bool
    skopeo: str
    retries: int


class PushRequest(_PushRequest, total=False):
    """`push`: `image` is the layout of one image, `reference` is HOST[:PORT]/PATH:TAG, `skopeo` a program's path; `cert_dir`,
    `retries` and `known` as of `plan-push`.

    What the plan found: current: the registry has the image under this tag, all of it. there: digests of layers that the
    repository has, and that need not be in the layout. requests: what the plan took. unplanned: why there is no plan, "" where
    there is one, or where none was made.
    """

    cert_dir: str
    known: str
    current: bool
    there: List[str]
    requests: int
    unplanned: str


class _SignRequest(TypedDict):
    image: str
    digest: str
    repository: str
    signer: Literal["skopeo", "command"]
    sign: List[str]
    verify: List[str]
    tls_verify: bool
    retries: int


class SignRequest(_SignRequest, total=False):
    """`sign`: `image` is the layout of the image `digest`, whose layers need not be there; `repository`, `cert_dir` and `retries`
    as of `plan-push`.

    sign, verify: each a program's path, behind it further arguments; of the signer `command` all arguments, in which
    `{reference}` stands for HOST/PATH@DIGEST. key, public_key: files, of skopeo. password: the variable of the environment that
    holds the private key's, "" for none. secrets: further variables whose values are not shown. directory: where programs run.
    attached: what is about the image is signed as well. again: the command that people give to sign again.
    """

    cert_dir: str
    key: str
    public_key: str
    password: str
    secrets: List[str]
    directory: str
    attached: bool
    again: str


class PushAboutRequest(TypedDict):
    """`push-about`: `image` is the layout of one image, without layers, and of what is about it; `repository` is
    HOST[:PORT]/PATH, which has the image. cert_dir: "" for none; retries: tries after the first."""

    image: str
    repository: str
    tls_verify: bool
    cert_dir: str
    retries: int
