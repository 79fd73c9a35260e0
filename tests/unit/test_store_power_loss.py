"""A power loss at 50 moments of whole writes: of the store of unpacked layers, a shared layout, and the lock commands' cache.

`tests/support/power_loss.py` does more of them by a command, and says what is looked at.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support import disks, logged_disk, power_loss
from tests.support.logged_disk import FLUSH, WRITE, Record

# Together 50. Without a journal most can go wrong.
POINTS = {"default": 16, "no journal": 18, "writeback": 16}


@pytest.mark.parametrize("mode", sorted(power_loss.MODES))
def test_a_power_loss(tmp_path: Path, root_user: None, mode: str) -> None:
    """A layer that was said to be there is there, and whole; one that was not yet is whole, or made again. A name of a layout
    that was given is there with all its blobs. A value of the cache is right, or none."""
    try:
        outcome = power_loss.lose_power(tmp_path, mode, POINTS[mode], seconds=3)
    except disks.NoDiskError as error:
        pytest.skip(str(error))
    assert outcome.points == POINTS[mode]
    assert min(outcome.layers, outcome.names, outcome.values) > 10, outcome


def test_what_a_disk_may_lose() -> None:
    """What was written before a flush is there, and of the rest any part, in sectors."""
    image = bytes(4 * 4096)
    records = [Record(WRITE, 0, b"a" * 4096), Record(FLUSH, 0, b""), Record(WRITE, 4096, b"b" * 8192)]
    seen = set()
    for seed in range(200):
        disk = logged_disk.after_power_loss(image, records, 3, random.Random(seed))
        assert disk[:4096] == b"a" * 4096 and disk[12288:] == bytes(4096)
        seen.add((disk[4096:8192] == b"b" * 4096, disk[8192:12288] == b"b" * 4096))
    assert len(seen) == 4
    assert logged_disk.after_power_loss(image, records, 1, None) == b"a" * 4096 + bytes(3 * 4096)
