"""Blobs in a repository of a registry: whether they are there, mounted from a sibling, uploaded."""

from __future__ import annotations

import hashlib
import urllib.parse

from opam_sandbox.registry.client import Client, failure
from opam_sandbox.registry.connections import Answer, Slice
from opam_sandbox.registry.errors import PassingError, RegistryError

# Larger ones are sent in pieces of so many bytes, as proxies before registries refuse longer requests.
PIECE = 64 << 20


def pull(repository: str) -> str:
    """The scope for reading."""
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    """The scope for reading and writing."""
    return f"repository:{repository}:pull,push"


def exists(client: Client, repository: str, digest: str, size: int) -> bool:
    """Whether a repository has a blob. Raises RegistryError, also where the one that it has is of another size."""
    path = f"/v2/{repository}/blobs/{digest}"
    answer = client.trying(lambda: client.send("HEAD", path, (push(repository),)))
    if answer.status == 404:
        return False
    if answer.status != 200:
        raise failure(answer, f"HEAD {client.access.host}{path}")
    said = answer.headers.get("content-length", "")
    if said.isdigit() and int(said) not in (0, size):
        raise RegistryError(f"{client.access.host}{path} has {said} bytes there, but {size} here")
    return True


def read(client: Client, repository: str, digest: str) -> bytes:
    """A small blob, of some MiB at most. Raises RegistryError where it is not there, or is another one."""
    path = f"/v2/{repository}/blobs/{digest}"
    answer = client.trying(lambda: client.send("GET", path, (pull(repository),)))
    return checked_content(answer, digest, f"GET {client.access.host}{path}")


def checked_content(answer: Answer, digest: str, where: str) -> bytes:
    """What an answer brings of a digest. Raises RegistryError unless it is that."""
    if answer.status != 200:
        raise failure(answer, where)
    found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    if found != digest:
        raise RegistryError(f"{where}: the registry gives {found} for it")
    return answer.content


def mount(client: Client, repository: str, digest: str, source: str) -> bool:
    """Let a repository have a blob of another one, `source`. Says whether it has: where it has not, nothing has changed."""
    query = urllib.parse.urlencode({"mount": digest, "from": source})
    scopes = (push(repository), pull(source))

    def ask() -> Answer:
        return client.send("POST", f"/v2/{repository}/blobs/uploads/?{query}", scopes)

    try:
        answer = client.trying(ask)
    except RegistryError as error:
        if error.status in (401, 403):
            return False
        raise
    if answer.status == 202 and answer.headers.get("location"):
        # An upload was begun in its place.
        try:
            client.send("DELETE", answer.headers["location"], (push(repository),))
        except RegistryError:
            pass  # the registry forgets it in time
    return answer.status == 201


def upload(client: Client, repository: str, digest: str, path: str, size: int, piece: int = PIECE) -> None:
    """Send a file. Raises RegistryError: then the repository has none of it."""
    whole = size <= piece

    def send() -> None:
        nonlocal whole
        location = _begin(client, repository)
        if not whole:
            pieces = _in_pieces(client, repository, location, path, size, piece)
            if pieces.status not in (202, 204):
                if pieces.status in (401, 403) or pieces.status >= 500:
                    raise failure(pieces, f"PATCH {client.access.host}/v2/{repository}/blobs/uploads/")
                # This registry takes no pieces, or none of this size.
                whole = True
                location = _begin(client, repository)
            else:
                location = pieces.headers.get("location", location)
        body = Slice(path, 0, size if whole else 0)
        answer = client.send(
            "PUT",
            _with_digest(location, digest),
            (push(repository),),
            {"Content-Type": "application/octet-stream"},
            body,
        )
        if answer.status == 404:
            raise PassingError(f"{client.access.host}/{repository}: the registry has forgotten an upload", 404)
        if answer.status not in (201, 204):
            raise failure(answer, f"PUT {client.access.host}/v2/{repository}/blobs/uploads/")

    client.trying(send)


def _begin(client: Client, repository: str) -> str:
    path = f"/v2/{repository}/blobs/uploads/"
    answer = client.send("POST", path, (push(repository),))
    if answer.status != 202:
        raise failure(answer, f"POST {client.access.host}{path}")
    if not answer.headers.get("location"):
        raise RegistryError(f"POST {client.access.host}{path}: the registry does not say where to send a blob")
    return answer.headers["location"]


def _in_pieces(client: Client, repository: str, location: str, path: str, size: int, piece: int) -> Answer:
    """The answer to the last piece, or to the first one that is refused."""
    answer = Answer(202, {}, b"")
    for start in range(0, size, piece):
        end = min(start + piece, size)
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{start}-{end - 1}"}
        answer = client.send("PATCH", location, (push(repository),), headers, Slice(path, start, end - start))
        if answer.status not in (202, 204):
            break
        location = answer.headers.get("location", location)
        answer = Answer(answer.status, {**answer.headers, "location": location}, b"")
    return answer


def _with_digest(location: str, digest: str) -> str:
    joint = "&" if "?" in location else "?"
    return f"{location}{joint}digest={urllib.parse.quote(digest, safe=':')}"
