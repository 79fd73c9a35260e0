"""The last step of a health check's lockfile: many roots, each solved on its own, and every byte that building them needs.

Nothing of one root keeps another from being locked: what is out of reach is recorded, for the check to say so. Writes `lockfile`,
which is JSON, as it may have some ten thousand packages in it; its tables are those of other lockfiles. And notes.json.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.locking import lock_debs, secrets
from opam_sandbox.locking.apt import Apt, LockedDeb, kept
from opam_sandbox.locking.prepared import read_prepared
from opam_sandbox.locking.requests import Indexes
from opam_sandbox.locking.root_nodes import CycleError, Described, Graph, RootNodes, titles, unusable
from opam_sandbox.locking.root_requests import LockRootsRequest, RootSolution, RootSolutions
from opam_sandbox.locking.write_lockfile import NOTES, PackageToLock, content_of, lists_of, lock_sources
from opam_sandbox.request import read_request

LOCK_VERSION = 1
# Hexadecimal digits of a node's name: of a million nodes two have the same ones in one of 500 lockfiles, which is an error then.
_DIGITS = 12


def lock_roots(request: LockRootsRequest) -> int:
    """The step `lock-roots`. Raises ToolError for what is wrong with all of it, never with one root."""
    solutions: RootSolutions = read_request(request["solutions"], RootSolutions)
    indexes: Indexes = read_request(request["indexes"], Indexes)
    _, packages, base = read_prepared(request["prepared"])
    known = secrets.take(request.get("secrets", ""))
    described = Described(packages, {**base["variables"]})
    graph = Graph(described)
    roots = [_add(graph, described, root, tuple(request["asked"])) for root in solutions["roots"]]
    to_lock = [_to_lock(described, title) for title in titles(graph.nodes)]
    notes = [note for title in titles(graph.nodes) for note in described.facts(title).notes]
    notes += lock_sources(to_lock, request, indexes["session"], known, record=True)
    depexts = {package.title: package.depexts for package in to_lock if package.depexts}
    with Apt(lists_of(request, indexes["lists"], known), base["status"]) as apt:
        debs = Debs(apt, depexts, graph)
    values = _lockfile(request, graph, roots, to_lock, debs)
    with open("lockfile", "w", encoding="utf-8") as out:
        out.write(f"{json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)}\n")
    write_json(NOTES, notes)
    return 0


_Root = Tuple[RootSolution, "RootNodes | str"]


def _add(graph: Graph, described: Described, root: RootSolution, asked: Tuple[str, ...]) -> _Root:
    """A root's nodes, or why it has none."""
    if "packages" not in root:
        return root, root.get("reason", "")
    solution = root["packages"]
    if root["name"] not in solution:
        raise ToolError(f"the solution of {root['name']} does not have {root['name']} in it")
    reason = unusable(described, solution)
    if reason:
        return root, reason
    try:
        return root, graph.add(root["name"], solution, asked)
    except CycleError as error:
        return root, f"its packages depend on each other in a circle: {error}"


def _to_lock(described: Described, title: str) -> PackageToLock:
    facts = described.facts(title)
    name, _, version = title.partition(".")
    return PackageToLock(name, version, facts.text, list(facts.files.files), (), (), [], [], list(facts.depexts))


