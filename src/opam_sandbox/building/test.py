"""`test`: a package's tests, as opam runs them: the package is built with them, and nothing of it becomes a layer.

opam has no other way: tests are commands of the build (`{with-test}`), or come after it (`run-test`).
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from opam_sandbox.building import asked, failures, sorted_readdir
from opam_sandbox.building.build import Build, read
from opam_sandbox.building.real_owners import RealOwners
from opam_sandbox.building.requests import TestRequest
from opam_sandbox.building.shown_log import shown
from opam_sandbox.errors import BuildFailed
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG


def run(request: TestRequest, jobs: int) -> int:
    """Build the package with its tests. Returns the exit status; raises BuildFailed where one of both fails."""
    layers, package = read(request)
    rootless = is_rootless()
    asked_for: TestRequest = {**request, "with_test": True}
    live = request.get("live", False)
    bounds = asked.watch(Path(request["store"]))

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        library = sorted_readdir.library(store, layers[0])
        # What tests write is on disk: they may fill what memory there is, and say that they passed.
        with mounted(store, layers, room=0) as view:
            view.overlay.watch = bounds
            owners = RealOwners(view, store, layers, request.get("left_out", ()))
            build = Build(view, store, library, layers, package, asked_for, jobs, owners)
            build.prepare()
            done = build.run_opam(person=live)
        if done.returncode != 0:
            raise BuildFailed(
                f"{package.title} does not pass its tests, or does not build with them (opam's exit status {done.returncode})"
            )
        return 0

    # Before anything else: Pants may end this process at any time, and what was printed until then says why it took so long.
    with nullcontext() if live else shown(LOG):
        return failures.recorded(
            Path(request["store"]),
            package.title,
            lambda told: run_isolated(lambda: told(inside), subordinates=bool(request["package"]["debs"])),
            kept=False,
        )
