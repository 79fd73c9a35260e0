"""Lockfiles that nobody wrote in good faith, or that were merged by hand: read in a time that grows with their size, or refused.

tests/fuzz and test_lock_fuzz.py look for more of these.
"""

from __future__ import annotations

import re

import pytest
from pants.backend.project_info.list_targets import List
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.locking.versions import Version
from opam_oci.resolves.dependency_order import cycles, reachable
from opam_oci.resolves.lockfile import LockfileError
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from opam_oci.resolves.opam_repositories import InvalidRepositoryError, parse_location
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, debian_lock, opam_lock, project

PATH = "3rdparty/opam/default.lock"
REMEDY = re.compile(r"`\S*pants generate-lockfiles --resolve=default`\.\Z")


def problem(text: str) -> str:
    """What is wrong with a lockfile, without its name and the remedy, both of which have to be there."""
    with pytest.raises(LockfileError) as raised:
        read_opam_lock(PATH, "default", text.encode("utf-8", "surrogatepass"))
    message = str(raised.value)
    assert message.startswith(f"The lockfile {PATH}: ") and REMEDY.search(message) and len(message) < 1500, message
    return message[len(f"The lockfile {PATH}: ") :]


def test_post_dependencies_in_long_cycles() -> None:
    """Whoever is on the cycle names no one of it; to find that out does not take a look at all for each."""
    many = 2000
    ring = [Pkg(f"p{number}", post=[f"p{(number + 1) % many}", "out"]) for number in range(many)]
    lock = read_opam_lock(PATH, "default", opam_lock(*ring, Pkg("out", post=["p0"]), Pkg("top", post=["p0"])).encode())
    posts = lock.acyclic_post_depends()
    assert all(posts[f"p{number}"] == () for number in range(many)) and posts["out"] == () and posts["top"] == ("p0",)


def test_post_dependencies_of_all_on_all() -> None:
    many = 300
    packages = [Pkg(f"p{number}", post=[f"p{other}" for other in range(number)]) for number in range(many)]
    posts = read_opam_lock(PATH, "default", opam_lock(*packages).encode()).acyclic_post_depends()
    assert all(len(posts[f"p{number}"]) == number for number in range(many))


def test_cycles_are_what_reachability_says() -> None:
    edges = {"a": ["b"], "b": ["c", "gone"], "c": ["a", "d"], "d": ["e"], "e": ["d"], "f": ["f", "a"], "g": []}
    number = cycles(edges)
    for one in edges:
        for other in edges:
            both = one in reachable([other], lambda name: edges.get(name, ())) and other in reachable(
                [one], lambda name: edges.get(name, ())
            )
            assert (number[one] == number[other]) == both, (one, other)


def test_a_long_cycle_is_not_listed_whole() -> None:
    many = 3000
    ring = [Pkg(f"p{number}", depends=[f"p{(number + 1) % many}"]) for number in range(many)]
    found = problem(opam_lock(*ring))
    assert found.startswith("the packages depend on each other in a cycle: p0 -> p1 -> ") and "(2988 more)" in found


def test_keys_of_many_parts() -> None:
    for text in ("a." * 20_000 + "b = 1\n", "[" + '"a" . ' * 20_000 + "b]\n", "x = {" + "a." * 20_000 + "b = 1}\n"):
        assert "a key has more than 200 parts" in problem(opam_lock(Pkg("a")) + text)
    assert "a key has more than 200 parts" in problem('\'\'."\\"".' * 300 + "b = 1\n" + opam_lock(Pkg("a")))


@pytest.mark.parametrize("quotes", ["'''", '"""'])
def test_texts_of_many_dots(quotes: str) -> None:
    """They are no keys, whatever quotes and marks of comments are around them."""
    texts = [
        "a." * 1000,
        "a." * 300 + "\n[b." + "c." * 300 + "]",
        "# \"'\n" + "a." * 300,
        "''" + "a." * 300 + '\n"\n' + "b." * 300,
    ]
    for text in texts:
        if quotes == '"""':
            written = text.replace("\\", "\\\\").replace('"', '\\"') + '""'
            expected = text + '""'
        else:
            written = expected = text + "''"
        toml = opam_lock(Pkg("a")).replace("opam = '''\n'''", f"opam = {quotes}\n{written}{quotes} # a.b '")
        assert read_opam_lock(PATH, "default", toml.encode()).packages["a"].opam == expected


