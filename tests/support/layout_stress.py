"""Many writers of one layout directory, and writers that are killed: what tests and bench/shared_layout.py run.

Writers are forked, not started: they are inside the code that matters within a millisecond, and so are the kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Set

from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout
from tests.support.small_images import numbered_image


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child; its exit status is 0 if it returns. Returns the pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def make_images(directory: Path, count: int, size: int) -> List[Path]:
    """Images that share three layers of `size` bytes and have one of their own."""
    images = [directory / str(number) for number in range(count)]
    for number, image in enumerate(images):
        numbered_image(image, number, size=size)
    return images


def concurrent_round(layout: Path, images: List[Path], writers: int) -> int:
    """Every image once, `writers` at a time; returns the entries that the index has then."""

    def write(number: int) -> None:
        for index in range(number, len(images), writers):
            SharedLayout(layout).add(images[index], [f"image-{index}:latest"])

    pids = [fork(lambda: write(number)) for number in range(writers)]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses == [0] * writers, statuses
    assert problems(layout) == []
    return len(SharedLayout(layout).names())


def check_with_others(layout: Path, names: List[str]) -> None:
    """skopeo and umoci read the index and these images."""
    subprocess.run(["umoci", "ls", "--layout", str(layout)], check=True, stdout=subprocess.DEVNULL)
    for name in names:
        command = ["skopeo", "inspect", f"oci:{layout}:{name}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        assert json.loads(done.stdout)["Digest"] == SharedLayout(layout).names()[name]
        subprocess.run(
            ["umoci", "stat", "--json", "--image", f"{layout}:{name}"], check=True, stdout=subprocess.DEVNULL
        )


@dataclass
class Killing:
    """Publishers of one layout, of which some are killed; figures at the end."""

    layout: Path
    images: List[Path]
    seed: int
    publishers: int = 20
    kills: int = 0
    published: Set[str] = field(default_factory=set)
    killed_but_there: int = 0
    collections: int = 0
    seconds: float = 0.0

    def run(self, kills: int) -> None:
        start = time.monotonic()
        chance = random.Random(self.seed)
        running: Dict[int, str] = {}
        killed: List[str] = []
        number = 0
        lengths = [0.05]
        began: Dict[int, float] = {}
        SharedLayout(self.layout).add(self.images[0], ["first:latest"])
        self.published.add("first:latest")
        while self.kills < kills:
            while len(running) < self.publishers:
                number += 1
                # One in ten collects, beside all the others.
                name = "" if number % 10 == 0 else f"tag:{number}"
                image = self.images[number % len(self.images)]
                pid = fork(lambda: self._work(name, image))
                running[pid], began[pid] = name, time.monotonic()
            time.sleep(chance.uniform(0, 2 * sorted(lengths)[len(lengths) // 2] / self.publishers))
            for pid in list(running):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    # waitpid's status is gone with it: who ended by himself said so by his file.
                    lengths.append(time.monotonic() - began[pid])
                    self._ended(running.pop(pid))
            if running and chance.random() < 0.5:
                pid = chance.choice(list(running))
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                name = running.pop(pid)
                if os.WIFSIGNALED(status):
                    self.kills += 1
                    if name:
                        killed.append(name)
                    self._check(sample=chance.sample(sorted(self.published), 1))
                else:
                    self._ended(name)
        for pid, name in running.items():
            os.waitpid(pid, 0)
            self._ended(name)
        self._check(sample=[])
        names = SharedLayout(self.layout).names()
        self.killed_but_there = sum(name in names for name in killed)
        assert set(names) == self.published | {name for name in killed if name in names}
        # Nothing of the dead stays: neither their staging directories nor their blobs.
        SharedLayout(self.layout).collect()
        assert list((self.layout / ".opam-oci" / "tmp").iterdir()) == []
        check_with_others(self.layout, sorted(names)[:: max(1, len(names) // 20)])
        self._check(sample=[])
        self.seconds = time.monotonic() - start

    def _work(self, name: str, image: Path) -> None:
        if not name:
            SharedLayout(self.layout).collect()
            return
        SharedLayout(self.layout).add(image, [name])
        (self._reports / name.replace("/", "_")).touch()

    @property
    def _reports(self) -> Path:
        directory = self.layout.parent / "reports"
        directory.mkdir(exist_ok=True)
        return directory

    def _ended(self, name: str) -> None:
        if name:
            assert (self._reports / name).exists(), f"the publisher of {name} failed"
            self.published.add(name)
        else:
            self.collections += 1

    def _check(self, sample: List[str]) -> None:
        # In this order: what is published while the check runs is in a later index.
        reported = {path.name for path in self._reports.iterdir()} | self.published
        assert problems(self.layout) == []
        lost = reported - set(SharedLayout(self.layout).names())
        assert not lost, f"lost: {sorted(lost)}"
        if sample:
            check_with_others(self.layout, sample)
