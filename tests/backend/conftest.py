"""Fixtures for the backend's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator

import pytest
from pants.engine.fs import FileContent
from pants.testutil.rule_runner import RuleRunner

from opam_oci import sandbox
from tests.backend.backend_runner import OPTIONS, new_runner


@pytest.fixture
def rule_runner() -> Iterator[RuleRunner]:
    runner = new_runner()
    runner.set_options(OPTIONS)
    yield runner


@pytest.fixture
def fake_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts fake_tool.py in the sandbox tool's place; see there for what it can show and what not."""

    def python_files(package_name: str) -> Iterable[FileContent]:
        if package_name != "opam_sandbox":
            return []
        content = (Path(__file__).parent / "fake_tool.py").read_bytes()
        return [FileContent("opam_sandbox/__main__.py", content)]

    monkeypatch.setattr(sandbox, "python_files", python_files)
