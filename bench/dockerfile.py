"""Images of one closure by a Dockerfile with one `RUN opam install` for each package: the first image, the same packages in
another order, a changed leaf, a changed package in the middle.

Baseline: `buildah build --layers` of that Dockerfile, and a push of the image into an OCI layout directory. It is as good as
such a file can be: no network, no sandbox of opam's own, all archives at hand and outside of the image, the same base, the same
locked opam files, dependencies first, and each instruction names the digest of the opam file that it installs, so that a change
of it is noticed. The .debs of all depexts are the first instruction.

Ours: `package`, with pantsd running and all sources at hand. The first image is timed from the base on, as the baseline is.
Bytes are those of compressed layers, without the base's.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from bench.bare import ENVIRONMENT, BareRoot
from bench.examples import change_package
from bench.figures import Row
from bench.session import Built, Session, cores, say, timed, wait_for_target
from opam_oci.resolves.lockfile import LockedPackage
from tests.support.checkout import ROOT, CommandFailed, tool
from tests.support.layouts import Layout

# `./pants` starts its Python backend for what lies below bench/, and nobody's images do.
DIRECTORY = "other-order"
_DOWNLOADS = "home/opam/.opam/download-cache"


def ordered(packages: Sequence[LockedPackage], backwards: bool = False) -> List[LockedPackage]:
    """Dependencies first; where that leaves a choice by name, or from the last name to the first."""
    by_name = {package.name: package for package in packages}
    depends = {name: [other for other in package.depends if other in by_name] for name, package in by_name.items()}
    sorter = TopologicalSorter(depends)
    sorter.prepare()
    found: List[LockedPackage] = []
    ready: List[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], reverse=backwards)
        name = ready.pop(0)
        found.append(by_name[name])
        sorter.done(name)
    return found


class Dockerfile:
    """Builds images in a store of its own. `root`: what the base's image is made of; its downloads are mounted for each build."""

    def __init__(self, work: Path, root: BareRoot, debs: Sequence[Path]) -> None:
        self._work = work
        self._downloads = work / "downloads"
        shutil.move(str(root.root / _DOWNLOADS), self._downloads)
        (root.root / _DOWNLOADS).mkdir()
        self._debs = work / "debs"
        self._debs.mkdir()
        for deb in debs:
            shutil.copy(deb, self._debs)
        self._buildah = [
            "buildah",
            "--root",
            str(work / "s"),
            "--runroot",
            str(work / "r"),
            "--storage-driver",
            "overlay",
        ]
        container = tool(*self._buildah, "from", "scratch").stdout.strip()
        mounted = tool(*self._buildah, "mount", container).stdout.strip()
        tool("cp", "-a", f"{root.root}/.", mounted)
        tool(*self._buildah, "umount", container)
        tool(*self._buildah, "commit", "--quiet", "--rm", container, "localhost/base:latest")
        self._base = self._push("localhost/base:latest", "base")

    def text(self, packages: Sequence[LockedPackage], changed: Mapping[str, str]) -> str:
        """changed: of packages whose opam file is another one, a word of it."""
        lines = ["FROM localhost/base:latest", *(f"ENV {name}={value}" for name, value in ENVIRONMENT.items())]
        lines.append(f"ENV OPAMJOBS={cores()}")
        if any(self._debs.iterdir()):
            lines += ["USER root", "RUN dpkg --force-unsafe-io --force-confnew --install /var/debs/*.deb"]
        lines.append("USER 1000:1000")
        for package in packages:
            digest = hashlib.sha256((package.opam + changed.get(package.name, "")).encode()).hexdigest()
            lines.append(f"RUN : {digest[:16]} && opam install --yes --no-depexts {package.full_name}")
        return "\n".join(lines) + "\n"

    def image(self, name: str, text: str) -> Dict[str, int]:
        """Build and push it. Returns its layers, without the base's: sizes by digest. Raises CommandFailed."""
        file = self._work / f"{name}.dockerfile"
        file.write_text(text)
        context = self._work / "context"
        context.mkdir(exist_ok=True)
        volumes = [f"--volume={self._downloads}:/{_DOWNLOADS}", f"--volume={self._debs}:/var/debs:ro"]
        isolated = ["--isolation=chroot", "--network=none", "--pull-never"]
        tag = f"localhost/{name}:latest"
        tool(*self._buildah, "build", "--layers", *isolated, *volumes, "--tag", tag, "--file", str(file), str(context))
        return {digest: size for digest, size in self._push(tag, name).items() if digest not in self._base}

    def _push(self, tag: str, name: str) -> Dict[str, int]:
        target = self._work / "layouts" / name
        target.parent.mkdir(exist_ok=True)
        tool(*self._buildah, "push", "--quiet", tag, f"oci:{target}:latest")
        return sizes(Layout(target))

    def check(self, name: str, packages: Sequence[LockedPackage]) -> None:
        """Raises CommandFailed unless the image has all of them."""
        container = tool(*self._buildah, "from", "--pull-never", f"localhost/{name}:latest").stdout.strip()
        run = [*self._buildah, "run", "--isolation=chroot", container, "--"]
        listed = tool(*run, "opam", "list", "--installed", "--short", "--columns=package").stdout.split()
        tool(*self._buildah, "rm", container)
        missing = {package.full_name for package in packages} - set(listed)
        if missing:
            raise CommandFailed(f"the baseline's image lacks {', '.join(sorted(missing))}")

    def close(self) -> None:
        tool(*self._buildah, "rm", "--all", check=False)
        tool(*self._buildah, "rmi", "--all", "--force", check=False)


