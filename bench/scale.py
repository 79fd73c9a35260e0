"""100 images of 50 layers: 40 packages that all have and 7 of each image's own, on one base; generated and small.

Built 25, then 25 more, then 50 more by one pantsd with one set of caches, so that time, memory and bytes show how they
grow. dist/ is emptied in between. Baselines: per image the first 25; pantsd's memory after the first 25; for bytes what
the images would take if they shared nothing (the sum of their compressed sizes).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Iterable, List, Mapping, Sequence, Tuple

from bench.figures import Row
from bench.session import Session, caches_of, disk_use, say, timed
from tests.support.checkout import CommandFailed, Pants
from tests.support.layouts import Layout

COMMON, OWN = 40, 7

_LOCK_HEAD = """[metadata]
lock_version = 1
kind = "opam"
resolve = "bench"
base = "//3rdparty/debian:{base}"
requirements = [{requirements}]
constraints = []
"""

_PACKAGE = """
[[package]]
name = "{name}"
version = "1"
depends = [{depends}]
post_depends = []
depexts = []
debs = []
opam = '''
opam-version: "2.0"
install: [["sh" "-c" "echo {name} > %{{lib}}%/{name}.txt; seq 20000 >> %{{lib}}%/{name}.txt"]]
'''
"""


def packages_of(image: int) -> List[str]:
    return [f"common-{n}" for n in range(COMMON)] + [f"own-{image}-{n}" for n in range(OWN)]


def generate(root: Path, base: str, images: int) -> None:
    """A resolve `bench` and its images, in a clone."""
    graph: List[Tuple[str, List[str]]] = [("common-0", [])]
    graph += [(f"common-{n}", ["common-0"]) for n in range(1, COMMON)]
    for image in range(images):
        graph += [(f"own-{image}-{n}", ["common-0", f"common-{n + 1}"]) for n in range(OWN)]
    write_project(root, base, graph, {f"i{image}": packages_of(image) for image in range(images)})


def write_project(
    root: Path, base: str, graph: Iterable[Tuple[str, List[str]]], images: Mapping[str, Sequence[str]]
) -> None:
    """In a clone: a resolve `bench` of small packages, each with its dependencies, and images of some of them, by name."""
    packages = sorted(graph)
    quoted = ", ".join(f'"{name}"' for name, _ in packages)
    text = _LOCK_HEAD.format(base=base, requirements=quoted)
    for name, depends in packages:
        text += _PACKAGE.format(name=name, depends=", ".join(f'"{depend}"' for depend in depends))
    directory = root / "bench/generated"
    directory.mkdir(parents=True)
    (directory / "bench.lock").write_text(text)
    lines = [
        f'opam_requirement(name="all", resolve="bench", requirements=[{quoted}])\n',
        'opam_packages(name="bench", resolve="bench")\n',
    ]
    for image, names in images.items():
        listed = ", ".join(f'":bench#{name}"' for name in names)
        lines.append(f'oci_package_image(name="{image}", packages=[{listed}])\n')
    (directory / "BUILD").write_text("".join(lines))
    config = root / "pants.toml"
    settings = config.read_text()
    settings = settings.replace("[opam.resolves]\n", '[opam.resolves]\nbench = "bench/generated/bench.lock"\n')
    target = f'[opam.resolves_to_base]\nbench = "//3rdparty/debian:{base}"\n'
    config.write_text(settings.replace("[opam.resolves_to_base]\n", target))


def peak_memory(pants: Pants) -> int:
    """Of pantsd so far, in bytes of resident memory."""
    [pid] = pants.daemons()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def run(session: Session) -> List[Row]:
    total = session.images
    steps = [max(1, total // 4), max(2, total // 2), total]
    pants = session.checkout("scale")
    generate(pants.root, session.example.base, total)
    say("the base ...")
    pants.run("package", "//bench:ground")
    size = disk_use(pants.root / "dist/bench/ground")
    if shutil.disk_usage(session.work).free < 2 * size * (total - steps[1]):
        raise CommandFailed(f"{session.work} has no room for {total - steps[1]} images of {size} bytes each in dist/")
    empty = disk_use(*caches_of(pants))
    done, shared_nothing, layers = 0, 0, 0
    seconds, memory, used = [], [], []
    for step in steps:
        say(f"images {done + 1} to {step} ...")
        addresses = [f"bench/generated:i{image}" for image in range(done, step)]
        seconds.append(timed(lambda a=addresses: pants.run("package", *a)) / len(addresses))  # type: ignore[misc]
        memory.append(peak_memory(pants))
        used.append(disk_use(*caches_of(pants)) - empty)
        for image in range(done, step):
            layout = Layout(pants.root / f"dist/bench.generated/i{image}")
            layers = len(layout.layers)
            shared_nothing += sum(layer["size"] for layer in layout.layers)
        shutil.rmtree(pants.root / "dist/bench.generated")
        done = step
    again = [f"bench/generated:i{image}" for image in range(steps[0])]
    warm = timed(lambda: pants.run("package", *again)) / len(again)
    details = {"images": steps, "seconds_per_image": seconds, "pantsd_peak": memory, "bytes": used, "layers": layers}
    what = f"{layers} layers each"
    first = f"each of images 1-{steps[0]}"
    return [
        Row(
            "scale", f"each of images {steps[0] + 1}-{steps[1]}, {what}", seconds[1], first, seconds[0], details=details
        ),
        Row(
            "scale", f"each of images {steps[1] + 1}-{steps[2]}, {what}", seconds[2], first, seconds[0], details=details
        ),
        Row("scale", f"each of images 1-{steps[0]} written again", warm, first, seconds[0]),
        Row("scale", f"pantsd's peak after {steps[2]} images", memory[2], f"after {steps[0]}", memory[0], "B"),
        Row("scale", f"Pants' caches for {steps[2]} images", used[2], f"for {steps[0]}", used[0], "B"),
        Row("scale", f"Pants' caches for {steps[2]} images", used[2], "sharing nothing", shared_nothing, "B"),
    ]
