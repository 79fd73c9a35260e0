"""The lockfile of a health check: many roots, each with its own solution, as one graph of packages over their dependencies."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Iterable

from pants.util.frozendict import FrozenDict

from opam_oci.resolves.dependency_order import reachable, ready_order
from opam_oci.resolves.lock_table import LockTable, read_json_top
from opam_oci.resolves.lockfile import Deb, LockedPackage, LockfileError, naming_remedy
from opam_oci.resolves.lockfile_reader import DEBIAN_NAME, OPAM_NAME, OPAM_VERSION, read_debs, read_package

KIND = "opam-health"
_NODE = re.compile(r"[A-Za-z0-9_+-]+\.[A-Za-z0-9_+.~-]+/[0-9a-f]{12}\Z")
_METADATA = ("packages", "compilers", "constraints", "options", "repositories")


@dataclass(frozen=True)
class HealthNode:
    """A package over its dependencies. id: "lwt.5.6.1/0123456789ab"; `depends`: ids; `later`: as of `OpamLock.later`. The fields
    `depends` and `debs` of `package` are those of this node. accept_failures: its opam file says that it may fail on the base."""

    id: str
    package: LockedPackage
    depends: tuple[str, ...]
    later: tuple[str, ...]
    with_test: bool
    with_doc: bool
    accept_failures: bool


@dataclass(frozen=True)
class HealthRoot:
    """A package that was asked for. node: the id of its own node, `later`: those of its solution that are not below it; or the
    reason why it has no solution."""

    name: str
    version: str
    compiler: str
    node: str = ""
    later: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class HealthLock:
    """The contents of a lockfile of `[opam-health].resolves`. `base`: the base's address; the tuples of strings: what the
    lockfile was made for."""

    path: str
    resolve: str
    base: str
    packages: tuple[str, ...]
    latest: int
    compilers: tuple[str, ...]
    constraints: tuple[str, ...]
    options: tuple[str, ...]
    repositories: tuple[str, ...]
    nodes: FrozenDict[str, HealthNode]
    debs: FrozenDict[str, Deb]
    roots: tuple[HealthRoot, ...]

    def below(self, node: str) -> tuple[HealthNode, ...]:
        """All that a node is built over, dependencies first, in the order of any other lockfile."""
        ids = reachable(self.nodes[node].depends, lambda one: self.nodes[one].depends)
        named = {self.nodes[one].package.name: self.nodes[one] for one in ids}
        order = ready_order({name: one.package.depends for name, one in named.items()})
        return tuple(named[name] for name in order)

    def in_build_order(self, ids: Iterable[str]) -> list[str]:
        """`ids` sorted so that dependencies come first."""
        return ready_order({one: self.nodes[one].depends for one in ids})

    def needed(self, ids: Iterable[str]) -> set[str]:
        """`ids` and all that is below them."""
        return reachable(ids, lambda one: self.nodes[one].depends)


def read_health_lock(path: str, resolve: str, content: bytes) -> HealthLock:
    """Read a lockfile. Raises LockfileError for whatever is wrong with it."""
    with naming_remedy(resolve):
        return _read(path, resolve, content)


def _read(path: str, resolve: str, content: bytes) -> HealthLock:
    top = read_json_top(path, resolve, content, kind=KIND)
    metadata = top.table("metadata")
    top.refuse_unknown("metadata", "package", "deb", "node", "root")
    metadata.refuse_unknown("lock_version", "kind", "resolve", "base", "latest", *_METADATA)
    debs = read_debs(top)
    packages: dict[str, LockedPackage] = {}
    accepted: set[str] = set()
    for table in top.tables("package"):
        values = {"depends": [], "post_depends": [], "debs": [], "depexts": [], **table.values}
        may_fail = table.flag("accept_failures")
        values.pop("accept_failures", None)
        package = read_package(LockTable(path, table.where, values))
        if package.local:
            raise table.error(f"{package.full_name} has `local`, which packages of a health check have not")
        packages[package.full_name] = package
        accepted.update([package.full_name] if may_fail else [])
    nodes: dict[str, HealthNode] = {}
    for table in top.tables("node"):
        node = _node(table, packages, accepted)
        if node.id in nodes:
            raise table.error(f"the node {node.id} is there twice")
        nodes[node.id] = node
    return _checked(
        HealthLock(
            path=path,
            resolve=resolve,
            base=metadata.text("base"),
            packages=metadata.texts("packages"),
            latest=metadata.size("latest"),
            compilers=metadata.texts("compilers"),
            constraints=metadata.texts("constraints"),
            options=metadata.texts("options"),
            repositories=metadata.texts("repositories"),
            nodes=FrozenDict(nodes),
            debs=debs,
            roots=tuple(map(_root, top.tables("root"))),
        )
    )


def _node(table: LockTable, packages: dict[str, LockedPackage], accepted: set[str]) -> HealthNode:
    table.refuse_unknown(
        *("id", "package", "depends", "later", "debs", "depexts_out_of_reach", "with_test", "with_doc"),
    )
    name = table.text("id", _NODE)
    title = table.text("package")
    if title not in packages or not name.startswith(f"{title}/"):
        raise table.error(f"the node {name} is of the package {title!r:.200}, for which there is no table `package`")
    depends = table.names("depends", _NODE)
    package = replace(
        packages[title],
        depends=tuple(sorted(one.partition(".")[0] for one in depends)),
        debs=table.optional_names("debs", DEBIAN_NAME),
        depexts_out_of_reach=table.text("depexts_out_of_reach") if "depexts_out_of_reach" in table.values else "",
    )
    return HealthNode(
        name,
        package,
        depends,
        table.optional_texts("later"),
        table.flag("with_test"),
        table.flag("with_doc"),
        title in accepted,
    )


def _root(table: LockTable) -> HealthRoot:
    table.refuse_unknown("name", "version", "compiler", "node", "later", "reason")
    if ("node" in table.values) == ("reason" in table.values):
        raise table.error("it has to have either `node` or `reason`")
    version = table.text("version")
    return HealthRoot(
        name=table.text("name", OPAM_NAME),
        version=table.text("version", OPAM_VERSION) if version else "",
        compiler=table.text("compiler"),
        node=table.text("node", _NODE) if "node" in table.values else "",
        later=table.optional_names("later", _NODE),
        reason=table.text("reason") if "reason" in table.values else "",
    )


def _checked(lock: HealthLock) -> HealthLock:
    """The lockfile, if all that it names is in it, once, and nothing is below itself. Raises LockfileError."""
    for node in lock.nodes.values():
        for one in node.depends:
            if one not in lock.nodes:
                raise LockfileError(lock.path, f"the node {node.id} depends on {one}, which is not in this lockfile.")
        for deb in node.package.debs:
            if deb not in lock.debs:
                raise LockfileError(
                    lock.path, f"the node {node.id} names the Debian package {deb}, for which there is no `deb`."
                )
    for root in lock.roots:
        for one in (*([root.node] if root.node else []), *root.later):
            if one not in lock.nodes:
                raise LockfileError(lock.path, f"the root {root.name} names {one}, which is not in this lockfile.")
    order = lock.in_build_order(lock.nodes)
    if len(order) < len(lock.nodes):
        raise LockfileError(lock.path, "packages in it depend on each other in a circle.")
    _check_names(lock, order)
    return lock


def _check_names(lock: HealthLock, order: list[str]) -> None:
    """Raise LockfileError where a node would be built over two versions of one package. order: all nodes, dependencies first."""
    below: dict[str, frozenset[str]] = {}
    for one in order:
        below[one] = frozenset([one]).union(*(below[dependency] for dependency in lock.nodes[one].depends))
        names = {lock.nodes[other].package.name for other in below[one]}
        if len(names) != len(below[one]):
            raise LockfileError(lock.path, f"the node {one} is over two versions of one package.")