def sizes(layout: Layout) -> Dict[str, int]:
    """Of an image's layers, by digest."""
    return {layer["digest"]: layer["size"] for layer in layout.layers}


def baseline(session: Session, ground: Layout) -> "tuple[Dict[str, float], Dict[str, Dict[str, int]]]":
    """Seconds and layers of each image: `first`, `other order`, `leaf`, `middle`."""
    example = session.example
    packages = example.packages(ROOT)
    lock = example.opam_lock(ROOT)
    top = session.directory("dockerfile")
    root = BareRoot(top / "root", ground)
    root.add_packages(packages, session)
    names = sorted({name for package in packages for name in package.debs})
    made = Dockerfile(top, root, [session.mirror() / lock.debs[name].path for name in names])
    first, other = ordered(packages), ordered(packages, backwards=True)
    seconds: Dict[str, float] = {}
    layers: Dict[str, Dict[str, int]] = {}
    try:
        for name, text in (
            ("first", made.text(first, {})),
            ("other-order", made.text(other, {})),
            ("leaf", made.text(first, {example.leaf: "changed"})),
            ("middle", made.text(first, {example.middle: "changed"})),
        ):
            say(f"a Dockerfile's image: {name} ...")
            begin = time.perf_counter()
            layers[name] = made.image(name, text)
            seconds[name] = time.perf_counter() - begin
            made.check(name, packages)
    finally:
        made.close()
        shutil.rmtree(top)
    return seconds, layers


def ours(session: Session, built: Built) -> "tuple[Dict[str, float], Dict[str, Dict[str, int]]]":
    """As `baseline`."""
    assert built.rest_seconds is not None
    example, pants = session.example, built.pants
    own = dict(list(sizes(built.layout).items())[2:])
    seconds, layers = {"first": built.rest_seconds}, {"first": own}
    directory = pants.root / DIRECTORY
    directory.mkdir(exist_ok=True)
    names = ", ".join(f'"3rdparty/opam:{example.resolve}#{name}"' for name in reversed(example.roots))
    # Not an image that the caches know.
    (directory / "BUILD").write_text(
        f'oci_package_image(name="other", packages=[{names}], labels={{"run": "{time.time_ns()}"}})\n'
    )
    wait_for_target(pants, f"{DIRECTORY}:other")
    seconds["other-order"] = timed(lambda: pants.run("package", f"{DIRECTORY}:other"))
    layers["other-order"] = dict(list(sizes(Layout(pants.root / "dist" / DIRECTORY / "other")).items())[2:])
    lock = pants.root / example.opam_lock_file
    text = lock.read_text()
    try:
        for name, package in (("leaf", example.leaf), ("middle", example.middle)):
            change_package(pants.root, example, package, f"changed {time.time_ns()}")
            time.sleep(3)  # pantsd learns of changes a moment later
            say(f"{name} {package} ...")
            seconds[name] = timed(lambda: pants.run("package", example.address))
            layers[name] = dict(list(sizes(built.layout).items())[2:])
            lock.write_text(text)
            time.sleep(3)
            pants.run("package", example.address)
    finally:
        lock.write_text(text)
        shutil.rmtree(directory)
    return seconds, layers


def run(session: Session) -> List[Row]:
    built = session.built()
    if built.rest_seconds is None:
        raise CommandFailed("with --reuse nothing is built from nothing: this benchmark needs a run without it")
    their_seconds, their_layers = baseline(session, Layout(built.pants.root / "dist/bench/ground"))
    our_seconds, our_layers = ours(session, built)
    subjects = {
        "first": "the image on its base",
        "other-order": "the same packages in another order",
        "leaf": f"after a change of the leaf {session.example.leaf}",
        "middle": f"after a change of {session.example.middle}",
    }
    rows = []
    for name, subject in subjects.items():
        rows.append(Row("dockerfile", subject, our_seconds[name], "a Dockerfile's", their_seconds[name]))
    for name, subject in list(subjects.items())[1:]:
        values = []
        for layers in (our_layers, their_layers):
            values.append(sum(size for digest, size in layers[name].items() if digest not in layers["first"]))
        rows.append(Row("dockerfile", f"{subject}: new layers", values[0], "a Dockerfile's", values[1], "B"))
    first = [sum(layers["first"].values()) for layers in (our_layers, their_layers)]
    rows.append(Row("dockerfile", "layers of the first", first[0], "a Dockerfile's", first[1], "B"))
    return rows
