"""A disk that is full at any moment of a command: the right bytes, or an error that names what is full, how much is left and the
way out; nothing half-made stays, and with room the next run is right.

Each place that a command writes to is a file system in memory of 20 sizes, from nothing to what is just enough.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout
from tests.support import disks
from tests.support.sandbox_tool import copy_tool
from tests.support.small_images import numbered_image
from tests.unit.conftest import add_programs, build_request, make_base_layer, make_opam_root

SIZES = 20
PAGE = 4096

# Writes what no program compresses, at once and piece by piece, where a layer's files are and where nothing stays.
OPAM = """#!/bin/sh
set -e
cat /bin/gzip /bin/gzip /bin/gzip > /home/opam/one
for i in 1 2 3 4 5 6 7 8; do cat /bin/gzip > /home/opam/f$i; done
cat /home/opam/one > /home/opam/later
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tool(tmp_path_factory.mktemp("tool"))


@pytest.fixture(scope="module")
def request_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build over a base of 3 MB, its layers by absolute paths."""
    top = tmp_path_factory.mktemp("layers")
    root = top / "root"
    for name in ("bin", "dev", "etc", "proc", "tmp", "home/opam", "usr", "var/lib/dpkg"):
        (root / name).mkdir(parents=True)
    os.chmod(root, 0o755)
    os.symlink("../bin", root / "usr/bin")
    add_programs(root, ("sh", "cat", "gzip"))
    layers = [make_base_layer(top / "base", root, {"opam": OPAM}), make_opam_root(top / "opam-root")]
    return json.dumps(build_request(top / "store", layers))


def build(program: Path, text: str, work: Path, store: Path) -> Tuple[int, str, Dict[str, str]]:
    """Run the command in the directory `work`: exit status, standard error, and what it has made (digests by name)."""
    (work / "request.json").write_text(json.dumps({**json.loads(text), "store": str(store)}))
    done = subprocess.run(
        [sys.executable, "-sB", "-m", "opam_sandbox.building", "build", str(work / "request.json"), "--jobs", "1"],
        cwd=work,
        env={"PYTHONPATH": str(program), "PATH": os.environ["PATH"], "TMPDIR": str(work)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = {}
    if (work / "layer.json").exists():
        layer = json.loads((work / "layer.json").read_text())
        made = {name: layer[name] for name in ("digest", "diff_id")}
    return done.returncode, done.stderr, made


def used(directory: Path) -> int:
    found = os.statvfs(directory)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def clear(text: str, place: Path) -> bool:
    """Whether an error names the place, its file system and what it has left, and says what to do."""
    return bool(
        text.startswith("error: ")
        and len(text.splitlines()) == 1
        and str(place) in text
        and re.search(r"tmpfs file system at .* is full, \d+ of \d+ bytes are left", text)
        and "Delete files there, or set " in text
    )


def sizes(enough: int) -> Iterator[int]:
    """From one page to what is enough."""
    for number in range(SIZES):
        yield max(PAGE, enough * number // (SIZES - 1) // PAGE * PAGE)


@pytest.mark.parametrize("place", ["store", "sandbox"])
def test_a_build(tmp_path: Path, root_user: None, program: Path, request_text: str, place: str) -> None:
    def work() -> List[str]:
        enough, expected = measure(tmp_path / "whole")
        outcomes = [one(tmp_path / str(number), size, expected) for number, size in enumerate(sizes(enough))]
        return outcomes

    def measure(top: Path) -> Tuple[int, Dict[str, str]]:
        top.mkdir()
        with disks.memory(top / place, 1 << 28):
            for name in ("store", "sandbox"):
                (top / name).mkdir(exist_ok=True)
            status, said, made = build(program, request_text, top / "sandbox", top / "store")
            assert status == 0, said
            # And what is written on the way, and gone at the end.
            return 3 * used(top / place) + (4 << 20), made

    def one(top: Path, size: int, expected: Dict[str, str]) -> str:
        top.mkdir()
        with ExitStack() as stack:
            # The request is written by others.
            stack.enter_context(disks.memory(top / place, size + 2 * PAGE))
            for name in ("store", "sandbox"):
                (top / name).mkdir(exist_ok=True)
            status, said, made = build(program, request_text, top / "sandbox", top / "store")
            if status == 0:
                assert made == expected, (size, made)
                return "right"
            assert status == 1 and "Traceback" not in said, (size, said)
            assert clear(said, top / place), (size, said)
            leftovers(top)
            assert os.system(f"mount -o remount,size=256m {top / place}") == 0
            status, said, made = build(program, request_text, top / "sandbox", top / "store")
            assert (status, made) == (0, expected), (size, said)
            return "clear"

    def leftovers(top: Path) -> None:
        left = set(os.listdir(top / "sandbox")) - {
            "request.json",
            "build.log",
            "timings.json",
            "failure.json",
            "blobs",
            "layer.json",
        }
        assert left == set(), left
        kinds = [path for path in (top / "store").glob("v*/*")]
        for kind in kinds:
            for name in ("tmp", "scratch"):
                assert not (kind / name).exists() or os.listdir(kind / name) == [], (kind, name)

    try:
        outcomes = disks.apart(work)
    except disks.NoDiskError as error:
        pytest.skip(str(error))
    assert outcomes[-1] == "right" and outcomes[0] != "right" and len(outcomes) == SIZES
    assert outcomes.count("clear") >= 5


def test_a_layout(tmp_path: Path, root_user: None, program: Path) -> None:
    """`add`, as `publish` and people use it: index.json is what it was, or has the new image."""
    for number in (1, 2):
        numbered_image(tmp_path / f"image{number}", number, size=90_000)

    def add(layout: Path, number: int) -> Tuple[int, str]:
        argv = [sys.executable, "-sB", "-m", "opam_sandbox.publishing", "add", str(layout), "--name", f"a:{number}"]
        done = subprocess.run(
            [*argv, "--image", str(tmp_path / f"image{number}")],
            env={"PYTHONPATH": str(program), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stderr

    def work() -> List[str]:
        with disks.memory(tmp_path / "whole", 1 << 28):
            before = used(tmp_path / "whole")
            assert add(tmp_path / "whole/layout", 1) == (0, "")
            first = used(tmp_path / "whole") - before
            assert add(tmp_path / "whole/layout", 2) == (0, "")
            enough = used(tmp_path / "whole") - before
        return [
            one(tmp_path / str(number), first + size) for number, size in enumerate(sizes(enough - first + 8 * PAGE))
        ]

    def one(top: Path, size: int) -> str:
        with disks.memory(top, size + 4 * PAGE):
            assert add(top / "layout", 1) == (0, "")
            status, said = add(top / "layout", 2)
            names = {name: digest for name, digest in SharedLayout(top / "layout").names().items()}
            assert sorted(names) == (["a:1", "a:2"] if status == 0 else ["a:1"])
            assert problems(top / "layout") == [] and os.listdir(top / "layout/.opam-oci/tmp") == []
            if status == 0:
                return "right"
            assert status == 1 and clear(said, top / "layout"), (size, said)
            assert os.system(f"mount -o remount,size=256m {top}") == 0
            assert add(top / "layout", 2) == (0, "") and problems(top / "layout") == []
            return "clear"

    try:
        outcomes = disks.apart(work)
    except disks.NoDiskError as error:
        pytest.skip(str(error))
    assert outcomes[-1] == "right" and outcomes.count("clear") >= 5, outcomes
