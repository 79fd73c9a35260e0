"""`plan-push`: asks a registry what it lacks of an image, and lets it mount what a sibling repository has.

It needs the image's JSON, and none of its layers: whoever called it fetches only those that must be sent.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.oci.layout import Descriptor
from opam_sandbox.publishing.contents import Contents, contents
from opam_sandbox.publishing.requests import PlanRequest
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Access, Client, repository_in
from opam_sandbox.registry.errors import RegistryError
from opam_sandbox.registry.known import Known
from opam_sandbox.registry.registries_conf import may_lead_elsewhere
from opam_sandbox.request import read_request

# Questions at once: they are small, and what takes time is the way.
QUESTIONS = 8
# A registry that does not mount is not asked for each blob.
_VAIN_MOUNTS = 3
PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Plan:
    """`there`: digests of the image's blobs that the repository has, `mounted` of them just now. `current`: tags that have the
    image already, with all blobs and referrers. `requests`: what it took."""

    there: List[str]
    current: List[str]
    mounted: int
    requests: int


def run(options: argparse.Namespace) -> int:
    """Plan as `options.request`, a file, says, and write plan.json: the plan, or `failed`, why the registry could not be asked.

    Raises ToolError for a request or an image that makes no sense.
    """
    request: PlanRequest = read_request(options.request, PlanRequest)
    whole = contents(Path(request["image"]))
    host, _, path = request["repository"].partition("/")
    repository = repository_in(host, path)
    access = Access(host, request["tls_verify"], request.get("cert_dir", ""), request["retries"])
    known = Known(Path(request["known"]) if request.get("known") else None, host)
    values: Dict[str, object]
    try:
        with connected(access, repository) as client:
            values = asdict(plan(client, repository, request["tags"], whole, known))
    except ToolError as error:
        values = {"failed": str(error)}
    Path(PLAN_FILE).write_text(json.dumps(values, sort_keys=True))
    return 0


@contextmanager
def connected(access: Access, repository: str) -> Iterator[Client]:
    """A client of the registry that skopeo would push to. Raises ToolError where that may be another, RegistryError where it
    does not answer."""
    path = may_lead_elsewhere(os.environ)
    if path:
        raise RegistryError(f"{path} may lead skopeo elsewhere than to {access.host} (it has an entry with `prefix`)")
    client = Client(access, repository)
    try:
        client.connect()
        yield client
    finally:
        client.close()


def plan(client: Client, repository: str, tags: Sequence[str], whole: Contents, known: Known) -> Plan:
    """Raises RegistryError."""
    at_tags = [manifests.digest_at(client, repository, tag) for tag in tags]
    wanted = {**whole.blobs, **whole.about}
    lacking = lacks(client, repository, list(wanted.values()))
    absent = {one["digest"] for one in lacking}
    known.add((digest for digest in wanted if digest not in absent), repository)
    missing = mounted(client, repository, lacking, known)
    left = {one["digest"] for one in missing}
    is_whole = not left and manifests.lists_all(client, repository, whole.image["digest"], whole.referrers)
    return Plan(
        there=[digest for digest in whole.blobs if digest not in left],
        current=[tag for tag, found in zip(tags, at_tags) if found == whole.image["digest"] and is_whole],
        mounted=len(lacking) - len(missing),
        requests=client.connections.exchanges,
    )


def lacks(client: Client, repository: str, wanted: Sequence[Descriptor]) -> List[Descriptor]:
    """Those blobs that a repository does not have."""
    with ThreadPoolExecutor(QUESTIONS) as pool:
        found = list(pool.map(lambda one: blobs.exists(client, repository, one["digest"], one["size"]), wanted))
    return [one for one, is_there in zip(wanted, found) if not is_there]


def mounted(client: Client, repository: str, lacking: Sequence[Descriptor], known: Known) -> List[Descriptor]:
    """Mount what is known to be in a sibling; returns those that are in none, or were not mounted."""
    vain: List[str] = []

    def mount(one: Descriptor) -> Tuple[Descriptor, bool]:
        for source in known.repositories(one["digest"], repository):
            if len(vain) >= _VAIN_MOUNTS:
                break
            if blobs.mount(client, repository, one["digest"], source):
                return one, True
            vain.append(source)
        return one, False

    with ThreadPoolExecutor(QUESTIONS) as pool:
        done = list(pool.map(mount, lacking))
    known.add((one["digest"] for one, is_mounted in done if is_mounted), repository)
    return [one for one, is_mounted in done if not is_mounted]
