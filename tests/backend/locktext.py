"""Lockfiles and BUILD files for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Sequence


def toml_list(values: Sequence[str]) -> str:
    return json.dumps(list(values))


@dataclass(frozen=True)
class Pkg:
    """A package of a lockfile under test; `sources` and `extra` are TOML text that follows its keys."""

    name: str
    depends: Sequence[str] = ()
    post: Sequence[str] = ()
    opam: str = ""
    version: str = "1"
    debs: Sequence[str] = ()
    extra: str = ""

    def toml(self) -> str:
        return (
            f'[[package]]\nname = "{self.name}"\nversion = "{self.version}"\ndepends = {toml_list(self.depends)}\n'
            f"post_depends = {toml_list(self.post)}\ndepexts = []\ndebs = {toml_list(self.debs)}\n"
            f"opam = '''\n{self.opam}'''\n{self.extra}\n"
        )


def source_toml(urls: Sequence[str], sha256: str, size: int, name: str = "") -> str:
    return f'[[package.source]]\nname = "{name}"\nurls = {toml_list(urls)}\nsha256 = "{sha256}"\nsize = {size}\n'


def deb_toml(name: str, path: str, sha256: str = "0" * 64, size: int = 1) -> str:
    return (
        f'[[deb]]\nname = "{name}"\nversion = "1:2-3"\narchitecture = "amd64"\npath = "{path}"\n'
        f'sha256 = "{sha256}"\nsize = {size}\n'
    )


def opam_lock(
    *packages: Pkg,
    resolve: str = "default",
    base: str = "//3rdparty/debian:trixie",
    requirements: Sequence[str] = (),
    constraints: Sequence[str] = (),
    debs: str = "",
    version: int = 1,
    kind: str = "opam",
) -> str:
    return (
        f'[metadata]\nlock_version = {version}\nkind = "{kind}"\nresolve = "{resolve}"\nbase = "{base}"\n'
        f"requirements = {toml_list(requirements)}\nconstraints = {toml_list(constraints)}\n\n"
        + "".join(package.toml() for package in packages)
        + debs
    )


def debian_lock(
    resolve: str = "trixie",
    packages: Sequence[str] = ("opam",),
    suite: str = "trixie",
    architecture: str = "amd64",
    debs: str = "",
) -> str:
    return (
        f'[metadata]\nlock_version = 1\nkind = "debian"\nresolve = "{resolve}"\nsuite = "{suite}"\n'
        f'architecture = "{architecture}"\npackages = {toml_list(packages)}\n\n{debs}'
    )


DEBIAN_BUILD = """
debian_rootfs(name="trixie", suite="trixie", packages=["opam"])
debian_rootfs(name="second", suite="trixie", packages=["opam"])
"""


def project(
    *packages: Pkg,
    requirements: Sequence[str] = (),
    image: str = "",
    opam_build: str = "",
    debian_debs: str = "",
    debs: str = "",
) -> dict[str, str]:
    """The files of a project with the resolve `default` over the base `trixie`."""
    return {
        "3rdparty/debian/BUILD": DEBIAN_BUILD,
        "3rdparty/debian/trixie.lock": debian_lock(debs=debian_debs),
        "3rdparty/debian/second.lock": debian_lock("second"),
        "3rdparty/opam/BUILD": (
            'opam_packages(name="default")\n'
            f'opam_requirement(name="roots", requirements={list(requirements)!r})\n{opam_build}'
        ),
        "3rdparty/opam/default.lock": opam_lock(*packages, requirements=requirements, debs=debs),
        "images/BUILD": image,
    }


def image(*packages: str, name: str = "image", more: str = "") -> str:
    addresses = [f"3rdparty/opam:default#{package}" for package in packages]
    return f'oci_package_image(name="{name}", packages={addresses!r}, {more})\n'


@dataclass(frozen=True)
class Node:
    """A node of a health check's lockfile: `id` is NAME.VERSION/ and 12 hex digits; `depends`, `later`: ids, NAME.VERSION."""

    id: str
    depends: Sequence[str] = ()
    later: Sequence[str] = ()
    opam: str = ""
    fields: "dict[str, object] | None" = None
    package_fields: "dict[str, object] | None" = None

    @property
    def title(self) -> str:
        return self.id.partition("/")[0]


def node_id(title: str, number: int = 0) -> str:
    return f"{title}/{number:012x}"


def health_lock(
    nodes: Sequence[Node],
    roots: Sequence["dict[str, object]"],
    resolve: str = "health",
    base: str = "//3rdparty/debian:trixie",
    repositories: Sequence[str] = (),
    **metadata: object,
) -> str:
    packages = {}
    for node in nodes:
        name, _, version = node.title.partition(".")
        packages[node.title] = {"name": name, "version": version, "opam": node.opam, **(node.package_fields or {})}
    values = {
        "metadata": {
            "lock_version": 1,
            "kind": "opam-health",
            "resolve": resolve,
            "base": base,
            "packages": ["*"],
            "latest": 1,
            "compilers": [],
            "constraints": [],
            "options": [],
            "repositories": list(repositories),
            **metadata,
        },
        "package": list(packages.values()),
        "deb": [],
        "node": [
            {
                "id": node.id,
                "package": node.title,
                "depends": list(node.depends),
                **({"later": list(node.later)} if node.later else {}),
                **(node.fields or {}),
            }
            for node in nodes
        ],
        "root": [{"compiler": "", **root} for root in roots],
    }
    return json.dumps(values, indent=1, sort_keys=True) + "\n"
