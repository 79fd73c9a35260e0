"""`lint`: `opam lint` of the base's opam, whose output and exit status are this process's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Tuple

from opam_sandbox.errors import RequestError
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.linting.requests import LintRequest
from opam_sandbox.request import check_file, safe_path
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG

# Where the files are in the view: opam names them relative to it.
_PLACE = "home/opam/project"
_ENVIRONMENT = {
    "HOME": "/home/opam",
    "LANG": "C.UTF-8",
    "OPAMCOLOR": "never",
    "OPAMROOT": "/home/opam/.opam",
    "OPAMUTF8": "never",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "USER": "opam",
}
_Files = List[Tuple[str, bytes]]


def run(request: LintRequest, jobs: int) -> int:
    """Check the files, one after the other in one run of opam. Returns opam's exit status: 0 where no file has an error.

    Raises ToolError.
    """
    layers = read_layers(request["layers"])
    if [layer.kind for layer in layers] != ["base", "opam-root"]:
        raise RequestError("layers: they should be a base and an opam-root")
    files: _Files = []
    for entry in request["files"]:
        content: List[bytes] = []
        check_file(entry["file"], entry["sha256"], content.append)
        files.append((safe_path(entry["path"]), b"".join(content)))
    if not files:
        raise RequestError("files: there are none")
    rootless = is_rootless()
    argv = ["opam", "lint", *request["arguments"], "--", *(f"./{name}" for name, _ in files)]

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        with mounted(store, layers, room=0) as view:
            view.write_files((f"{_PLACE}/{name}", content) for name, content in files)
            return view.overlay.run(argv, _ENVIRONMENT, view.log, user=True, cwd=f"/{_PLACE}").returncode

    status = run_isolated(inside)
    # opam names files by absolute paths.
    sys.stdout.buffer.write(Path(LOG).read_bytes().replace(f"/{_PLACE}/".encode(), b""))
    sys.stdout.flush()
    return status
