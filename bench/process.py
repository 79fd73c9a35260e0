"""Where a small package's process spends its time: one that installs nothing, over 40 dependency layers, by its parts.

The sandbox tool is a process of its own here, without Pants, started as Pants does it and with the files that Pants gives it;
all layers are unpacked, and its bytecode is kept. Baseline: `opam install` of the same package in a chroot that holds the same
base and the same 40 dependencies as plain files, with no overlay and no capture. Both are taken in turn.

Each part is a row, to the same baseline. The start's parts are measured in a process of their own, so the parts add up to the
first row but for what differs from run to run. A row in CPU time (user and system, of the process and all that it started) says
what is left of that when the machine is busy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

from bench.bare import BareRoot
from bench.figures import Row
from bench.session import Session, median, say
from opam_oci.sandbox.tool import files_of_part, package_files, read_parts
from tests.support.checkout import tool
from tests.support.layouts import layer_directories

DEPENDENCIES = 40
# Times of opam's own in a chroot.
GOAL = 2.5

_PYTHON = ("python3", "-sSEB")
# Steps of timings.json, in the order of a build.
_STEPS = (
    ("find layers, mount the view", ("unpack", "mount")),
    ("opam's records, before and after", ("state",)),
    ("opam, confined", ("opam",)),
    ("capture and compress", ("unmount", "capture")),
    ("write into the store", ("keep",)),
    ("remove the view", ("clean",)),
)


def opam_file(name: str, empty: bool = False) -> str:
    """Of a package that installs one small file, or nothing."""
    what = "" if empty else f'install: [["sh" "-c" "echo {name} > %{{lib}}%/{name}.txt"]]\n'
    return f'opam-version: "2.0"\n{what}'


def process_tool(target: Path) -> Path:
    """The directory `__tool` of a process that builds packages, as the backend makes it."""
    files = package_files("opam_sandbox")
    parts = read_parts(next(file.content for file in files if file.path == "opam_sandbox/parts.json"))
    [building] = [part for part in parts if "build" in part.commands]
    for file in (*files_of_part(files, building), *package_files("filelock")):
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    return target


def build(program: Path, work: Path, layers: Sequence[Path], name: str, store: Path, empty: bool = False) -> float:
    """Build the package of `opam_file` with the tool (see `process_tool`) in an empty directory; returns the wall time of the
    process."""
    return _measured(prepare(program, work, layers, name, store, empty))[0]


def prepare(
    program: Path, work: Path, layers: Sequence[Path], name: str, store: Path, empty: bool = False
) -> Callable[[], object]:
    """Make the directory of a process that builds the package; returns what runs it."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "in").mkdir(parents=True)
    (work / "store").symlink_to(store)
    (work / "__tool").symlink_to(program)
    for number, layer in enumerate(layers):
        (work / "in" / str(number)).symlink_to(layer)
    request = {
        "store": "store",
        "layers": [f"in/{number}" for number in range(len(layers))],
        "package": {
            "name": name,
            "version": "1",
            "opam": opam_file(name, empty),
            "files": [] if empty else [{"path": "readme", "content": base64.b64encode(b"x").decode()}],
            "sources": [],
            "debs": [],
        },
        "with_test": False,
    }
    text = json.dumps(request).encode()
    (work / "request.json").write_bytes(text)
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    argv = [*_PYTHON, "__tool", "build", "request.json", "--sha256", hashlib.sha256(text).hexdigest()]
    return lambda: subprocess.run(argv, cwd=work, env=env, check=True)


def _measured(work: Callable[[], object]) -> Tuple[float, float]:
    """Seconds of wall time and of CPU time, of what runs in processes of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@dataclass
class Ground:
    """What both sides of a comparison stand on: the tool with its store and 40 layers on an image's base, and a chroot with the
    same files, in which opam knows `names`."""

    program: Path
    store: Path
    layers: List[Path]
    bare: BareRoot


def make_ground(session: Session, top: Path, names: Sequence[str], empty: bool = False) -> Ground:
    """In the directory `top`. empty: the packages `names` install nothing."""
    layout = session.built().layout
    store, program = top / "store", process_tool(top / "tool")
    store.mkdir()
    layers = layer_directories(layout, top)
    say(f"{DEPENDENCIES} layers ...")
    for number in range(DEPENDENCIES):
        build(program, top / f"dep{number}", layers[:2], f"dep{number}", store)
        layers.append(top / f"dep{number}")
    bare = BareRoot(top / "bare", layout)
    for layer in layers[2:]:
        tool("tar", "-xzf", str(next((layer / "blobs/sha256").iterdir())), "-C", str(bare.root))
    installed = " ".join(f'"dep{number}.1"' for number in range(DEPENDENCIES))
    (bare.root / "home/opam/.opam/default/.opam-switch/switch-state").write_text(
        f'opam-version: "2.0"\ncompiler: []\nroots: []\ninstalled: [{installed}]\n'
    )
    for name in names:
        directory = bare.root / "home/opam/opam-repository/packages" / name / f"{name}.1"
        directory.mkdir(parents=True)
        (directory / "opam").write_text(opam_file(name, empty))
    bare.run("chown", "-R", "1000:1000", "/home/opam", user="0:0")
    bare.run("opam", "update", "default")
    return Ground(program, store, layers, bare)


def run(session: Session) -> List[Row]:
    top = session.directory("process")
    names = [f"nothing{number}" for number in range(session.repeat + 2)]
    ground = make_ground(session, top, names, empty=True)
    work = top / "nothing"

    def ours() -> Callable[[], object]:
        return prepare(ground.program, work, ground.layers, "nothing", ground.store, empty=True)

    ours()()
    whole, bare = [], []
    parts: Dict[str, List[float]] = {}
    for name in names:
        whole.append(_measured(ours()))
        bare.append(_measured(lambda name=name: ground.bare.install(f"{name}.1")))  # type: ignore[misc]
        for part, seconds in _parts(work, whole[-1][0]):
            parts.setdefault(part, []).append(seconds)
    shutil.rmtree(top)
    wall, cpu = ([sample[place] for sample in whole] for place in (0, 1))
    baseline, baseline_cpu = ([sample[place] for sample in bare] for place in (0, 1))
    subject, other = f"an empty package over {DEPENDENCIES} layers", "opam install in a chroot"
    details = {"samples": wall, "baseline_samples": baseline}
    rows = [
        Row("process", f"{subject}, whole process", median(wall), other, median(baseline), goal=GOAL, details=details),
        Row("process", f"{subject}, CPU time", median(cpu), f"{other}, CPU time", median(baseline_cpu)),
    ]
    return rows + [
        Row("process", f"of it: {part}", median(samples), other, median(baseline)) for part, samples in parts.items()
    ]


def _parts(work: Path, whole: float) -> List[Tuple[str, float]]:
    """Seconds of each part of a process that has just run in `work` and took `whole`."""
    script = str(Path(__file__).with_name("process_start.py"))
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    argv = [*_PYTHON, script, str(time.monotonic())]
    start = json.loads(subprocess.run(argv, cwd=work, env=env, stdout=subprocess.PIPE, check=True).stdout)
    steps = json.loads((work / "timings.json").read_text())
    found = [*start.items(), *((name, sum(steps.get(step, 0.0) for step in which)) for name, which in _STEPS)]
    return [*found, ("namespaces, waits, the rest", whole - sum(seconds for _, seconds in found))]
