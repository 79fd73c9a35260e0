"""A health check of 100, 400, 1,600 and 4,000 roots: what Pants and the backend take for each, where building takes nothing.

The roots are packages of the public repository with their real solutions (each solved on its own with OCaml 5.3.0), chosen in the
order of their names' sha256. Their packages have their own opam files, but no sources and no Debian packages. `fake_builder`,
a backend in the scratch project, has each build be a process that writes a small layer. So a first run makes a process for each
node of the lockfile and all of Pants' work around it; an unchanged second run by the same pantsd makes none.

Each size has a project, caches and a pantsd of its own. Baselines: of a first run the seconds per root, for a node of the
lockfile the seconds, pantsd's processor time and the nodes of Pants' graph, and pantsd's peak of memory, of the smallest size; of
a second run `./pants list` of one target by the same pantsd, where the goal is 0.02 s a root.

Needs a snapshot of the public repository (tests/support/snapshot.py says how to name one). What solves the roots is made for
it as in tests/sweeps/root_solutions.py, which takes some minutes; OPAM_OCI_SOLVER_GROUND names a directory in which it is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from bench.figures import Row
from bench.scratch_project import ROOT, ScratchProject
from bench.session import Session, median, say
from opam_sandbox.locking.prepared import read_prepared
from opam_sandbox.locking.root_nodes import CycleError, Described, Graph
from tests.support.checkout import CommandFailed
from tests.support.snapshot import NoSnapshotError, find_snapshot
from tests.support.solver_ground import Ground
from tests.sweeps.root_solutions import request

SIZES = (100, 400, 1600, 4000)
COMPILER = "ocaml-base-compiler.5.3.0"
GOAL = 0.02
_SOLUTIONS = "all-solutions.json"
_BASE = """[metadata]
lock_version = 1
kind = "debian"
resolve = "trixie"
suite = "trixie"
architecture = "amd64"
packages = ["opam"]
"""
_BUILD_FILES = {
    "3rdparty/debian/BUILD": 'debian_rootfs(name="trixie", suite="trixie", packages=["opam"])\n',
    "3rdparty/debian/trixie.lock": _BASE,
    "BUILD": 'opam_health_check(name="health", base="//3rdparty/debian:trixie")\n',
}


@dataclass
class Measured:
    """One size. seconds, cpu (pantsd's own), memory (its peak, bytes) and graph (nodes): of a first run; again, listed: seconds
    of unchanged runs of the check, and of `list`; nodes: of the lockfile; without: roots that have no solution."""

    roots: int
    nodes: int
    without: int
    seconds: float
    cpu: float
    memory: int
    graph: int
    again: float
    listed: float


def ground_of(session: Session) -> Ground:
    """Where the repository's packages are solved, with the answers of all of them. Raises CommandFailed."""
    ground = Ground(Path(os.environ.get("OPAM_OCI_SOLVER_GROUND") or session.work / "solver-ground"))
    ground.top.mkdir(parents=True, exist_ok=True)
    ground.make()
    archive = ground.top / "snapshot.tar.zst"
    if not archive.exists():
        archive.symlink_to(find_snapshot())
    ground.prepare_directories([{"name": "r", "path": archive.name}], "snapshot")
    if not (ground.top / _SOLUTIONS).exists():
        ground.run("locking", "lock-opam", request(["*"], COMPILER, {"solver": ground.solver}))
        (ground.top / "solutions.json").rename(ground.top / _SOLUTIONS)
    return ground


def chosen(roots: Sequence[Dict[str, Any]], count: int) -> List[Dict[str, Any]]:
    """The same for every snapshot and every size, as far as it goes."""
    return sorted(roots, key=lambda root: hashlib.sha256(root["name"].encode()).hexdigest())[:count]


def lockfile(described: Described, roots: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """The lockfile of a health check with these solutions, without sources and Debian packages."""
    graph = Graph(described)
    tables: List[Dict[str, Any]] = []
    for root in roots:
        table = {"name": root["name"], "version": root["version"], "compiler": ""}
        try:
            found = graph.add(root["name"], root["packages"], ()) if "packages" in root else None
        except CycleError:
            found = None
        tables.append({**table, "numbers": found} if found else {**table, "reason": "none"})
    names: List[str] = []
    nodes = []
    for number, node in enumerate(graph.nodes):
        fields: Dict[str, Any] = {"package": node.title, "depends": sorted(names[one] for one in node.depends)}
        later = list(graph.later(number))
        fields.update({"later": later} if later else {})
        names.append(f"{node.title}/{hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]}")
        nodes.append({"id": names[-1], **fields})
    for table in tables:
        found = table.pop("numbers", None)
        if found:
            later = sorted(names[one] for one in found.later)
            table.update({"node": names[found.node], **({"later": later} if later else {})})
    packages = [
        {"name": title.partition(".")[0], "version": title.partition(".")[2], "opam": described.facts(title).text}
        for title in sorted({node.title for node in graph.nodes})
    ]
    metadata = {"lock_version": 1, "kind": "opam-health", "resolve": "health", "base": "//3rdparty/debian:trixie"}
    nothing: Dict[str, List[str]] = {"compilers": [], "constraints": [], "options": [], "repositories": []}
    return {
        "metadata": {**metadata, **nothing, "packages": ["*"], "latest": 1},
        **{"package": packages, "deb": [], "node": nodes, "root": tables},
    }


def make_project(directory: Path, lock: Dict[str, Any]) -> ScratchProject:
    """A project with one health check, whose builds are fake."""
    project = ScratchProject(directory, ["default"], "check_host = false")
    shutil.rmtree(directory / "3rdparty/debian")
    shutil.copytree(ROOT / "bench/fake_builder", directory / "plugins/fake_builder")
    config = directory / "pants.toml"
    text = re.sub(r"(?ms)^\[opam\.repositories\].*?\n\n", "", config.read_text())
    text = text.replace('["opam_oci"]', '["opam_oci", "fake_builder"]')
    text = text.replace("pythonpath = [", f'pythonpath = ["{directory}/plugins", ')
    config.write_text(f'{text}\n[opam-health.resolves]\nhealth = "health.lock"\n')
    project.write({**_BUILD_FILES, "health.lock": json.dumps(lock, indent=1, sort_keys=True)})
    return project


def taken(project: ScratchProject) -> Tuple[float, int]:
    """Of pantsd so far: seconds of processor time, not counting processes that it ran, and its peak of resident memory."""
    [pid] = [int(path.read_text()) for path in (project.directory / ".pids").rglob("pid")]
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), int(found[1]) * 1024


def measure(session: Session, lock: Dict[str, Any]) -> Measured:
    """A first run and unchanged ones. Raises CommandFailed where a run does not build all."""
    count = len(lock["root"])
    top = session.directory(f"roots-{count}")
    project = make_project(top / "project", lock)
    env = {"PANTS_LOCAL_STORE_DIR": f"{top}/store", "PANTS_NAMED_CACHES_DIR": f"{top}/caches"}

    def run(*arguments: str) -> float:
        done = project.pants(*arguments, env=env)
        if done.status != 0:
            raise CommandFailed(f"./pants {' '.join(arguments)} ended with {done.status}:\n{done.output[-4000:]}")
        return done.seconds

    try:
        run("list", "//:health")
        before, _ = taken(project)
        seconds = run("opam-health", "//:health")
        cpu, memory = taken(project)
        graph = int((project.directory / ".pids/graph-size").read_text())
        results = json.loads((project.directory / "dist/opam-health/health/results.json").read_text())
        statuses = [root["status"] for root in results["roots"]]
        without = sum("reason" in root for root in lock["root"])
        if statuses.count("success") != count - without or statuses.count("no_solution") != without:
            raise CommandFailed(f"{count} roots: they are {sorted(set(statuses))}")
        again = median([run("opam-health", "//:health") for _ in range(min(3, session.repeat))])
        listed = median([run("list", "//:health") for _ in range(session.repeat)])
    finally:
        project.stop_daemon()
    shutil.rmtree(top)
    return Measured(count, len(lock["node"]), without, seconds, cpu - before, memory, graph, again, listed)


def run(session: Session) -> List[Row]:
    try:
        find_snapshot()
    except NoSnapshotError as error:
        raise CommandFailed(str(error)) from None
    say("solving the repository's packages ...")
    ground = ground_of(session)
    _, packages, base = read_prepared(f"{ground.top}/prepared-snapshot")
    roots = json.loads((ground.top / _SOLUTIONS).read_text())["roots"]
    described = Described(packages, {**base["variables"]})
    found: List[Measured] = []
    for size in SIZES:
        lock = lockfile(described, chosen(roots, size))
        say(f"{size} roots, {len(lock['node'])} nodes ...")
        found.append(measure(session, lock))
        say(str(found[-1]))
    return rows(found)


def rows(found: Sequence[Measured]) -> List[Row]:
    """Per root, each size to the smallest; and unchanged runs to `list`."""
    first, *more = found
    made: List[Row] = []

    def row(subject: str, value: float, baseline: str, baseline_value: float, **options: Any) -> None:
        made.append(Row("roots", subject, value, baseline, baseline_value, **options))

    for one in more:
        details = asdict(one)
        what, base = f"{one.roots} roots, {one.nodes} nodes", f"of {first.roots} ({first.nodes} nodes)"
        row(f"a root of {what}", one.seconds / one.roots, base, first.seconds / first.roots, details=details)
        row(f"a node of {what}", one.seconds / one.nodes, base, first.seconds / first.nodes)
        row(f"pantsd's processor time for a node of {what}", one.cpu / one.nodes, base, first.cpu / first.nodes)
        row(
            f"nodes of Pants' graph for a node of {what}",
            one.graph / one.nodes,
            base,
            first.graph / first.nodes,
            unit="",
        )
        row(f"pantsd's peak after {what}", one.memory, f"after {first.roots} roots", first.memory, unit="B")
    for one in found:
        row(
            f"a root of {one.roots}, run again with nothing to do",
            max(0.0, one.again - one.listed) / one.roots,
            "`./pants list` of one target",
            one.listed,
            goal=GOAL / one.listed,
            details=asdict(one),
        )
    return made
