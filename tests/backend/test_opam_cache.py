"""`opam-cache`, and the limit of the store's size at the end of a run: with the real tool, on stores of small layers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import pytest
from pants.testutil.rule_runner import mock_console

from opam_oci.goals.opam_cache import OpamCache
from opam_oci.run_end.store_size import StorePruner
from opam_sandbox.files import remove_tree
from opam_sandbox.layer.store import FORMAT
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.support.checkout import ROOT

ROOTLESS = os.geteuid() != 0
Run = Callable[..., "tuple[int, str, str]"]

_FILL = """\
import os, sys
from pathlib import Path
from opam_sandbox.layer.store import Store

store = Store(Path(sys.argv[1]), sys.argv[2] == "1")
for number in range(3):
    path = store.put(f"{number:064x}", lambda target: (target / "f").write_bytes(b"x" * 100_000) and None)
    os.utime(path.parent / "used", (1e9 + number, 1e9 + number))
"""


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def run(caches: Path) -> Iterator[Run]:
    """Runs the goal on the caches of the test alone: its exit status, and what it and its process print, out and errors."""
    options = (*OPTIONS, f"--named-caches-dir={caches}")
    runner = new_runner(f"--named-caches-dir={caches}")

    def run_goal(*args: str) -> "tuple[int, str, str]":
        runner.set_options([*options, OpamCache.name, *args])
        # Nobody's own store is to be pruned here.
        found = runner.options_bootstrapper.bootstrap_options.for_global_scope().named_caches_dir
        assert found == os.fspath(caches)
        with mock_console(runner.options_bootstrapper) as (_, streams):
            done = runner.run_goal_rule(OpamCache, global_args=options, args=args)
            return done.exit_code, done.stdout + streams.get_stdout(), done.stderr + streams.get_stderr()

    yield run_goal


def fill(caches: Path) -> Path:
    """A store of three layers of about 100 kB, last used in this order, by a process that has ended. Returns their directory."""
    remove_tree(caches / "opam_oci_layers")
    # Not a fork of this process: what the engine's threads hold at that moment would be held in the child for ever.
    subprocess.run(
        [sys.executable, "-c", _FILL, os.fspath(caches / "opam_oci_layers"), str(int(ROOTLESS))],
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT / "src")},
        check=True,
        timeout=60,
    )
    return caches / "opam_oci_layers" / FORMAT / ("user" if ROOTLESS else "root") / "layers"


def left(layers: Path) -> list[int]:
    return sorted(int(name, 16) for name in os.listdir(layers))


def test_it_prints_and_removes_nothing(run: Run, caches: Path) -> None:
    layers = fill(caches)
    code, out, _ = run("--format=json")
    data = json.loads(out)
    assert code == 0 and data["store"] == os.fspath(caches / "opam_oci_layers")
    assert [kind["items"] for kind in data["kinds"] if kind["kind"] == "layers"] == [3]
    assert "days since last use" in run()[1]
    code, out, _ = run("--prune", "--days=1", "--dry-run")
    assert code == 0 and "Would remove" in out and left(layers) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--days=1"], []),
        (["--days=100000"], [0, 1, 2]),
        (["--max-size=250K"], [1, 2]),
        (["--percent=40"], [2]),
        (["--percent=0"], []),
        (["--days=1", "--kinds=bytecode"], [0, 1, 2]),
        ([], [0, 1, 2]),
    ],
)
def test_prune(run: Run, caches: Path, options: list[str], expected: list[int]) -> None:
    layers = fill(caches)
    assert run("--prune", *options)[0] == 0
    assert left(layers) == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--days=3"], "--days say what is removed: add `--prune`"),
        (["--dry-run", "--max-size=1G"], "--max-size and --dry-run say what is removed: add `--prune`"),
        (["--prune", "--max-size=40"], "'40' is no size"),
        (["--prune", "--days=-2"], "--days=-2 is no whole number"),
        (["--prune", "--kinds=everything"], "what can be pruned is layers"),
    ],
)
def test_bad_options(run: Run, caches: Path, options: list[str], error: str) -> None:
    layers = fill(caches)
    code, _, said = run(*options)
    assert code == 1 and left(layers) == [0, 1, 2]
    assert error in said and "Traceback" not in said


def end_run(store: Path, size: str, *, processes: bool = True, goals: "tuple[str, ...]" = ("package",)) -> None:
    pruner = StorePruner(os.fspath(store), size)
    context: Any = SimpleNamespace(run_tracker=SimpleNamespace(goals=goals))
    units: Any = ({"name": "run_local_process"},) if processes else ({"name": "local_cache_read"},)
    pruner(started_workunits=(), completed_workunits=units, finished=False, context=context)
    pruner(started_workunits=(), completed_workunits=(), finished=True, context=context)


def test_verify(run: Run, caches: Path) -> None:
    layers = fill(caches)
    status, out, _ = run("--verify")
    assert status == 0 and len(os.listdir(layers)) == 3, out
    [damaged] = layers.glob(f"{1:064x}/*/f")
    damaged.chmod(0o600)
    damaged.write_bytes(b"y" * 100_000)
    status, out, errors = run("--verify")
    assert status == 1 and f"{1:064x}"[:12] in out + errors, (out, errors)
    assert len(os.listdir(layers)) == 2
    assert run("--verify")[0] == 0


@pytest.mark.parametrize(
    ("size", "processes", "goals", "expected"),
    [
        ("250K", True, ("package",), [1, 2]),
        ("250K", False, ("run",), [1, 2]),
        ("250K", False, ("package",), [0, 1, 2]),  # all of it came from a cache: nothing has grown
        ("90%", True, ("package",), [0, 1, 2]),
        ("0%", True, ("package",), []),
    ],
)
def test_at_the_end_of_a_run(
    caches: Path,
    size: str,
    processes: bool,
    goals: "tuple[str, ...]",
    expected: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    layers = fill(caches)
    end_run(caches / "opam_oci_layers", size, processes=processes, goals=goals)
    assert left(layers) == expected
    assert ("Removed" in caplog.text) is (len(expected) < 3)


def test_what_cannot_be_kept_to_is_said(caches: Path, caplog: pytest.LogCaptureFixture) -> None:
    layers = fill(caches)
    end_run(caches / "opam_oci_layers", "40")
    assert "`[opam].store_max_size`: error: '40' is no size" in caplog.text and left(layers) == [0, 1, 2]
