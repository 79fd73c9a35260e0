"""Fixtures for the backend's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator

import pytest
from pants.engine.fs import FileContent
from pants.testutil.rule_runner import RuleRunner

from opam_oci.sandbox import tool as sandbox
from tests.backend.backend_runner import OPTIONS, new_runner, runners_end


@pytest.fixture(autouse=True)
def no_runner_is_left() -> Iterator[None]:
    with runners_end():
        yield


@pytest.fixture
def rule_runner() -> Iterator[RuleRunner]:
    runner = new_runner()
    runner.set_options(OPTIONS)
    yield runner


@pytest.fixture
def fake_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts fake_tool.py in the sandbox tool's place; see there for what it can show and what not."""

    content = (Path(__file__).parent / "fake_tool.py").read_bytes()
    real = sandbox.package_files

    def package_files(package_name: str) -> Iterable[FileContent]:
        # The tool's own readers stay, and so does its table of parts: the fake is held to them. What asks registries is real.
        return [
            FileContent(file.path, content)
            if file.path.endswith("/__main__.py") and not file.path.endswith("/publishing/__main__.py")
            else file
            for file in real(package_name)
        ]

    monkeypatch.setattr(sandbox, "package_files", package_files)
