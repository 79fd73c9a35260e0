"""The bare way, for baselines: opam in a plain chroot with the same base, the same locked files and no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterable, List, Sequence

from bench.session import Session, cores, timed
from opam_oci.resolves.lockfile import LockedPackage
from tests.support.checkout import ROOT, CommandFailed, tool
from tests.support.layouts import Layout

# As the base's own opam would be run by its user: nothing tuned, opam's jobs and make's are all cores.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/home/opam",
    "USER": "opam",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "OPAMYES": "1",
    "OPAMCONFIRMLEVEL": "unsafe-yes",
    "OPAMCOLOR": "never",
    "OPAMNODEPEXTS": "1",
    "OPAMPRECISETRACKING": "1",
    "OPAMNOSELFUPGRADE": "1",
}

_ENTER = (
    'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && mount -t tmpfs -o mode=1777 tmpfs "$0/tmp" && '
    'exec chroot --userspec="$1" "$0" "${@:2}"'
)


class BareRoot:
    """A directory with a base and opam's root (the two lowest layers of `layout`) as plain files."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self.root = root
        root.mkdir(parents=True)
        for descriptor in layout.layers[:2]:
            tool("tar", "--numeric-owner", "-xzf", str(layout.blob(descriptor["digest"])), "-C", str(root))

    def run(self, *argv: str, user: str = "1000:1000") -> "subprocess.CompletedProcess[str]":
        """Run a command in there, without network, in namespaces that end with it. Raises CommandFailed."""
        isolate = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net"]
        env = {**ENVIRONMENT, "OPAMJOBS": str(cores())}
        return tool(*isolate, "bash", "-c", _ENTER, str(self.root), user, *argv, env=env, stdin=subprocess.DEVNULL)

    def add_packages(self, packages: Iterable[LockedPackage], session: Session) -> None:
        """The packages' opam files as opam's repository, and their archives where opam keeps downloads, by every checksum."""
        repository, downloads = (self.root / "home/opam" / name for name in ("opam-repository", ".opam/download-cache"))
        for package in packages:
            directory = repository / "packages" / package.name / package.full_name
            directory.mkdir(parents=True)
            (directory / "opam").write_text(package.opam)
            for file in package.files:
                (directory / "files" / file.path).parent.mkdir(parents=True, exist_ok=True)
                (directory / "files" / file.path).write_bytes(file.content)
            for source in package.sources:
                content = (session.mirror() / "sha256" / source.sha256[:2] / source.sha256).read_bytes()
                for kind in ("md5", "sha256", "sha512"):
                    digest = hashlib.new(kind, content).hexdigest()
                    (downloads / kind / digest[:2]).mkdir(parents=True, exist_ok=True)
                    (downloads / kind / digest[:2] / digest).write_bytes(content)
        tool("chown", "-R", "1000:1000", str(self.root / "home/opam"))
        self.run("opam", "update", "default")

    def install_debs(self, packages: Sequence[LockedPackage], session: Session) -> float:
        """The .debs of the packages' depexts, by one dpkg. Returns the seconds it took."""
        lock = session.example.opam_lock(ROOT)
        debs = sorted({lock.debs[name].path for package in packages for name in package.debs})
        if not debs:
            return 0.0
        target = self.root / "var/debs"
        target.mkdir()
        names: List[str] = []
        for path in debs:
            shutil.copy(session.mirror() / path, target)
            names.append(f"/var/debs/{os.path.basename(path)}")
        seconds = timed(
            lambda: self.run("dpkg", "--force-unsafe-io", "--force-confnew", "--install", *names, user="0:0")
        )
        shutil.rmtree(target)
        return seconds

    def install(self, *packages: str) -> float:
        """`opam install` of these in one go. Returns the seconds it took."""
        return timed(lambda: self.run("opam", "install", "--yes", "--no-depexts", *packages))

    def check_installed(self, packages: Iterable[LockedPackage]) -> None:
        """Raises CommandFailed unless they all are."""
        listed = self.run("opam", "list", "--installed", "--short", "--columns=package").stdout.split()
        missing = {package.full_name for package in packages} - set(listed)
        if missing:
            raise CommandFailed(f"the baseline did not install {', '.join(sorted(missing))}")
