"""The sweep over depexts: which it tries first, and what it takes for covered by another one."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opam_sandbox.locking.apt_lists import Lists
from tests.support.debian_layers import make_deb
from tests.sweeps.depext_closures import Closures, _has_only_files
from tests.sweeps.depext_page import table
from tests.sweeps.depexts import next_time


def closures(work: Path, sizes: Dict[str, int], needs: Dict[str, str]) -> Closures:
    locks: Dict[str, Any] = {
        name: [{"sha256": deb, "size": sizes[deb]} for deb in debs.split()] for name, debs in needs.items()
    }
    (work / "locks.json").write_text(json.dumps({**locks, "refused": "apt says why"}))
    return Closures(work, Lists(work, "amd64"), "")


def test_first_what_has_what_others_need(tmp_path: Path) -> None:
    sizes = {"a": 10**5, "b": 10**6, "huge": 10**9, "c": 3}
    needs = {"alone": "c", "huge": "huge", "small": "a", "of-both": "a b", "larger": "b"}
    found = closures(tmp_path, sizes, needs)
    assert found.order([*needs, "refused"]) == ["of-both", "alone", "huge", "small", "larger"]
    assert found.order(reversed([*needs, "refused"])) == found.order(needs)
    assert found.why_not("refused") == "apt says why" and found.why_not("small") == ""


@pytest.mark.parametrize(
    ("scripts", "quiet"),
    [
        ({}, True),
        ({"triggers": "# of the linker\nactivate-noawait ldconfig\n", "conffiles": "/etc/x\n"}, True),
        ({"triggers": "activate-noawait other\n"}, False),
        ({"triggers": "interest /usr/share/x\n"}, False),
        ({"postinst": "#!/bin/sh\n"}, False),
        ({"config": "#!/bin/sh\n"}, False),
        ({"templates": "Template: x/y\nType: string\n"}, False),
    ],
)
def test_what_is_nothing_but_files(tmp_path: Path, scripts: Dict[str, str], quiet: bool) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this machine lacks dpkg-deb")
    deb = make_deb(tmp_path, "x", {"etc/x": "x"}, scripts=scripts)
    assert _has_only_files(deb["file"]) == quiet


def test_the_end_of_a_run_may_be_on_the_next_day() -> None:
    def moment(day: int, hour: int, minute: int) -> float:
        return time.mktime((2026, 2, day, hour, minute, 0, 0, 0, -1))

    assert next_time("23:30", moment(28, 22, 44)) == moment(28, 23, 30)
    assert next_time("00:06", moment(28, 23, 25)) == moment(29, 0, 6) == time.mktime((2026, 3, 1, 0, 6, 0, 0, 0, -1))
    assert next_time("00:06", moment(28, 0, 6)) == moment(29, 0, 6)
    with pytest.raises(ValueError):
        next_time("25:00", moment(28, 0, 6))


def test_the_page_counts_each_once() -> None:
    results: Dict[str, Dict[str, Any]] = {
        "built": {"debs": 2, "seconds": 1.0, "locked": True, "problems": []},
        "inside": {"debs": 1, "covered": "built", "locked": True, "problems": []},
        "base": {"debs": 0, "locked": True, "problems": []},
        "bad": {"debs": 1, "seconds": 1.0, "locked": True, "problems": ["two builds differ: x"]},
        "odd": {"locked": False, "problems": ["unknown"]},
        "refused": {"locked": False, "problems": ["apt says why"]},
    }
    lines: List[str] = table(results, {**dict.fromkeys(results, 1), "later": 1}).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- 1 were built and are right,",
        "- 1 are covered by one of these,",
        "- 1 are in the base,",
        "- 1 have a problem,",
        "- 1 were not tried yet.",
    ]
    assert {"| inside | 1 | built |", "| bad | 1 | two builds differ: x |", "| refused | 1 | apt says why |"} < set(
        lines
    )
