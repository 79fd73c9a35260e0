"""`lock-debian`: a base's packages resolved to exact .debs by apt, against a mirror's own signed index.

apt runs on the host with directories of its own, so the host's package lists, sources and status have no say.
"""

from __future__ import annotations

from opam_sandbox.locking import cache, secrets, toml_writer
from opam_sandbox.locking.apt import Apt, LockedDeb, kept
from opam_sandbox.locking.apt_lists import update
from opam_sandbox.locking.requests import LockDebianRequest


def run(request: LockDebianRequest, jobs: int) -> int:
    """Write `lockfile`. Returns the exit status; raises ToolError with apt's own words."""
    suite, architecture, packages = request["suite"], request["architecture"], request["packages"]
    known = secrets.take(request.get("secrets", ""))
    lists = update(cache.directory(request["store"], "apt"), request["mirrors"], [suite], architecture, known)
    with Apt(lists) as apt:
        debs = apt.resolve(["?essential", "apt", *packages])
    with open("lockfile", "w", encoding="utf-8") as out:
        out.write(lock_text(request["resolve"], suite, architecture, packages, debs))
    return 0


def lock_text(resolve: str, suite: str, architecture: str, packages: "list[str]", debs: "list[LockedDeb]") -> str:
    """The text of a base's lockfile; `packages` are those asked for."""
    metadata = {
        "kind": "debian",
        "resolve": resolve,
        "suite": suite,
        "architecture": architecture,
        "packages": sorted(packages),
    }
    return toml_writer.lockfile(resolve, metadata, [deb_text(deb) for deb in debs])


def deb_text(deb: LockedDeb) -> str:
    """A .deb as a table of a lockfile."""
    return toml_writer.table("[[deb]]", kept(deb))
