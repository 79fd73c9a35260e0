"""What the longest way through a build waits for cores: generated packages on a base that is in place, with pantsd.

`start` is below all. `large` stands on it and on `small`, which installs nothing, and takes as long as four of the twelve other
packages that stand on `start`; `last` stands on `large`. So the longest way is start, small, large, last. Waiting is what a
package of that way stands still after those below it were built. All of them sleep, so that it does not matter how many run at
once. Their sources are in Pants' store.

`large` is ready as soon as others are, but for `small`: it is to be first. `last` is ready when others have been asked for, which
nobody can take back: it waits for those.

Baselines, of the same trace: the time that the way's builds ran; the least that all builds could take, all slots used.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any, Dict, List, Tuple

from bench.figures import Row
from bench.session import Session, say, timed
from tests.support.checkout import Pants, make_clone

OTHERS, SHORT, LONG = 12, 2, 8
_WAY = ("start", "small", "large", "last")
_PREFIX = "Build opam package "


def packages() -> Dict[str, Tuple[List[str], int, int]]:
    """By name: what it stands on, how long it sleeps (s), the bytes of its source."""
    found = {
        "start": ([], 1, 0),
        "small": (["start"], 0, 0),
        "large": (["small", "start"], LONG, 400_000),
        "last": (["large"], 1, 0),
    }
    found.update({f"other{number:02}": (["start"], SHORT, 100_000) for number in range(OTHERS)})
    return found


def lockfile(base: str, sources: Path, nonce: str, round: int) -> str:
    """Of the resolve `orderN`, N a `round`, which makes other packages of the same sources. `nonce` makes other sources."""
    graph = packages()
    text = (
        f'[metadata]\nlock_version = 1\nkind = "opam"\nresolve = "order{round}"\nbase = "//3rdparty/debian:{base}"\n'
        f"requirements = {json.dumps(sorted(graph))}\nconstraints = []\n"
    )
    for name, (depends, seconds, size) in sorted(graph.items()):
        opam = f'opam-version: "2.0"\nbuild: [["sleep" "{seconds}"] ["true" "{nonce}{round}"]]\n'
        text += (
            f'\n[[package]]\nname = "{name}"\nversion = "1"\ndepends = {json.dumps(depends)}\npost_depends = []\ndepexts = []\n'
            f"debs = []\nopam = {json.dumps(opam)}\n"
        )
        if size:
            content = random.Random(name + nonce).getrandbits(8 * size).to_bytes(size, "big")
            sha256 = hashlib.sha256(content).hexdigest()
            target = sources / "sha256" / sha256[:2] / sha256
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            text += f'[[package.source]]\nname = "data"\nurls = ["https://localhost/data"]\nsha256 = "{sha256}"\nsize = {size}\n'
    return text


def add_targets(root: Path, base: str, sources: Path) -> None:
    """Two resolves and their images, in a clone."""
    nonce, names = os.urandom(8).hex(), sorted(packages())
    (root / "order").mkdir()
    text, settings = "", (root / "pants.toml").read_text()
    for round in range(2):
        resolve = f"order{round}"
        (root / f"order/{resolve}.lock").write_text(lockfile(base, sources, nonce, round))
        listed = ", ".join(f'":{resolve}#{name}"' for name in names)
        text += (
            f'opam_requirement(name="all{round}", resolve="{resolve}", requirements={names!r})\n'
            f'opam_packages(name="{resolve}", resolve="{resolve}")\n'
            f'oci_package_image(name="image{round}", packages=[{listed}])\n'
        )
        for table, value in (("resolves", f"order/{resolve}.lock"), ("resolves_to_base", f"//3rdparty/debian:{base}")):
            settings = settings.replace(f"[opam.{table}]\n", f'[opam.{table}]\n{resolve} = "{value}"\n')
    (root / "order/BUILD").write_text(text)
    (root / "pants.toml").write_text(settings)


def builds(trace: Dict[str, Any]) -> Dict[str, Tuple[float, float]]:
    """When each package's process started and ended, in seconds of the trace."""
    return {
        event["name"][len(_PREFIX) :].rpartition(".")[0]: (event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6)
        for event in trace["traceEvents"]
        if event["ph"] == "X" and event["cat"] == "process" and event["name"].startswith(_PREFIX)
    }


def waits(
    found: Dict[str, Tuple[float, float]], depends: Dict[str, List[str]], way: Tuple[str, ...]
) -> Dict[str, float]:
    """How long each package of a way waited after the last of those below it was built; the first one not at all."""
    ends = {name: max((found[one][1] for one in depends[name]), default=found[name][0]) for name in way}
    return {name: max(0.0, found[name][0] - ends[name]) for name in way}


def run(session: Session) -> List[Row]:
    built, example = session.built(), session.example
    top = session.directory("order")
    root = make_clone(top / "main")
    sources, trace = top / "sources", top / "trace.json"
    add_targets(root, example.base, sources)
    pants = Pants(root, caches=built.pants.caches, options=[f"--opam-archive-mirrors=['file://{sources}']"])
    try:
        for round in range(2):  # the first fetches the sources
            say(f"building {len(packages())} generated packages ...")
            seconds = timed(lambda: pants.run(f"--opam-trace-file={trace}", "package", f"order:image{round}"))  # noqa: B023
        events = json.loads(trace.read_text())
    finally:
        pants.stop()
    found = builds(events)
    depends = {name: below for name, (below, _, _) in packages().items()}
    waited = waits(found, depends, _WAY)
    ran = sum(found[name][1] - found[name][0] for name in _WAY)
    slots = len(os.sched_getaffinity(0))
    least = max(ran, sum(end - start for start, end in found.values()) / slots)
    whole = max(end for _, end in found.values()) - min(start for start, _ in found.values())
    at_once = waited["small"] + waited["large"]
    details = {"waits": waited, "seconds": seconds, "builds": found}
    return [
        Row("order", "waiting of what is ready at once", at_once, "the way's builds", ran, goal=0.05, details=details),
        Row(
            "order",
            "waiting behind what was asked for before",
            waited["last"],
            "the way's builds",
            ran,
            details=details,
        ),
        Row(
            "order",
            f"{len(found)} builds, first to last",
            whole,
            "the least that they can take",
            least,
            details=details,
        ),
    ]
