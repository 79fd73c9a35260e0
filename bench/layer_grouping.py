"""What a registry stores for the images of 1,000 real packages: one layer for each package, our groups, others' groups, flat.

    PYTHONPATH=src:pants-plugins nice $(build-support/test-python) -m bench.layer_grouping

The graph is that of a snapshot of the opam-repository (tests/support/snapshot.py says how to name one), the solutions are an
approximation that is the same on every run: of each package the newest release, of each alternative the first that there
is, without `with-test`, `with-doc`, `with-dev-setup` and optional dependencies, and without regard to version bounds. Sizes
are made up, from the package's name: lognormal around 150 kB, and 90 MB for the compiler.

Baseline of every column, in the same run: one layer for each package, without a limit, which stores every byte once.
`nixpkgs` is its rule by popularity: in each image the packages that most others of the image need are alone, the rest is one
layer. A push after a change counts the blobs that hold the changed package, over all images.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from opam_oci.images.grouping import Unit, group
from opam_oci.resolves.dependency_order import build_order
from opam_sandbox.errors import ToolError
from opam_sandbox.opam import opamfile
from tests.support.snapshot import NoSnapshotError, find_snapshot, opam_files

IMAGES = 1000
LIMITS = (122, 60, 30)  # groups of packages; 122 leaves the base, opam's root and the state of docker's 125
BASE = 194_000_000
_LEFT_OUT = {"with-test", "with-doc", "with-dev-setup"}
Groups = Sequence[Sequence[str]]


def version_key(version: str) -> List[Tuple[int, str]]:
    """Good enough to find the newest release: digits as numbers, `~` before everything."""
    return [
        (int(number) if number else -1, re.sub("~", "\0", text))
        for number, text in re.findall(r"([0-9]+)|([^0-9]+)", version)
    ]


def newest(archive: Path) -> Dict[str, str]:
    """Package -> the opam file of its newest release."""
    found: Dict[str, Tuple[List[Tuple[int, str]], str]] = {}
    for name, version, text in opam_files(archive):
        key = version_key(version)
        if name not in found or found[name][0] < key:
            found[name] = (key, text)
    return {name: text for name, (_, text) in found.items()}


def needs(value: Optional[opamfile.Value], known: Mapping[str, object]) -> Set[str]:
    if isinstance(value, opamfile.Str):
        return {value.value}
    if isinstance(value, opamfile.Option_):
        if any(_names(item) & _LEFT_OUT for item in value.filters):
            return set()
        return needs(value.value, known)
    if isinstance(value, opamfile.Binary) and value.op == "|":
        left = needs(value.left, known)
        return left if left and left <= set(known) else needs(value.right, known) or left
    if isinstance(value, opamfile.Binary):
        return needs(value.left, known) | needs(value.right, known)
    if isinstance(value, (opamfile.ListOf, opamfile.Group)):
        return {name for item in value.items for name in needs(item, known)}
    return set()


def _names(value: opamfile.Value) -> Set[str]:
    if isinstance(value, opamfile.Ident):
        return {value.name}
    if isinstance(value, opamfile.Binary):
        return _names(value.left) | _names(value.right)
    return set()


def read_graph(files: Mapping[str, str]) -> Dict[str, Tuple[str, ...]]:
    graph: Dict[str, Tuple[str, ...]] = {}
    for name, text in files.items():
        try:
            items = opamfile.parse(text, name)
        except ToolError:
            continue
        depends = {d for item in items if item.name == "depends" for d in needs(item.value, files)}
        graph[name] = tuple(sorted(depends & set(files) - {name}))
    return {name: tuple(d for d in depends if d in graph) for name, depends in graph.items()}


def closure(graph: Mapping[str, Sequence[str]], root: str) -> List[str]:
    found: Set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return build_order({name: graph[name] for name in sorted(found)})


def chance(name: str, salt: str) -> float:
    return (int.from_bytes(hashlib.sha256(f"{salt} {name}".encode()).digest()[:6], "big") + 0.5) / 2**48


def size(name: str) -> int:
    if name in ("ocaml-compiler", "ocaml-base-compiler"):
        return 90_000_000 if name == "ocaml-compiler" else 2_000
    normal = math.sqrt(-2 * math.log(chance(name, "radius"))) * math.cos(2 * math.pi * chance(name, "angle"))
    return int(150_000 * math.exp(1.6 * normal))


def popularity(graph: Mapping[str, Sequence[str]], order: Sequence[str], limit: int) -> Groups:
    """nixpkgs' rule: by how many packages of the image need it, over all ways."""
    score = {name: 1 for name in order}
    for name in reversed(order):
        for other in graph[name]:
            if other in score:
                score[other] += score[name]
    ranked = sorted(order, key=lambda name: (-score[name], name))
    if len(ranked) <= limit:
        return [[name] for name in ranked]
    return [*([name] for name in ranked[: limit - 1]), sorted(ranked[limit - 1 :])]


