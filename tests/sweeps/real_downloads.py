"""What opam by hand needs of a lockfile's packages: their part of a repository, their archives, their .debs."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.base_job import fetch

_POOL = "debian:"
_KINDS = ("md5", "sha256", "sha512")


@dataclass(frozen=True)
class Locked:
    """`packages`: title -> the lockfile's entry, for some roots and all that they need; `all_debs`: name -> a locked .deb."""

    packages: Mapping[str, Dict[str, Any]]
    all_debs: Mapping[str, Dict[str, Any]]

    @staticmethod
    def read(lockfile: Path, roots: Iterable[str]) -> "Locked":
        """Of a lockfile what `roots` need."""
        lock = tomli.loads(lockfile.read_text())
        by_name = {package["name"]: package for package in lock["package"]}
        names: Dict[str, None] = {}
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name not in names:
                names[name] = None
                todo += [*by_name[name]["depends"], *by_name[name]["post_depends"]]
        packages = {f"{name}.{by_name[name]['version']}": by_name[name] for name in sorted(names)}
        return Locked(packages, {deb["name"]: deb for deb in lock.get("deb", [])})

    def repository(self, whole: Path, target: Path) -> Path:
        """Write a repository that has these versions alone, so that opam by hand takes them; returns `target`."""
        target.mkdir()
        shutil.copy(whole / "repo", target / "repo")
        for title, package in self.packages.items():
            shutil.copytree(whole / "packages" / package["name"] / title, target / "packages" / package["name"] / title)
        return target

    def downloads(self, kept: Path, target: Path) -> Path:
        """Write the archives into `target`, in the layout of opam's cache; returns it. They are downloaded into `kept` once.
        Raises OSError where the mirror does not have one, ValueError where it has another."""
        target.mkdir()
        kept.mkdir(exist_ok=True)
        for package in self.packages.values():
            for source in package.get("source", []):
                content = _archive(source, kept)
                for kind in _KINDS:
                    value = hashlib.new(kind, content).hexdigest()
                    file = target / kind / value[:2] / value
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
        return target

    def debs(self, top: Path) -> List[Any]:
        """The .debs of all packages' depexts, downloaded into `top`/debs; as requests have them."""
        (top / "debs").mkdir(exist_ok=True)
        names = dict.fromkeys(name for package in self.packages.values() for name in package["debs"])
        found = []
        for name in names:
            deb = self.all_debs[name]
            file = top / "debs" / deb["path"].rpartition("/")[2]
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != deb["sha256"]:
                fetch(top, deb)
            found.append(
                {**{key: deb[key] for key in ("name", "version", "architecture", "sha256")}, "file": os.fspath(file)}
            )
        return found


def _archive(source: Mapping[str, Any], kept: Path) -> bytes:
    file = kept / source["sha256"]
    if file.exists():
        return file.read_bytes()
    [path] = [url[len(_POOL) :] for url in source["urls"] if url.startswith(_POOL)]
    [mirror, *_] = apt_mirrors(Path("/etc/apt"))
    with urllib.request.urlopen(f"{mirror.rstrip('/')}/{path}", timeout=60) as answer:
        content: bytes = answer.read()
    if hashlib.sha256(content).hexdigest() != source["sha256"]:
        raise ValueError(f"{path}: its sha256 is not {source['sha256']}")
    file.write_bytes(content)
    return content
