"""An OCI image layout out of layers that are built.

Ours, twice: what a user waits for (blobs were captured and compressed when the packages were built, so only the state
layer, the manifest and the layout are left: `package` of an image of the same packages with other roots); and the whole
way from the unpacked trees, as if no blob were there.

Baselines, over the same unpacked trees, all of them read once before:

- for one layer after the other `tar` to a file, `sha256sum` of it, `gzip`, `sha256sum` of that, on one core;
- `umoci insert` of each tree into an image;
- `buildah`: from, add, commit for each tree, then a push into an OCI layout.

The processor time of each is measured too: other work on the machine changes it less than wall time.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from bench.figures import Row
from bench.session import Session, counters, median, say, timed, wait_for_target
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.compress import PackedWriter
from opam_sandbox.layer.walk_tree import Rules
from tests.support.checkout import CommandFailed, tool

ONE_CORE = ["taskset", "--cpu-list", "0"]


def sequential(trees: Sequence[Path], work: Path) -> None:
    for number, tree in enumerate(trees):
        tar = work / f"{number}.tar"
        tool(*ONE_CORE, "tar", "--sort=name", "--numeric-owner", "-cf", str(tar), "-C", str(tree), ".")
        tool(*ONE_CORE, "sha256sum", str(tar))
        tool(*ONE_CORE, "gzip", "-n", str(tar))
        tool(*ONE_CORE, "sha256sum", f"{tar}.gz")


def captured(trees: Sequence[Path], work: Path) -> List[str]:
    """Capture and compress each tree as the tool does. Returns the blobs' digests."""
    digests = []
    rules = Rules(skip=lambda path, directory: False, owner=lambda path, status: (status.st_uid, status.st_gid))
    for number, tree in enumerate(trees):
        with open(work / f"{number}.tar.gz", "wb") as out:
            writer = PackedWriter(out, trees[0])
            capture(tree, rules, writer)
            digests.append(f"sha256:{writer.close().digest}")
    return digests


def umoci(trees: Sequence[Path], work: Path) -> None:
    layout = work / "layout"
    tool("umoci", "init", "--layout", str(layout))
    tool("umoci", "new", "--image", f"{layout}:latest")
    for tree in trees:
        tool("umoci", "insert", "--image", f"{layout}:latest", str(tree), "/")


def buildah(trees: Sequence[Path], work: Path) -> None:
    argv = ["buildah", "--root", str(work / "s"), "--runroot", str(work / "r"), "--storage-driver", "overlay"]
    image = "scratch"
    try:
        for number, tree in enumerate(trees):
            container = tool(*argv, "from", "--pull-never", image).stdout.strip()
            tool(*argv, "add", "--quiet", container, str(tree), "/")
            image = tool(*argv, "commit", "--quiet", "--rm", container, f"localhost/layer:{number}").stdout.strip()
        tool(*argv, "push", "--quiet", image, f"oci:{work / 'layout'}:latest")
    finally:
        tool(*argv, "rm", "--all", check=False)
        tool(*argv, "rmi", "--all", "--force", check=False)


def ours_of_built(session: Session) -> Tuple[List[float], int]:
    """`package` of images with the same layers but a state layer of their own, each for the first time.

    Also returns how many processes one of them ran: two, `state` and `image`, unless these caches know the images."""
    built, example = session.built(), session.example
    names = [package.name for package in example.packages(built.pants.root) if package.name not in example.roots]
    directory = built.pants.root / "bench/export"
    directory.mkdir(parents=True, exist_ok=True)
    # Not of an earlier run with these caches: its images are known.
    word = session.work.stat().st_mtime_ns
    targets, samples = [], []
    for number, name in enumerate(names[: session.repeat]):
        packages = ", ".join(f'"3rdparty/opam:{example.resolve}#{package}"' for package in (*example.roots, name))
        targets.append(f'oci_package_image(name="i{number}", packages=[{packages}], labels={{"run": "{word}"}})\n')
    (directory / "BUILD").write_text("".join(targets))
    wait_for_target(built.pants, f"bench/export:i{len(targets) - 1}")
    processes = 0
    for number, _ in enumerate(targets):
        begin = time.perf_counter()
        done = built.pants.run("--stats-log", "package", f"bench/export:i{number}")
        samples.append(time.perf_counter() - begin)
        processes = counters(done.stderr).get("local_execution_requests", 0)
        shutil.rmtree(built.pants.root / f"dist/bench.export/i{number}")
    return samples, processes


def run(session: Session) -> List[Row]:
    built = session.built()
    trees = built.trees()
    missing = [str(tree) for tree in trees if not tree.is_dir()]
    if missing:
        raise CommandFailed(f"not unpacked here: {', '.join(missing)}")
    names = f"{len(trees)} layers"
    samples, processes = ours_of_built(session)
    ours = median(samples)
    for tree in trees:  # into the page cache, for all alike
        _read(tree)
    seconds: Dict[str, float] = {}
    processor: Dict[str, float] = {}
    digests: List[str] = []
    for name, work in (
        ("captured", lambda path: digests.extend(captured(trees, path))),
        ("sequential", lambda path: sequential(trees, path)),
        ("umoci", lambda path: umoci(trees, path)),
        ("buildah", lambda path: buildah(trees, path)),
    ):
        say(f"{name} ...")
        path = session.directory(f"x-{name}")
        before = sum(os.times()[:4])
        seconds[name] = timed(lambda w=work, p=path: w(p))  # type: ignore[misc]
        processor[name] = sum(os.times()[:4]) - before
        shutil.rmtree(path)
    same = sum(digest == layer["digest"] for digest, layer in zip(digests, built.layout.layers))
    details = {"samples": samples, "blobs_as_in_the_image": same, "processor_seconds": processor}
    whole = f"{names}, captured and compressed from trees"
    rows = [
        Row(
            "export",
            f"{names} that are built, {processes} processes",
            ours,
            "tar|sha256|gzip|sha256",
            seconds["sequential"],
            goal=0.2,
        )
    ]
    for name, label, goal in (
        ("sequential", "tar|sha256|gzip|sha256", None),
        ("umoci", "umoci insert", 0.9),
        ("buildah", "buildah add, commit, push", 0.2),
    ):
        rows.append(Row("export", whole, seconds["captured"], label, seconds[name], goal=goal, details=details))
        rows.append(Row("export", "processor time of that", processor["captured"], label, processor[name]))
    return rows


def _read(tree: Path) -> None:
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as content:
                while content.read(1 << 20):
                    pass