def measure(images: Iterable[Groups], sizes: Mapping[str, int], whole: int = 0) -> Dict[str, float]:
    """Blobs and bytes stored for images, and bytes pushed again where one package changes. whole: bytes in each blob."""
    blobs = {tuple(sorted(one)) for groups in images for one in groups}
    held = {blob: sum(sizes[name] for name in blob) + whole for blob in blobs}
    pushed: Counter[str] = Counter()
    for blob, total in held.items():
        for name in blob:
            pushed[name] += total
    names = sorted(pushed)
    return {
        "blobs": len(blobs),
        "bytes": sum(held.values()),
        "push": sum(pushed[name] / sizes[name] for name in names) / len(names),
        "push_bytes": sum(pushed[name] for name in names) / len(names),
    }


def main() -> None:
    try:
        archive = find_snapshot()
    except NoSnapshotError as error:
        sys.exit(str(error))
    graph = read_graph(newest(archive))
    roots = sorted(sorted(graph), key=lambda name: chance(name, "root"))
    orders = {}
    for root in roots:
        order = closure(graph, root)
        if (
            len(order) >= 5 and "ocaml" in order
        ):  # not what stands for a Debian package, and not what a cycle leaves out
            orders[root] = order
        if len(orders) == IMAGES:
            break
    sizes = {name: size(name) for order in orders.values() for name in order}
    counts = sorted(len(order) for order in orders.values())
    print(
        f"{len(orders)} images of {len(sizes)} packages; an image has {counts[len(counts) // 2]} packages (middle), "
        f"{counts[len(counts) * 95 // 100]} (95 %), {counts[-1]} (most)"
    )
    ideal = measure(([[name] for name in order] for order in orders.values()), sizes)
    rows: List[Dict[str, Any]] = [{"limit": 0, "how": "a layer for each package", **ideal}]
    units = {
        root: [Unit(name, name, tuple(d for d in graph[name] if d in order)) for name in order]
        for root, order in ((root, list(order)) for root, order in orders.items())
    }
    for limit in LIMITS:
        grouped = group(units, dict.fromkeys(units, limit))
        alone = {root: group({root: units[root]}, {root: limit})[root] for root in units}
        popular = [popularity(graph, order, limit) for order in orders.values()]
        over = sum(len(order) > limit for order in orders.values())
        rows.append(
            {"limit": limit, "how": f"ours, all in one layout ({over} over)", **measure(grouped.values(), sizes)}
        )
        rows.append({"limit": limit, "how": "ours, each image by itself", **measure(alone.values(), sizes)})
        rows.append({"limit": limit, "how": "nixpkgs' popularity", **measure(popular, sizes)})
    flat = measure(([order] for order in orders.values()), sizes, whole=BASE)
    rows.append({"limit": 1, "how": "flat, the base in each", **flat})
    print(
        f"{'layers of packages':>18}  {'how':36} {'blobs':>7} {'MB':>10} {'of ideal':>9} {'pushed by a change, MB':>23}"
    )
    for row in rows:
        print(
            f"{row['limit'] or 'no limit':>18}  {row['how']:36} {row['blobs']:>7} {row['bytes'] / 1e6:>10.0f} "
            f"{row['bytes'] / ideal['bytes']:>9.3f} {row['push_bytes'] / 1e6:>23.3f}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