def test_tables_within_tables() -> None:
    """Their number is counted without going as deep as they are."""
    deep = "".join(f"[[a{'.a' * depth}]]\n" for depth in range(190))
    stated = opam_lock(Pkg("a")).replace("lock_version = 1", "lock_version = 1\ntables = 191")
    assert "`a` is not known" in problem(stated + deep)


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 5000, "0o" + "7" * 20_000, "0b" + "1" * 20_000, "9" * 4000, str(1 << 63)]
)
def test_numbers_that_are_too_large(number: str) -> None:
    assert "is too large a number" in problem(
        opam_lock(Pkg("a")).replace("lock_version = 1", f"lock_version = {number}")
    )


def test_names_and_paths_that_no_file_has() -> None:
    file = '[[package.file]]\npath = "{}"\ncontent = ""\n'
    for path in ("x" * 256, "ä" * 128, "d/" * 2000 + "x"):
        assert "holds a path that is too long" in problem(opam_lock(Pkg("a", extra=file.format(path))))
    assert read_opam_lock(PATH, "default", opam_lock(Pkg("a", extra=file.format("x" * 255))).encode())
    assert "have more than 200 characters" in problem(opam_lock(Pkg("a" * 150, version="1" * 51)))
    assert "have more than 200 characters" in problem(opam_lock(Pkg("a" * 100_000)))


def test_long_values_are_not_shown_whole() -> None:
    for text in (
        opam_lock(Pkg("a")).replace("depends = []", f'depends = ["{"-" * 100_000}"]', 1),
        opam_lock(Pkg("a")).replace(
            "[metadata]", "[metadata]\n" + "".join(f"k{number} = 1\n" for number in range(5000))
        ),
        opam_lock(Pkg("a")) + f"{'k' * 100_000} = 1\n",
        opam_lock(Pkg("a")).replace('name = "a"', f"name = {'[' * 50}{']' * 50}"),
        "x" * 100_000,
        "\ud800",
    ):
        problem(text)


def test_the_remedy_of_a_base() -> None:
    with pytest.raises(LockfileError, match=r"generate-lockfiles --resolve=trixie`\.\Z"):
        read_debian_lock("x.lock", "trixie", debian_lock().replace("suite", "sweet").encode())


@pytest.mark.parametrize(
    "lock",
    [
        "[" * 100_000,
        opam_lock(Pkg("a", depends=["b"]), Pkg("b", depends=["a"])),
        opam_lock(Pkg("a")).replace("lock_version = 1", "lock_version = 0x" + "f" * 5000),
        "a." * 20_000 + "b = 1\n",
        "\x00",
    ],
    ids=["deep", "cycle", "number", "key", "nul"],
)
def test_goals_name_the_lockfile(rule_runner: RuleRunner, lock: str) -> None:
    """What a user of Pants sees is the reader's error."""
    rule_runner.write_files({**project(Pkg("a")), PATH: lock})
    with pytest.raises(ExecutionError) as raised:
        rule_runner.run_goal_rule(List, global_args=OPTIONS, args=["::"])
    [error] = raised.value.wrapped_exceptions
    assert isinstance(error, LockfileError) and str(error).startswith(f"The lockfile {PATH}: ")
    assert REMEDY.search(str(error))


@pytest.mark.parametrize(
    "location",
    [
        "https://[x/r.tar#sha256=" + "ab" * 32 + "&size=1",
        "https://x/r.tar#sha256=" + "ab" * 32 + "&size=\u00b2",
        "https://x/r.tar#sha256=" + "ab" * 32 + "&size=" + "9" * 5000,
        "git+https://[x/r#" + "0" * 40,
        "https://x/r.tar#" + "&" * 10_000,
    ],
    ids=range(5),
)
def test_locations_of_repositories(location: str) -> None:
    with pytest.raises(InvalidRepositoryError, match=r"^`\[opam\]\.repositories` has name = "):
        parse_location("name", location)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1." + "9" * 4999 + "8", "1." + "9" * 5000),
        ("9" * 5000, "1" + "0" * 5000),
        ("9" * 5000 + ":1", "1" + "0" * 5000 + ":0"),
        ("\u00b2:1", "\u00b3:1"),
    ],
    ids=range(4),
)
def test_versions_of_thousands_of_digits(older: str, newer: str) -> None:
    assert Version(older) < Version(newer) and not Version(newer) < Version(older)
