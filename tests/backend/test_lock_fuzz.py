"""Whatever a lockfile holds: it is read as it was meant, or refused with a LockfileError that names it."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opam_oci.resolves.lockfile import LockfileError, OpamLock
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from opam_sandbox.locking import toml_writer
from opam_sandbox.locking.apt import LockedDeb
from opam_sandbox.locking.lock_debian import lock_text
from tests.backend.locktext import Pkg, deb_toml, debian_lock, opam_lock, source_toml

PATH = "3rdparty/opam/default.lock"
# No deadline: other work may take the machine's cores. Derandomized: a run says the same as the run before it.
quick = settings(
    deadline=None, derandomize=True, database=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)

SHA = "ab" * 32
WHOLE = opam_lock(
    Pkg("a", debs=["gcc"], opam="x: 1", extra=source_toml(["https://h/a"], SHA, 7)),
    Pkg("b", depends=["a"], extra='[[package.file]]\npath = "d/f"\ncontent = "x"\n'),
    requirements=["b"],
    debs=deb_toml("gcc", "pool/g.deb", SHA, 5),
)

_LISTS: "dict[str, list[str]]" = {key: [] for key in ("depends", "post_depends", "depexts", "debs")}
WRITTEN_TABLES = [
    toml_writer.table("[[package]]", {"name": "a", "version": "1", **_LISTS, "opam": "x: 1"}),
    toml_writer.table("[[package]]", {"name": "z", "version": "1", **_LISTS, "opam": "x: 1"}),
    toml_writer.table("[[package.source]]", {"name": "", "urls": ["https://h/a"], "sha256": SHA, "size": 1234}),
    toml_writer.table("[[package.file]]", {"path": "f", "content": "x\ny\n"}),
]
WRITTEN = toml_writer.lockfile(
    "default",
    {"kind": "opam", "resolve": "default", "base": "//b:b", "requirements": [], "constraints": []},
    WRITTEN_TABLES,
)


def refused_or(read: Callable[[], Any]) -> Any:
    """What is read, or None where it is refused in the right way."""
    try:
        return read()
    except LockfileError as error:
        assert str(error).startswith(f"The lockfile {PATH}: ")
        return None


def lock_of(content: bytes) -> "OpamLock | None":
    found: "OpamLock | None" = refused_or(lambda: read_opam_lock(PATH, "default", content))
    return found


def check_safe(lock: OpamLock) -> None:
    """What a build relies on, whatever the file was."""
    for package in lock.packages.values():
        assert set(package.depends) | set(package.post_depends) <= set(lock.packages)
        assert set(package.debs) <= set(lock.debs)
        assert "/" not in package.name + package.version and not package.name.startswith(".")
        for source in package.sources:
            assert len(source.sha256) == 64 and source.size >= 0 and source.urls
        for path in [file.path for file in package.files] + [source.name for source in package.sources]:
            assert not path.startswith("/") and ".." not in path.split("/")
    assert len(lock.in_build_order(lock.packages)) == len(lock.packages)


@quick
@given(st.integers(0, len(WHOLE.encode())))
def test_truncated(length: int) -> None:
    lock = lock_of(WHOLE.encode()[:length])
    if lock is not None:
        # A cut between two tables leaves a file that is whole as TOML: what is there is right, what is gone is not made up.
        check_safe(lock)


@quick
@given(st.integers(0, len(WRITTEN.encode()) - 2))
def test_truncated_after_it_was_written(length: int) -> None:
    """The tool states how much there is, so that nothing cut off is taken for a smaller lockfile."""
    assert lock_of(WRITTEN.encode()[:length]) is None


@pytest.mark.parametrize("gone", range(4))
def test_a_table_that_is_gone(gone: int) -> None:
    tables = [*WRITTEN_TABLES[:gone], *WRITTEN_TABLES[gone + 1 :]]
    with pytest.raises(LockfileError) as raised:
        read_opam_lock(PATH, "default", WRITTEN.replace("".join(WRITTEN_TABLES), "".join(tables)).encode())
    assert "it should have 4 tables after [metadata], and has 3." in str(raised.value)
    assert "regenerate it with `pants generate-lockfiles --resolve=default`" in str(raised.value)


def test_a_base_that_is_cut_off() -> None:
    debs = [LockedDeb(name, "1", "amd64", f"pool/{name}.deb", SHA, 7) for name in ("a1", "b2")]
    text = lock_text("trixie", "trixie", "amd64", ["b2"], debs)
    assert set(read_debian_lock(PATH, "trixie", text.encode()).debs) == {"a1", "b2"}
    for length in range(len(text) - 1):
        with pytest.raises(LockfileError):
            read_debian_lock(PATH, "trixie", text[:length].encode())


@quick
@given(st.integers(0, len(WHOLE) - 1), st.sampled_from([*"\x00\xff\n\"'[]={}#,.0a"]))
def test_one_character_changed(at: int, char: str) -> None:
    lock = lock_of((WHOLE[:at] + char + WHOLE[at + 1 :]).encode("utf-8"))
    if lock is not None:
        check_safe(lock)


@quick
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    assert lock_of(content) is None
    assert refused_or(lambda: read_debian_lock(PATH, "trixie", content)) is None


LINES = [line for line in WHOLE.splitlines() if " = " in line]
WRONG = [
    "1",
    "-1",
    "true",
    "1.5",
    '"x"',
    '"../x"',
    '"/x"',
    '"x\\u0000"',
    "[]",
    "[1]",
    '["x", "x"]',
    '["../x"]',
    "{}",
    "{a = 1}",
]
WRONG += ["1979-05-27", "[[1], [2]]", '"' + "9" * 70 + '"', "9" * 5000, "nan"]


@quick
@given(st.sampled_from(LINES), st.sampled_from(WRONG))
def test_values_of_wrong_types(line: str, value: str) -> None:
    lock = lock_of(WHOLE.replace(line, f"{line.partition(' = ')[0]} = {value}", 1).encode())
    if lock is not None:
        check_safe(lock)


@pytest.mark.parametrize("heading", ["[metadata]", "[[package]]", "[[package.source]]", "[[package.file]]", "[[deb]]"])
def test_keys_of_a_newer_version(heading: str) -> None:
    """They may decide about a build, so that a lockfile with one is refused, in the same lock_version too."""
    with pytest.raises(LockfileError, match="`from_the_future` is not known to this version of the backend"):
        read_opam_lock(PATH, "default", WHOLE.replace(heading, f"{heading}\nfrom_the_future = 1", 1).encode())


def test_tables_of_a_newer_version() -> None:
    with pytest.raises(LockfileError, match="`patch` is not known"):
        read_opam_lock(PATH, "default", (WHOLE + "[[patch]]\nx = 1\n").encode())
    with pytest.raises(LockfileError, match="`patch` is not known"):
        read_debian_lock(PATH, "trixie", (debian_lock() + "[patch]\n").encode())


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a = " + "[" * 100_000, "a = " + "{b=" * 100_000], ids=["tables", "arrays", "inline"]
)
def test_nested_too_deeply(text: str) -> None:
    assert lock_of(text.encode()) is None


NAMES = st.sampled_from(["a", "b", "c", "d"])


@quick
@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3)), max_size=6))
def test_any_graph(packages: "list[tuple[str, list[str], list[str]]]") -> None:
    """Duplicate names, edges to nowhere and cycles are refused; all else has an order, also with cyclic post edges."""
    lock = lock_of(opam_lock(*(Pkg(name, depends=depends, post=post) for name, depends, post in packages)).encode())
    if lock is None:
        return
    check_safe(lock)
    order = lock.in_build_order(lock.packages)
    for name, package in lock.packages.items():
        assert all(order.index(depends) < order.index(name) for depends in package.depends)
    for name, posts in lock.acyclic_post_depends().items():
        assert all(name not in lock.image_closure([post]) for post in posts)


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40)


@quick
@given(TEXT, TEXT)
def test_what_the_tool_writes_is_read_as_it_was(opam: str, content: str) -> None:
    tables = [
        toml_writer.table("[[package]]", {"name": "a", "version": "1", **_LISTS, "opam": opam}),
        toml_writer.table("[[package.file]]", {"path": "f", "content": content}),
    ]
    text = WRITTEN.replace("".join(WRITTEN_TABLES), "".join(tables)).replace("tables = 4", "tables = 2")
    package = read_opam_lock(PATH, "default", text.encode()).packages["a"]
    assert (package.opam, package.files[0].content.decode()) == (opam, content), json.dumps(text)


def test_what_could_not_be_locked() -> None:
    record = (
        'opam_base64 = "/w=="\ntest_depends = ["b"]\ndepexts_out_of_reach = "no x"\n'
        '[[package.source_out_of_reach]]\nname = ""\nurls = ["https://h/a"]\nchecksums = ["md5=00"]\n'
    )
    lock = read_opam_lock(PATH, "default", opam_lock(Pkg("a"), Pkg("b")).replace("opam = '''\n'''", record, 1).encode())
    package = lock.packages["a"]
    assert package.opam == "\udcff" and package.test_depends == ("b",) and package.depexts_out_of_reach == "no x"
    assert package.out_of_reach[0].checksums == ("md5=00",) and package.sources == ()
