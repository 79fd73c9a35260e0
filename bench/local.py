"""A project of this repository: its tests when nothing has changed, and when a source file has.

The project has a library and a test, built by dune on Debian's OCaml. Baselines: for a run in which nothing has changed, `./pants
--version` by the same pantsd, the client's bare round trip; and one second. For a changed source file, what the run takes of
processor time (pantsd's own, and that of all processes that have ended), to `dune build` of the same targets alone: of a copy of
the sources without `_build`, in a chroot over the same layers, as the same user and with as many jobs. The goal is 0.3 s more.
The processor time of the same run without a change is measured, too. All are taken in turn.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

from bench.bare import ENVIRONMENT
from bench.figures import Row
from bench.scratch_project import ROOT, ScratchProject
from bench.session import Session, cores, median, say
from tests.support.checkout import CommandFailed, tool
from tests.support.layouts import Layout

GOAL = 0.3
_IMAGE = "ground"
_NAME = "greeting"
_SOURCE = f"src/{_NAME}/lib/greeting.ml"
_TICK = os.sysconf("SC_CLK_TCK")
_TARGETS = ["-p", _NAME, "@install", "@runtest"]
_FILES = {
    f"src/{_NAME}/BUILD": "opam_project()\n",
    f"src/{_NAME}/dune-project": "(lang dune 3.0)\n",
    f"src/{_NAME}/{_NAME}.opam": 'opam-version: "2.0"\nsynopsis: "Greets"\nmaintainer: "me@example.org"\n'
    'depends: ["ocaml" "dune" {>= "3.0"}]\n'
    'build: ["dune" "build" "-p" name "-j" jobs "@install" "@runtest" {with-test}]\n',
    f"src/{_NAME}/lib/dune": f"(library (name {_NAME}) (public_name {_NAME}))\n",
    f"src/{_NAME}/test/dune": f"(test (name test) (package {_NAME}) (libraries {_NAME}))\n",
    f"src/{_NAME}/test/test.ml": 'let () = assert (Greeting.of_name "x" = "Hello, x!")\n',
    "3rdparty/opam/BUILD": 'opam_packages(name="default")\n'
    'opam_requirement(name="roots", requirements=["ocaml-system"], constraints=["dune=3.17.2"])\n',
    "images/BUILD": f'oci_package_image(name="{_IMAGE}", packages=["3rdparty/opam:default#dune"], cmd=["true"])\n',
}
_ENTER = 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot --userspec=1000:1000 "$0" "$@"'


@dataclass
class Cost:
    """Seconds of wall time, and of processor time of everything that took part."""

    seconds: float
    cpu: float


def run(session: Session) -> List[Row]:
    top = session.directory("local")
    project = ScratchProject(top / "project", ["default"], "resolves_with_test = ['default']", base="trixie-ocaml")
    shutil.copytree(ROOT / "3rdparty/opam/overlay", project.directory / "repository")
    project.write({**_FILES, _SOURCE: _source("first")})
    caches = {} if session.reuse else {name: str(top / name) for name in ("lmdb_store", "named_caches")}
    env = {f"PANTS_{key}": caches[name] for key, name in _CACHES.items() if name in caches}
    try:
        return _measure(session, project, top, env)
    finally:
        project.stop_daemon()


_CACHES = {"LOCAL_STORE_DIR": "lmdb_store", "NAMED_CACHES_DIR": "named_caches"}


def _source(word: str) -> str:
    return f'let note = "{word}"\nlet of_name name = ignore note; "Hello, " ^ name ^ "!"\n'


def _measure(session: Session, project: ScratchProject, top: Path, env: Dict[str, str]) -> List[Row]:
    say("building dune, and what is below it ...")
    for arguments in (["generate-lockfiles"], ["package", f"images:{_IMAGE}"], ["test", "::"]):
        done = project.pants(*arguments, env=env)
        if done.status:
            raise CommandFailed(f"./pants {' '.join(arguments)} ended with {done.status}:\n{done.output[-4000:]}")
    layout = Layout(project.directory / f"dist/images/{_IMAGE}")
    store = Path(env.get("PANTS_NAMED_CACHES_DIR") or Path.home() / ".cache/pants/named_caches")
    # All but the state, which no build needs.
    trees = [_tree(store, diff_id) for diff_id in layout.config["rootfs"]["diff_ids"][:-1]]
    samples: Dict[str, List[Cost]] = {name: [] for name in ("version", "same", "changed", "dune")}
    for number in range(2 + 3 * session.repeat):
        turn = {
            "version": _pants(project, ["--version"], env),
            "same": _pants(project, ["test", "::"], env, "succeeded in"),
        }
        project.write({_SOURCE: _source(f"{time.time_ns()}")})
        time.sleep(1)  # pantsd learns of changes a moment later
        turn["changed"] = _pants(project, ["test", "::"], env, "succeeded in", "(memoized)")
        turn["dune"] = _dune(project.directory / "src", trees, top / f"dune-{number}")
        if number >= 2:
            for name, cost in turn.items():
                samples[name].append(cost)
    wall = {name: median([cost.seconds for cost in costs]) for name, costs in samples.items()}
    cpu = {name: median([cost.cpu for cost in costs]) for name, costs in samples.items()}
    details = {"samples": {name: [vars(cost) for cost in costs] for name, costs in samples.items()}}
    more = cpu["changed"] - cpu["dune"]
    say(
        f"a change costs {more:.2f} s of processor time more than dune (goal: {GOAL} s), {cpu['same']:.2f} s without one"
    )
    subject = "test of an unchanged project"
    return [
        Row("local", subject, wall["same"], "./pants --version by pantsd", wall["version"], goal=2.0, details=details),
        Row("local", subject, wall["same"], "one second", 1.0, goal=1.0, details=details),
        Row(
            *("local", "test after a change, processor time", cpu["changed"], "dune in a chroot", cpu["dune"]),
            goal=(cpu["dune"] + GOAL) / cpu["dune"],
            details=details,
        ),
        Row("local", "the same, wall time", wall["changed"], "dune in a chroot", wall["dune"], details=details),
    ]


def _tree(named_caches: Path, diff_id: str) -> Path:
    """An unpacked layer."""
    kind = "root" if os.geteuid() == 0 else "user"
    return named_caches / "opam_oci_layers" / "v4" / kind / "layers" / diff_id.split(":")[1] / "root"


def _pants(
    project: ScratchProject, arguments: List[str], env: Dict[str, str], said: str = "", unsaid: str = ""
) -> Cost:
    """A run by pantsd. Raises CommandFailed where it fails, or does not print what it should."""
    [pid] = {int(path.read_text()) for path in (project.directory / ".pids").rglob("pid")}
    before = _cpu_of(pid)
    done = project.pants(*arguments, env=env)
    if done.status or said not in done.output or (unsaid and unsaid in done.output):
        raise CommandFailed(f"./pants {' '.join(arguments)} ended with {done.status}:\n{done.output[-4000:]}")
    return Cost(done.seconds, _cpu_of(pid) - before)


def _cpu_of(pid: int) -> float:
    """Of a process, and of all below it that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[number]) for number in (11, 12, 13, 14)) / _TICK


def _dune(sources: Path, trees: List[Path], top: Path) -> Cost:
    """dune alone, of a fresh copy of the project's sources, over the layers."""
    for name in ("root", "upper", "work"):
        (top / name).mkdir(parents=True)
    home = top / "root/home/opam"
    lower = ":".join(str(tree) for tree in reversed(trees))
    tool(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work",
        str(top / "root"),
    )
    try:
        shutil.copytree(sources / _NAME, home / _NAME)
        tool("chown", "-R", "1000:1000", str(home / _NAME))
        switch = "/home/opam/.opam/default"
        env = {**ENVIRONMENT, "PATH": f"{switch}/bin:{ENVIRONMENT['PATH']}", "OPAM_SWITCH_PREFIX": switch}
        command = f"cd /home/opam/{_NAME} && exec dune build -j {cores()} {' '.join(_TARGETS)}"
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _ENTER, str(top / "root")]
        tool(*argv, "sh", "-c", command, env=env)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not (home / _NAME / f"_build/default/lib/{_NAME}.cmxa").exists():
            raise CommandFailed("dune alone has built nothing")
        return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    finally:
        tool("umount", str(top / "root"))
        shutil.rmtree(top)