class Debs:
    """The .debs of each node: what its depexts need and neither the base nor its dependencies have.

    apt is asked once for all packages, so that those that share a Debian package have the same one. Depexts that do not go
    together with others' may do for the node alone, with what is below it: so apt is asked for these again.
    """

    def __init__(self, apt: Apt, depexts: Mapping[str, Sequence[str]], graph: Graph) -> None:
        self._graph = graph
        answer = lock_debs.resolve(apt, depexts, True)
        self.all: Dict[str, LockedDeb] = {deb.name: deb for deb in answer.debs}
        self._own: Dict[int, Set[str]] = {}
        self._missing: Dict[int, str] = {}
        for number, node in enumerate(graph.nodes):
            if node.title in answer.own:
                self._own[number] = answer.own[node.title]
            elif node.title in answer.out_of_reach:
                self._alone(apt, depexts, number, answer.out_of_reach[node.title])

    def _alone(self, apt: Apt, depexts: Mapping[str, Sequence[str]], number: int, why: str) -> None:
        """A node whose depexts do not go with all others'."""
        wanted = {
            one.title: depexts[one.title]
            for one in (self._graph.nodes[below] for below in sorted(self._graph.below(number)))
            if one.title in depexts
        }
        answer = lock_debs.resolve(apt, wanted, True)
        title = self._graph.nodes[number].title
        if title not in answer.own:
            self._missing[number] = answer.out_of_reach.get(title, why)
            return
        changed = sorted(
            f"{deb.name} {deb.version}"
            for deb in answer.debs
            if self.all.setdefault(deb.name, deb).version != deb.version
        )
        there = self._of_dependencies(number)
        lost = sorted(there - {deb.name for deb in answer.debs})
        if changed or lost:
            self._missing[number] = (
                f"they go together with those of its dependencies only where these have other Debian packages than "
                f"{', '.join([*changed, *lost][:5])}, which other roots have"
            )
            return
        self._own[number] = answer.own[title]

    def _of_dependencies(self, number: int) -> Set[str]:
        below = self._graph.below(number) - {number}
        return set().union(*(self._own.get(one, set()) for one in below))

    def of(self, number: int) -> List[str]:
        """The names of a node's .debs, sorted."""
        return sorted(self._own.get(number, set()) - self._of_dependencies(number))

    def missing(self, number: int) -> str:
        """Why a node's depexts cannot be installed; "" if they can."""
        return self._missing.get(number, "")


def _lockfile(
    request: LockRootsRequest,
    graph: Graph,
    roots: Sequence[_Root],
    packages: Sequence[PackageToLock],
    debs: Debs,
) -> Dict[str, Any]:
    names: List[str] = []
    nodes: List[Dict[str, Any]] = []
    for number, node in enumerate(graph.nodes):
        fields: Dict[str, Any] = {"package": node.title, "depends": sorted(names[one] for one in node.depends)}
        for key, value in (
            ("later", list(graph.later(number))),
            ("debs", debs.of(number)),
            ("depexts_out_of_reach", debs.missing(number)),
            ("with_test", "test" in node.asked),
            ("with_doc", "doc" in node.asked),
        ):
            if value:
                fields[key] = value
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
        names.append(f"{node.title}/{digest[:_DIGITS]}")
        nodes.append({"id": names[-1], **fields})
    used = {name for node in nodes for name in node.get("debs", ())}
    return {
        "metadata": {
            **request["metadata"],
            "lock_version": LOCK_VERSION,
            "kind": "opam-health",
            "resolve": request["resolve"],
        },
        "package": [_package(package, graph.accepts_failures(package.title)) for package in packages],
        "deb": [kept(debs.all[name]) for name in sorted(used)],
        "node": sorted(nodes, key=lambda node: str(node["id"])),
        "root": sorted(
            (_root(root, names) for root in roots), key=lambda root: (root["name"], root["version"], root["compiler"])
        ),
    }


def _by_name(root: Mapping[str, Any]) -> Tuple[str, str, str]:
    return root["name"], root["version"], root["compiler"]


def _root(root: _Root, names: Sequence[str]) -> Dict[str, Any]:
    asked, found = root
    fields: Dict[str, Any] = {"name": asked["name"], "version": asked["version"], "compiler": asked["compiler"]}
    if isinstance(found, str):
        return {**fields, "reason": found}
    later = sorted(names[number] for number in found.later)
    return {**fields, "node": names[found.node], **({"later": later} if later else {})}


def _package(package: PackageToLock, accept_failures: bool) -> Dict[str, Any]:
    fields: Dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        **content_of("opam", package.opam.encode("utf-8", "surrogateescape")),
        "source": [
            {"name": source.name, "urls": list(source.urls), "sha256": source.sha256, "size": source.size}
            for source in package.sources
        ],
        "source_out_of_reach": [
            {
                "name": wanted.name,
                "urls": list(wanted.urls),
                "checksums": [f"{kind}={value}" for kind, value in wanted.checksums],
            }
            for wanted in package.out_of_reach
        ],
        "file": [
            {"path": path, **({"executable": True} if executable else {}), **content_of("content", content)}
            for path, content, executable in package.files
        ],
        "depexts": package.depexts,
        "accept_failures": accept_failures,
    }
    return {key: value for key, value in fields.items() if value or key in ("name", "version", "opam", "opam_base64")}
