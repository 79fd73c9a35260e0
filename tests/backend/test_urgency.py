"""Which package is built first, where several can be. The sandbox tool is fake_tool.py."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Sequence

import pytest
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.layers import urgency
from opam_oci.layers.urgency import Turn, Wanted, build_seconds, remaining_seconds, turn_of
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.lockfile_reader import read_opam_lock
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import Pkg, deb_toml, image, opam_lock, project, source_toml


def source(megabytes: float) -> str:
    size = int(megabytes * 1e6)
    return source_toml(["https://h.example/a.tgz"], f"{size:064}", size)


def lock_of(*packages: Pkg, debs: str = "") -> OpamLock:
    return read_opam_lock("lock", "default", opam_lock(*packages, debs=debs).encode())


# As in OCaml's world: `large` stands on two small packages, and so it is ready a moment later than `finder`.
LOCK = lock_of(
    Pkg("compiler", extra=source(5)),
    Pkg("small", depends=["compiler"]),
    Pkg("large", depends=["compiler", "small"], extra=source(2)),
    Pkg("finder", depends=["compiler"], extra=source(0.3)),
    Pkg("user", depends=["finder"], extra=source(0.1)),
    Pkg("top", depends=["large", "user"]),
    Pkg("virtual", depends=["compiler"]),
    Pkg("unwanted", depends=["compiler"], extra=source(9)),
    Pkg("on-unwanted", depends=["unwanted"], extra=source(9)),
)
WANTED = frozenset(LOCK.packages) - {"unwanted", "on-unwanted"}


def test_how_long_builds_take_is_guessed() -> None:
    lock = lock_of(Pkg("a", extra=source(1) + source(1).replace('name = ""', 'name = "same"')), Pkg("b"))
    assert build_seconds(lock, lock.packages["a"]) == 20.5 and build_seconds(lock, lock.packages["b"]) == 0.5
    lock = lock_of(Pkg("a", debs=["gcc"]), debs=deb_toml("gcc", "pool/gcc.deb", size=5_000_000))
    assert build_seconds(lock, lock.packages["a"]) == 1.5


def test_the_longest_way() -> None:
    remaining = remaining_seconds(lock_of(Pkg("a"), Pkg("b", depends=["a"]), Pkg("c", depends=["a", "b"]), Pkg("d")))
    assert list(remaining.items()) == [("a", 1.5), ("b", 1.0), ("c", 0.5), ("d", 0.5)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("compiler", Turn((), ())),
        ("small", Turn((), ())),
        ("large", Turn((), ())),
        # After what `large` still needs, which takes next to no time, and then after `large` itself.
        ("finder", Turn(("small",), ("small", "large"))),
        ("user", Turn(("small",), ("small", "large"))),
        # Small ones do not wait for others to be built: they are out of the way before.
        ("virtual", Turn((), ("small", "finder"))),
    ],
)
def test_turns(name: str, expected: Turn) -> None:
    assert turn_of(LOCK, remaining_seconds(LOCK), WANTED, name) == expected


def test_nothing_is_waited_for_that_nobody_wants() -> None:
    remaining = remaining_seconds(LOCK)
    for name in LOCK.packages:
        turn = turn_of(LOCK, remaining, WANTED, name)
        assert WANTED.issuperset(turn.first) and WANTED.issuperset(turn.ahead)
        assert turn_of(LOCK, remaining, frozenset([name]), name) == Turn((), ())
    assert turn_of(LOCK, remaining, WANTED - {"small"}, "finder") == Turn((), ())


def test_no_package_waits_for_one_that_waits_for_it() -> None:
    """In the lockfiles of this repository, whatever is wanted."""
    for path in sorted(Path("3rdparty/opam").glob("*.lock")):
        lock = read_opam_lock(str(path), path.stem, path.read_bytes())
        remaining = remaining_seconds(lock)
        assert set(remaining) == set(lock.packages)
        for name, package in lock.packages.items():
            turn = turn_of(lock, remaining, frozenset(lock.packages), name)
            waits_for = {*package.depends, *turn.first, *turn.ahead}
            assert all((-remaining[one], one) < (-remaining[name], name) for one in waits_for), name


def test_plans_are_equal_whatever_was_wanted() -> None:
    one, other = Wanted(), Wanted()
    one.add(["a"])
    one.add(["b"])
    assert one.all() == {"a", "b"} and one == other and hash(one) == hash(other)


@pytest.fixture
def one_slot(fake_tool: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleRunner]:
    """Runs one process at a time. Build times are guessed by names: `5-x` takes half a second."""
    monkeypatch.setattr(urgency, "build_seconds", lambda lock, package: int(package.name.partition("-")[0]) / 10)
    runner = new_runner("--process-execution-local-parallelism=1")
    runner.set_options(OPTIONS)
    yield runner


def built(runner: RuleRunner, notes: Path, depends: Dict[str, Sequence[str]], round: int = 0) -> "list[str]":
    """The packages in the order in which they are really built."""
    notes.write_text("")
    packages = [Pkg(name, below, opam=f"note_in={notes} {round}") for name, below in depends.items()]
    runner.write_files(project(*packages, image=image(*depends)))
    target = runner.get_target(Address("images", target_name="image"))
    runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])
    return [line[: -len(".1")] for line in notes.read_text().split()]


def test_the_longest_way_comes_first(one_slot: RuleRunner, tmp_path: Path) -> None:
    """All are ready at once. By their names, it would be asked for last."""
    depends = {"5-start": [], **{f"20-{letter}": ["5-start"] for letter in "abcdef"}}
    depends.update({"20-x": ["5-start"], "90-y": ["20-x"]})
    assert built(one_slot, tmp_path / "notes", depends)[:2] == ["5-start", "20-x"]


def test_what_is_ready_a_moment_later_comes_first(one_slot: RuleRunner, tmp_path: Path) -> None:
    depends = {"5-start": [], **{f"20-{letter}": ["5-start"] for letter in "abcdef"}}
    depends.update({"5-x": ["5-start"], "90-y": ["5-x"]})
    assert built(one_slot, tmp_path / "notes", depends)[:3] == ["5-start", "5-x", "90-y"]


def test_the_order_turns_round(one_slot: RuleRunner, tmp_path: Path) -> None:
    """Under one daemon: who waited for another is waited for by it when the lockfile has changed, and changed back."""
    notes = tmp_path / "notes"
    for round in range(4):
        one, other = ("a", "b")[:: 1 if round % 2 else -1]
        sizes = {one: "0.5", other: "3"}

        # Names stay, so that the engine knows the packages again.
        def seconds(lock: OpamLock, package: object) -> float:
            name = package.name
            return float(sizes.get(name, {"start": "1", "large": "9"}.get(name, "1")))

        urgency.build_seconds = seconds  # type: ignore[assignment]
        depends = {"start": [], "a": ["start"], "b": ["start"], "large": [one]}
        assert set(built(one_slot, notes, depends, round)) == set(depends)
