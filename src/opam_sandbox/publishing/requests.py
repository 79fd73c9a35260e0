"""The request of `push`."""

from typing import TypedDict


class _PushRequest(TypedDict):
    image: str
    reference: str
    tls_verify: bool
    skopeo: str
    retries: int


class PushRequest(_PushRequest, total=False):
    """`push`: `image` is the layout of one image, `reference` is HOST[:PORT]/PATH:TAG, `skopeo` a program's path.

    cert_dir: a directory with certificates for the registry; "" for none. retries: tries after the first.
    """

    cert_dir: str
