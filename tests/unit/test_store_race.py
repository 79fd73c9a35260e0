"""Builds and prunes at the same time: some processes mount layers and read them, others take away whatever they can, and any may
be killed. No process fails but by a kill, and none reads anything wrong."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Callable, Dict, List

from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import FORMAT, Store
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.stack import Stack
from opam_sandbox.store.kinds import KINDS
from opam_sandbox.store.pruning import Limits, prune
from tests.unit.conftest import make_layer, make_tar, member, need_namespaces

ROOTLESS = os.geteuid() != 0
KIND = "user" if ROOTLESS else "root"
_LAYERS, _FILES, _SECONDS = 6, 12, 6.0


def new_layer(tmp_path: Path, number: int) -> Layer:
    ids = {"uid": os.getuid(), "gid": os.getgid()}
    entries = [member(f"{number}-{file}", content=b"%d %d" % (number, file) * 500, **ids) for file in range(_FILES)]
    return make_layer(tmp_path / f"layer{number}", make_tar(entries))


def use(top: Path, scratch: Path, layers: List[Layer]) -> int:
    """One process of a build: get, mount, read all slowly, twice. Returns 0, or 1 where anything is not as it should be."""

    def inside() -> int:
        store = Store(top, ROOTLESS)
        with store.scratch(scratch, mode=0o700) as directory:
            stack = Stack([store.get(layer) for layer in layers], directory, ROOTLESS)
            stack.mount()
            for _ in range(2):
                found: Dict[str, bytes] = {}
                for name in sorted(os.listdir(stack.root)):
                    found[name] = (stack.root / name).read_bytes()
                numbers = sorted(int(layer.directory.name[len("layer") :]) for layer in layers)
                expected = {f"{n}-{f}": b"%d %d" % (n, f) * 500 for n in numbers for f in range(_FILES)}
                if found != expected:
                    print(f"wrong: {sorted(set(expected) ^ set(found))[:5]}", file=sys.stderr)
                    return 1
                time.sleep(0.01)
            stack.remove()
        return 0

    return run_isolated(inside)


def prune_all(top: Path) -> int:
    """Take away whatever nobody uses, again and again."""
    for _ in range(20):
        prune(Store(top, ROOTLESS), KINDS, Limits(days=0, max_size=0), time.time() + 10, dry_run=False)
    return 0


def start(work: Callable[[], int], log: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        with open(log, "a") as out:
            os.dup2(out.fileno(), 2)
            try:
                code = work()
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def test_builds_and_prunes_that_are_killed(tmp_path: Path) -> None:
    need_namespaces()
    chance = random.Random(1)
    top, log = tmp_path / "store", tmp_path / "log"
    layers = [new_layer(tmp_path, number) for number in range(_LAYERS)]
    running: Dict[int, str] = {}
    ended = {"use": 0, "prune": 0, "killed": 0}
    killed = set()
    end = time.monotonic() + _SECONDS
    number = 0
    while time.monotonic() < end or running:
        while time.monotonic() < end and len(running) < 6:
            number += 1
            if list(running.values()).count("prune") < 2:
                running[start(lambda: prune_all(top), log)] = "prune"
            else:
                some = chance.sample(layers, 3)
                place = tmp_path / f"scratch{number}"
                running[start(lambda some=some, place=place: use(top, place, some), log)] = "use"  # type: ignore[misc]
        if chance.random() < 0.01:
            victim = chance.choice(sorted(running))
            killed.add(victim)
            try:
                os.killpg(victim, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(victim, signal.SIGKILL)  # it has no group yet
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(0.002)
            continue
        kind = running.pop(pid)
        if pid in killed:
            ended["killed"] += 1
            continue
        ended[kind] += 1
        assert status == 0, f"a process that should {kind} ended with {status}:\n{log.read_text()}"
    assert "wrong" not in log.read_text() and "damaged" not in log.read_text()
    assert ended["use"] >= 5 and ended["prune"] >= 1 and ended["killed"] >= 1, ended
    # What the killed ones left goes with the next one, and nothing else is there.
    prune_all(top)
    own = top / FORMAT / KIND
    left = {name: os.listdir(own / name) for name in ("layers", "gone", "tmp", "scratch")}
    # What looks at the disk has no record: it goes when it is an hour old.
    left["tmp"] = [name for name in left["tmp"] if not name.startswith("file-system.")]
    assert left == {"layers": [], "gone": [], "tmp": [], "scratch": []}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("scratch")]
    print(ended, file=sys.stderr)
