"""Manifests in a repository of a registry, and the manifests that are about one: OCI 1.1 referrers.

Source: distribution-spec 1.1, "Pushing manifests with subject", "Listing referrers", "Referrers tag schema".
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.oci.layout import check_descriptor
from opam_sandbox.oci.spec import DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, MANIFEST_TYPE
from opam_sandbox.registry.blobs import checked_content, pull, push
from opam_sandbox.registry.client import Client, failure
from opam_sandbox.registry.connections import Answer
from opam_sandbox.registry.errors import RegistryError
from opam_sandbox.strict_json import parse_object

_ACCEPT = ", ".join((MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE))
# Of a list that comes in several.
_PAGES = 20
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next\b')
Descriptor = Mapping[str, Any]


def digest_at(client: Client, repository: str, reference: str) -> str:
    """The digest of the manifest that a tag has, "" where it has none. Raises RegistryError.

    It is that of the bytes that whoever pulls would get, not what a header says of them.
    """
    path = f"/v2/{repository}/manifests/{reference}"
    answer = client.trying(lambda: client.send("GET", path, (push(repository),), {"Accept": _ACCEPT}))
    if answer.status == 404:
        return ""
    if answer.status != 200:
        raise failure(answer, f"GET {client.access.host}{path}")
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def put(client: Client, repository: str, reference: str, media_type: str, content: bytes) -> bool:
    """Write a manifest under a tag or its digest. Says whether the registry lists it as a referrer. Raises RegistryError."""
    path = f"/v2/{repository}/manifests/{reference}"
    headers = {"Content-Type": media_type}
    answer = client.trying(lambda: client.send("PUT", path, (push(repository),), headers, content))
    if answer.status not in (200, 201, 202):
        raise failure(answer, f"PUT {client.access.host}{path}")
    return "oci-subject" in answer.headers


def fallback_tag(digest: str) -> str:
    """The tag under which a repository lists what is about `digest` where its registry has no list of its own."""
    return digest.replace(":", "-", 1)


def lists_all(client: Client, repository: str, digest: str, referrers: Sequence[Descriptor]) -> bool:
    """Whether a registry has all these, and tells of them whoever asks what is about `digest`. Raises RegistryError."""
    wanted = {one["digest"] for one in referrers}
    if any(digest_at(client, repository, one) != one for one in sorted(wanted)):
        return False
    if not wanted:
        return True
    is_kept = False
    for listed in _pages(client, repository, digest, push(repository)):
        wanted -= {one["digest"] for one in listed}
        is_kept = True
        if not wanted:
            return True
    return not is_kept and wanted <= {one["digest"] for one in _fallback(client, repository, digest, push(repository))}


def referrers(client: Client, repository: str, digest: str) -> List[Dict[str, Any]]:
    """The descriptors of all that a registry says is about `digest`, each once. Raises RegistryError."""
    scope = pull(repository)
    pages = list(_pages(client, repository, digest, scope))
    listed = [one for page in pages for one in page] if pages else _fallback(client, repository, digest, scope)
    return list({one["digest"]: one for one in listed}.values())


def read(client: Client, repository: str, digest: str) -> bytes:
    """A manifest's bytes. Raises RegistryError where it is not there, or is another one."""
    path = f"/v2/{repository}/manifests/{digest}"
    answer = client.trying(lambda: client.send("GET", path, (pull(repository),), {"Accept": _ACCEPT}))
    return checked_content(answer, digest, f"GET {client.access.host}{path}")


def _pages(client: Client, repository: str, digest: str, scope: str) -> Iterator[List[Dict[str, Any]]]:
    """The registry's own list of what is about `digest`: nothing where it keeps none."""
    path = f"/v2/{repository}/referrers/{digest}"
    for _ in range(_PAGES):
        answer = client.trying(lambda: client.send("GET", path, (scope,), {"Accept": INDEX_TYPE}))
        listed = _entries(answer, f"GET {client.access.host}{path}") if answer.status == 200 else None
        if listed is None:
            return
        yield listed
        following = _NEXT.search(answer.headers.get("link", ""))
        if following is None:
            return
        path = urllib.parse.urljoin(path, following.group(1))


def list_by_tag(client: Client, repository: str, digest: str, referrers: Sequence[Descriptor]) -> None:
    """Add to the list that lies under the fallback tag; what others have put there stays. Raises RegistryError."""
    known = _fallback(client, repository, digest, push(repository))
    digests = {one["digest"] for one in known}
    lacking = [dict(one) for one in referrers if one["digest"] not in digests]
    if not lacking:
        return
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*known, *lacking]}
    content = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    put(client, repository, fallback_tag(digest), INDEX_TYPE, content)


def _fallback(client: Client, repository: str, digest: str, scope: str) -> List[Dict[str, Any]]:
    path = f"/v2/{repository}/manifests/{fallback_tag(digest)}"
    answer = client.trying(lambda: client.send("GET", path, (scope,), {"Accept": INDEX_TYPE}))
    if answer.status == 404:
        return []
    if answer.status != 200:
        raise failure(answer, f"GET {client.access.host}{path}")
    listed = _entries(answer, f"GET {client.access.host}{path}")
    if listed is None:
        raise RegistryError(
            f"{client.access.host}/{repository}:{fallback_tag(digest)} is no index, so that referrers cannot be listed there: "
            "delete that tag"
        )
    return listed


def _entries(answer: Answer, where: str) -> Optional[List[Dict[str, Any]]]:
    """The entries of an index; None for anything else, such as the page of a server that is no registry."""
    try:
        values = parse_object(answer.content, where)
    except ToolError:
        return None
    manifests = values.get("manifests")
    if values.get("mediaType", INDEX_TYPE) != INDEX_TYPE or not isinstance(manifests, list):
        return None
    return [check_descriptor(one, f"{where}: manifests[{number}]") for number, one in enumerate(manifests)]
