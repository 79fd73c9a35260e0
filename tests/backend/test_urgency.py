"""Which package is built first, where several can be. The sandbox tool is fake_tool.py."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.layers import urgency
from opam_oci.layers.urgency import Turn, Wanted, build_seconds, remaining_seconds, turn_of
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.lockfile_reader import read_opam_lock
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


def test_small_ones_that_take_long_or_need_something_are_not_waited_for() -> None:
    for small in (Pkg("small", depends=["compiler"], extra=source(0.001)), Pkg("small", depends=["a", "b", "c"])):
        others = [Pkg(name, depends=["compiler"]) for name in "abc"]
        large, finder = Pkg("large", depends=["small"], extra=source(2)), Pkg("finder", ["compiler"], extra=source(0.3))
        lock = lock_of(Pkg("compiler"), small, large, finder, *others)
        turn = turn_of(lock, remaining_seconds(lock), frozenset(lock.packages), "finder")
        assert turn.first == () and "large" not in turn.ahead


def test_what_is_waited_for_has_a_longer_way() -> None:
    """In the lockfiles of this repository, with everything wanted."""
    for path in sorted(set(Path("3rdparty/opam").glob("*.lock")) - {Path("3rdparty/opam/health.lock")}):
        lock = read_opam_lock(str(path), path.stem, path.read_bytes())
        remaining = remaining_seconds(lock)
        assert set(remaining) == set(lock.packages)
        for name, package in lock.packages.items():
            turn = turn_of(lock, remaining, frozenset(lock.packages), name)
            for one in (*package.depends, *turn.first, *turn.ahead):
                assert (-remaining[one], one) < (-remaining[name], name), (name, one)


def test_plans_are_equal_whatever_was_wanted() -> None:
    one, other = Wanted(), Wanted()
    one.add(["a"])
    one.add(["b"])
    assert one.all() == {"a", "b"} and one == other and hash(one) == hash(other)


@pytest.fixture
def guessed(fake_tool: None, monkeypatch: pytest.MonkeyPatch) -> Dict[str, float]:
    """What builds are guessed to take, in seconds; 1 where it says nothing. (With the real guess, packages need sources.)"""
    seconds: Dict[str, float] = {}
    monkeypatch.setattr(urgency, "build_seconds", lambda lock, package: seconds.get(package.name, 1.0))
    return seconds


def built(runner: RuleRunner, notes: Path, *packages: Pkg) -> "set[str]":
    """The packages that are really built."""
    notes.write_text("")
    runner.write_files(project(*packages, image=image(*(package.name for package in packages))))
    target = runner.get_target(Address("images", target_name="image"))
    runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])
    return {line[: -len(".1")] for line in notes.read_text().split()}


def test_the_order_turns_round(rule_runner: RuleRunner, guessed: Dict[str, float], tmp_path: Path) -> None:
    """Under one daemon: who waited for another is waited for by it when the lockfile has changed, and changed back."""
    notes = tmp_path / "notes"
    for round in range(4):
        one, other = ("a", "b")[:: 1 if round % 2 else -1]
        guessed.update({one: 0.5, other: 3, "large": 9})
        depends = {"start": [], "a": ["start"], "b": ["start"], "large": [one]}
        packages = [Pkg(name, below, opam=f"note_in={notes} {round}") for name, below in depends.items()]
        lock = lock_of(*packages)
        turn = turn_of(lock, remaining_seconds(lock), frozenset(lock.packages), other)
        assert (turn.first, turn.ahead) == ((one,), (one, "large"))
        assert built(rule_runner, notes, *packages) == set(depends)


def test_a_small_one_that_fails(rule_runner: RuleRunner, guessed: Dict[str, float], tmp_path: Path) -> None:
    """Who waits for it is built all the same, and the image says what failed, and what was not built because of it."""
    notes = tmp_path / "notes"
    guessed.update({"small": 0.5, "large": 9, "finder": 3})
    packages = [
        Pkg("start"),
        Pkg("small", ["start"], opam="fail"),
        Pkg("large", ["start", "small"]),
        Pkg("finder", ["start"], opam=f"note_in={notes}"),
    ]
    with pytest.raises(ExecutionError) as raised:
        built(rule_runner, notes, *packages)
    message = str(raised.value)
    assert "small.1 failed: " in message and "1 package failed" in message
    assert "* large.1 (because of small.1)" in message and "finder.1" not in message
    assert notes.read_text() == "finder.1\n"
