"""Power losses at any moment: what the store of unpacked layers, a shared layout and the lock commands' cache make of them.

    PYTHONPATH=src:pants-plugins:. $(build-support/test-python) -m tests.support.power_loss --points 500

A child works on a disk whose writes are logged (`logged_disk`), and says in the log what it has been promised: that a layer
is there, that an image has a name. For each point of the log the disk is made as it was when the power went there, repaired by
fsck, mounted and used: whatever was promised is there, and nothing that is used is wrong. Needs root, FUSE and loop devices.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple
from unittest import mock

from opam_sandbox.files import remove_tree
from opam_sandbox.layer import store_check
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.cache import Memo
from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout
from tests.support import disks, logged_disk
from tests.support.power_loss_work import Blob, Inputs, Work, make_inputs

SIZE = 24 << 20
# Options of mkfs.ext4, options of mount. Names reach the journal within a second, before the content of new files.
MODES: Dict[str, Tuple[Sequence[str], str]] = {
    "default": ((), "commit=1"),
    "no journal": (("-O", "^has_journal"), "defaults"),
    "writeback": ((), "data=writeback,commit=1"),
}


class WrongAfterPowerLoss(AssertionError):
    """Something was used that is not right, or what was promised is not there."""


@dataclass
class Promised:
    """What a power loss may not take away (`layers`, `names`), and what may be seen besides."""

    layers: Set[int] = field(default_factory=set)
    spoiled: Set[int] = field(default_factory=set)  # so that only `verify` sees it
    names: Dict[str, Set[str]] = field(
        default_factory=dict
    )  # of a name all digests that it may have; "": it may be gone
    values: Dict[str, Set[str]] = field(default_factory=dict)


@dataclass
class Outcome:
    """Of many points: how many were looked at, and how many layers and names were there, or were made again."""

    points: int = 0
    layers: int = 0
    again: int = 0
    names: int = 0
    values: int = 0


def record(top: Path, mode: str, seconds: float, seed: int) -> Tuple[bytes, List[logged_disk.Record], Inputs]:
    """Work for so long on a new disk: the disk before, and what was written to it. Raises NoDiskError."""
    inputs = make_inputs(top)
    making, options = MODES[mode]
    disks.make_ext4(top / "disk", SIZE, *making)
    with logged_disk.logged(top / "disk", top / "logged", top / "log"):
        with disks.loop(top / "logged/disk", top / "mounted", options=options):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    _work(top, inputs, seconds, seed)
                    status = 0
                finally:
                    os._exit(status)
            if os.waitpid(child, 0)[1] != 0:
                raise AssertionError("the work failed, see standard error")
    return (top / "disk").read_bytes(), logged_disk.read_log(top / "log"), inputs


def _work(top: Path, inputs: Inputs, seconds: float, seed: int) -> None:
    mark = os.open(top / "logged/mark", os.O_WRONLY | os.O_CLOEXEC)

    def say(what: Dict[str, Any]) -> None:
        os.write(mark, json.dumps(what).encode() + b"\n")

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the store says what is damaged
    work = Work(top / "mounted", inputs, say, seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work.step()


# What is looked at after a power loss.


def promises(records: Sequence[logged_disk.Record]) -> Promised:
    """What was said in these records."""
    result = Promised()
    for text in (record.data for record in records if record.kind == logged_disk.MARK):
        said = json.loads(text)
        if "has" in said:
            result.layers.add(said["has"])
        elif "loses" in said:
            result.layers.discard(said["loses"])
            result.spoiled.discard(said["loses"])
        elif "spoils" in said:
            result.spoiled.add(said["spoils"])
        elif "naming" in said:
            result.names.setdefault(said["naming"], {""}).add(said["digest"])
        elif "named" in said:
            result.names[said["named"]] = {said["digest"]}
        else:
            result.values.setdefault(said["key"], set()).add(said["value"])
    return result


def check(top: Path, inputs: Inputs, promised: Promised, outcome: Outcome) -> None:
    """Use what is on the disk `top`. Raises WrongAfterPowerLoss."""
    store = Store(top / "store", False)
    for number, layer in enumerate(inputs.layers):
        there = store.path(layer.diff_id).exists()
        if number in promised.spoiled:
            store.discard(layer.diff_id)
        made_again: List[int] = []
        found = _read(_get(store, layer, made_again))
        _demand(found == inputs.files[number], f"layer {number} is wrong (it was {'there' if there else 'not there'})")
        if number in promised.layers:
            outcome.layers, outcome.again = outcome.layers + 1, outcome.again + bool(made_again)
    store.put("f" * 64, lambda target: None)  # whoever puts something there sweeps what crashes left
    _demand(all(problem == "" for _, problem in store.verify()), "a layer that was used is not whole")
    for directory in ("tmp", "scratch", "gone"):
        left = os.listdir(store._root / directory)
        _demand(left == [], f"{directory} holds {left}: {[_why(store._root / directory / name) for name in left]}")
    _check_layout(top / "layout", inputs, promised, outcome)
    memo = Memo(top / "memo")
    for key, values in promised.values.items():
        value = memo.get(key)
        _demand(value is None or value["is"] in values, f"the value of {key} is another one's")
        outcome.values += value is not None
    outcome.points += 1


def _get(store: Store, layer: Blob, made_again: List[int]) -> Path:
    real = store.put

    def put(*arguments: Any) -> Path:
        made_again.append(1)
        return real(*arguments)

    with mock.patch.object(store, "put", put):
        path = store.get(layer)
    # What was half made lies where the next one makes it.
    if any(name.startswith(path.parent.name) for name in os.listdir(store._root / "tmp")):
        store.discard(layer.diff_id)
        return store.get(layer)
    return path


def _check_layout(directory: Path, inputs: Inputs, promised: Promised, outcome: Outcome) -> None:
    layout = SharedLayout(directory)
    names = layout.names() if (directory / "oci-layout").exists() else {}
    for name, digests in promised.names.items():
        _demand(names.get(name, "") in digests, f"{name} is {names.get(name)}, and should be one of {digests}")
        outcome.names += 1
    if names:
        _demand(not problems(directory), f"the layout has problems: {problems(directory)}")
    for number, image in enumerate(inputs.images):
        layout.add(image, [f"again:{number}"])
    layout.collect()
    _demand(not problems(directory), f"the layout has problems after new images: {problems(directory)}")


def _why(path: Path) -> str:
    try:
        remove_tree(path)
    except OSError as error:
        return repr(error)
    return "it can be removed"


def _read(path: Path) -> Dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def _demand(fact: bool, text: str) -> None:
    if not fact:
        raise WrongAfterPowerLoss(text)


def lose_power(top: Path, mode: str, points: int, seconds: float, seed: int = 1) -> Outcome:
    """Work on a disk for so many seconds, and look at it after power losses at `points` moments.

    top: an empty directory. All is done in memory: waiting for a real disk is no part of this. Raises AssertionError, which
    names the moment, and NoDiskError.
    """

    def work() -> Outcome:
        with disks.memory(top, 1 << 30):
            return _lose_power(top, mode, points, seconds, seed)

    return disks.apart(work)


def _lose_power(top: Path, mode: str, points: int, seconds: float, seed: int) -> Outcome:
    image, records, inputs = record(top, mode, seconds, seed)
    chance = random.Random(seed)
    (top / "boot").write_text("another\n")
    known, store_check._BOOT_ID = store_check._BOOT_ID, top / "boot"
    outcome = Outcome()
    try:
        for point in range(points):
            end = chance.randrange(1, len(records) + 1)
            reordered = None if point % 4 == 0 else random.Random(f"{seed} {point}")
            (top / "lost").write_bytes(logged_disk.after_power_loss(image, records, end, reordered))
            disks.run("fsck.ext4", "-f", "-y", top / "lost", allowed=(0, 1, 2, 3))
            with disks.loop(top / "lost", top / "after"):
                try:
                    check(top / "after", inputs, promises(records[:end]), outcome)
                except Exception as error:
                    text = f"{mode}, seed {seed}, point {point} (record {end} of {len(records)}): {error!r}"
                    raise WrongAfterPowerLoss(text) from error
    finally:
        store_check._BOOT_ID = known
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description="Loses power, and looks what is left.")
    parser.add_argument("--points", type=int, default=50, help="of each mode")
    parser.add_argument("--seconds", type=float, default=6, help="of work on each disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", action="append", choices=sorted(MODES))
    options = parser.parse_args()
    for mode in options.mode or MODES:
        with tempfile.TemporaryDirectory() as directory:
            outcome = lose_power(Path(directory), mode, options.points, options.seconds, options.seed)
        print(f"{mode}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
