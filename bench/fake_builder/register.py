"""A backend of `bench/roots.py` alone: what builds is tool.py, and each run says how many nodes Pants' graph has at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List

from pants.base.build_environment import get_buildroot
from pants.engine.fs import FileContent
from pants.engine.rules import collect_rules, rule
from pants.engine.streaming_workunit_handler import (
    StreamingWorkunitContext,
    WorkunitsCallback,
    WorkunitsCallbackFactory,
    WorkunitsCallbackFactoryRequest,
)
from pants.engine.unions import UnionRule

from opam_oci.sandbox import tool as sandbox

# Where Pants looks at no change: else the next run would begin with one.
GRAPH_SIZE = ".pids/graph-size"
_MAIN = (Path(__file__).parent / "tool.py").read_bytes()
_real = sandbox.package_files


def package_files(package: str) -> List[FileContent]:
    """As the backend's own, but each part is started by tool.py."""
    files = _real(package)
    return [FileContent(file.path, _MAIN) if file.path.endswith("/__main__.py") else file for file in files]


sandbox.package_files = package_files


class CountNodes(WorkunitsCallback):
    """Writes the number into the build root when a run has ended."""

    @property
    def can_finish_async(self) -> bool:
        return False

    def __call__(self, *, finished: bool, context: StreamingWorkunitContext, **_: Any) -> None:
        if finished:
            Path(get_buildroot(), GRAPH_SIZE).write_text(str(context._scheduler.scheduler.graph_len()))


@dataclass(frozen=True)
class CountRequest:
    """Asks for the callback."""


@rule
async def construct_count(_: CountRequest) -> WorkunitsCallbackFactory:
    return WorkunitsCallbackFactory(lambda: CountNodes())


def rules() -> List[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, CountRequest)]
