"""Has the base's opam describe all packages that are available in it, once for all roots."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Iterator, Mapping, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.prepared import Prepared, state_caches
from opam_sandbox.locking.repositories import configure
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

_UNIVERSE = "universe.cudf"


@contextmanager
def opam_view(store: Store, layers: Sequence[Layer], prepared: Prepared, names: Sequence[str]) -> Iterator[View]:
    """A view in which opam knows the repositories."""
    with mounted(store, layers) as view:
        configure(view, names)
        config = view_files.read_text(view.root, f"{OPAM_ROOT}/config") or ""
        # Else opam has no package as available that needs Debian packages which the base lacks.
        config = re.sub(r"(?m)^depext:.*\n", "", config) + "depext: false\n"
        view.write_files([(f"{OPAM_ROOT}/config", config.encode()), *state_caches(prepared.directory)])
        yield view


def ask_universe(view: View, more: Mapping[str, str]) -> bytes:
    """opam's CUDF text of all packages. more: variables of opam's, such as OPAMWITHTEST. Raises ToolError."""
    argv = ["opam", "config", "cudf-universe", f"/tmp/{_UNIVERSE}"]
    done = view.overlay.run(argv, {**environment(1), **more}, view.log, user=True, cwd=f"/{HOME}")
    text = view_files.read(view.root / "tmp", _UNIVERSE)
    if done.returncode != 0 or not text:
        raise ToolError(f"opam does not describe its packages in the base:\n{view.log_text()[-4000:].rstrip()}")
    return text
