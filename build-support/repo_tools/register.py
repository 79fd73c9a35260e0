"""What Pants loads for `repo_tools` in pants.python.toml."""

from __future__ import annotations

from typing import Iterable

from repo_tools import pex_file, ruff


def rules() -> Iterable[object]:
    return [*pex_file.rules(), *ruff.rules()]
