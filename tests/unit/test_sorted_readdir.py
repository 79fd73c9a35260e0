"""The library that sorts directories: what it is made of, and who has no say in it. What it does is tested with a real base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Optional

import pytest

from opam_sandbox.building import build, prepare_opam, sorted_readdir
from opam_sandbox.building.sorted_readdir import LIBRARY, library
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from tests.support.checkout import tool
from tests.unit.conftest import Namespaces, build_request, make_base_layer, make_layer, make_opam_root, make_tar, member

# "Compiles" its source to itself, and to a line that says whose gcc it is.
GCC = '#!/bin/sh\necho "by $0 of {name}" > /tmp/out; cat /tmp/out /tmp/readdir.c > /tmp/sorted-readdir.so; exit {status}\n'
# Says what it is made to load, and by which gcc.
OPAM = "#!/bin/sh\ncat /dev/sorted-readdir/not-libasan.so; gcc; cat /tmp/out; exit 0\n"


def program(name: str, text: str) -> Any:
    return member(name, content=text.encode(), mode=0o755)


def make_base(directory: Path, tiny_root: Path, gcc: Optional[str]) -> Layer:
    root = directory.with_name(f"{directory.name}-root")
    tool("cp", "--archive", str(tiny_root), str(root))
    (root / "usr/include").mkdir()
    (root / "usr/include/dirent.h").touch()
    return make_base_layer(directory, root, {"opam": OPAM, **({"gcc": gcc} if gcc else {})})


@pytest.fixture
def base(tmp_path: Path, tiny_root: Path) -> Layer:
    return make_base(tmp_path / "base", tiny_root, GCC.format(name="the base", status=0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", rootless=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    made: List[str] = []
    real = sorted_readdir._compile

    def spy(store: Store, base: Layer, source: bytes) -> bytes:
        made.append(base.diff_id)
        return real(store, base, source)

    monkeypatch.setattr(sorted_readdir, "_compile", spy)
    return made


def test_it_is_compiled_once_for_each_base(
    namespaces: Namespaces, store: Store, base: Layer, tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_compilations(monkeypatch)
    other = make_base(tmp_path / "other", tiny_root, GCC.format(name="another base", status=0))

    def work() -> Any:
        found = [library(store, layer) for layer in (base, base, other)]
        return [path and path.read_text().splitlines()[0] for path in found], len(made)

    texts, count = namespaces(work)
    assert texts == ["by /usr/bin/gcc of the base"] * 2 + ["by /usr/bin/gcc of another base"]
    assert count == 2
    assert not (tmp_path / "here/sorted-readdir").exists()


def test_a_base_without_gcc_has_none(namespaces: Namespaces, store: Store, tmp_path: Path, tiny_root: Path) -> None:
    base = make_base(tmp_path / "bare", tiny_root, None)
    assert namespaces(lambda: library(store, base)) is None


def test_a_base_without_headers_has_none(namespaces: Namespaces, store: Store, tmp_path: Path, tiny_root: Path) -> None:
    base = make_base_layer(tmp_path / "bare", tiny_root, {"opam": OPAM, "gcc": GCC.format(name="the base", status=0)})
    assert namespaces(lambda: library(store, base)) is None


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$"])
def test_a_build_does_not_go_on_where_gcc_fails(
    namespaces: Namespaces, store: Store, tmp_path: Path, tiny_root: Path, end: str
) -> None:
    """It would be another layer than on a machine that has memory and room for gcc."""
    base = make_base(tmp_path / "failing", tiny_root, f"{GCC.format(name='the base', status=0)[:-7]}{end}; exit 0\n")

    def work() -> str:
        with pytest.raises(ToolError) as raised:
            library(store, base)
        return str(raised.value)

    assert "the gcc of base" in namespaces(work)
    assert [path.name for path in (tmp_path / "store/v4/root/layers").iterdir()] == [base.diff_id[len("sha256:") :]]


@pytest.mark.parametrize("how", ["other bytes", "other record", "no record", "no library"])
def test_one_that_is_not_what_was_made(
    namespaces: Namespaces, store: Store, base: Layer, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is made again, and that is said."""

    def work() -> Any:
        first = library(store, base)
        assert first is not None
        right, record = first.read_bytes(), first.parent / "made-of.json"
        if how == "other bytes":
            first.write_bytes(right[::-1])
        elif how == "other record":
            record.write_text(json.dumps({**json.loads(record.read_text()), "base": "sha256:0"}))
        else:
            (record if how == "no record" else first).unlink()
        second = library(store, base)
        assert second == first and second.read_bytes() == right
        return json.loads(record.read_text())

    record = namespaces(work)
    assert record["base"] == base.diff_id and set(record) == {"base", "command", "source", "sha256"}
    assert LIBRARY in capfd.readouterr().err


def test_a_package_has_no_say_in_it(
    namespaces: Namespaces, base: Layer, tmp_path: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A layer that brings another gcc, as a depext may: neither the build over it nor a later one gets its library."""
    opam_root = make_opam_root(tmp_path / "opam-root")
    replaced = make_layer(
        tmp_path / "replaced",
        make_tar(
            [
                program("bin/gcc", GCC.format(name="a package", status=0)),
                member(
                    f"{prepare_opam.PACKAGES}/replaced.1/opam", content=b'opam-version: "2.0"\n', uid=1000, gid=1000
                ),
            ]
        ),
        name="replaced",
    )
    for layers in ([base, opam_root, replaced], [base, opam_root]):
        status = build.run(build_request(tmp_path / "store", layers), 1)
        log = (here / "build.log").read_text()
        assert status == 0, log + capfd.readouterr().err
        assert "by /usr/bin/gcc of the base" in log
        # What opam itself calls is the package's, of course.
        assert ("of a package" in log) is (replaced in layers)
        assert log.index("of the base") < log.find("of a package") or replaced not in layers
