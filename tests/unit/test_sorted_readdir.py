"""The library that sorts directories; what it does is tested with a real base."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

from opam_sandbox.building.sorted_readdir import LIBRARY, library
from opam_sandbox.layer.store import Store


class FakeGcc:
    """A view whose gcc writes `output`, or fails."""

    def __init__(self, root: Path, status: int = 0) -> None:
        self.root = root
        self.calls: List[List[str]] = []
        self._status = status
        for name in ("usr/bin/gcc", "tmp/.keep"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

    def run(self, argv: List[str], env: object, log: object, *, user: bool) -> Any:
        self.calls.append(argv)
        (self.root / "tmp" / LIBRARY).write_bytes(b"library")
        return SimpleNamespace(returncode=self._status)


def get(view: Any, store: Store, base: str = "sha256:" + "1" * 64) -> Any:
    shown: Any = SimpleNamespace(root=view.root, overlay=view, log=BytesIO())
    return library(shown, store, SimpleNamespace(diff_id=base))


def test_it_is_compiled_once_for_each_base(tmp_path: Path) -> None:
    view, store = FakeGcc(tmp_path / "root"), Store(tmp_path / "store", rootless=False)
    first = get(view, store)
    assert first.read_bytes() == b"library" and get(view, store) == first
    assert len(view.calls) == 1
    assert get(view, store, "sha256:" + "2" * 64) != first and len(view.calls) == 2
    assert [path.name for path in (tmp_path / "root/tmp").iterdir()] == [".keep"]


def test_a_base_without_gcc_has_none(tmp_path: Path) -> None:
    assert get(SimpleNamespace(root=tmp_path), Store(tmp_path / "store", rootless=False)) is None


def test_a_gcc_that_fails_is_no_error(tmp_path: Path) -> None:
    view, store = FakeGcc(tmp_path / "root", status=1), Store(tmp_path / "store", rootless=False)
    assert get(view, store) is None
    assert not list((tmp_path / "store/v2/root/layers").iterdir())
