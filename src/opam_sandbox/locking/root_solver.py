"""The program that solves many roots, as a package that the tool itself builds: its source is root_solver.ml, beside this file.

It uses opam's own solver as a library, which Debian has since trixie. The step `solver` looks the library up for a base, and
writes solver.json: the package, or a note where the base's Debian has no such library.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.locking import secrets
from opam_sandbox.locking.apt import Apt, kept
from opam_sandbox.locking.requests import BaseFacts, Indexes
from opam_sandbox.locking.root_requests import SolverPackage, SolverRequest
from opam_sandbox.locking.write_lockfile import lists_of
from opam_sandbox.opam.package import PackageFields, PackageFile
from opam_sandbox.opam.switch import OPAM_ROOT
from opam_sandbox.request import read_request

SOLVER = "solver.json"
NAME = "opam-oci-root-solver"
# Where its layer has it.
PROGRAM = f"{OPAM_ROOT}/default/bin/{NAME}"
_DEBS = ("libcudf-ocaml-dev", "libopam-0install-cudf-ocaml-dev", "ocaml-findlib", "ocaml-nox")
_SOURCE = "root_solver.ml"
_OPAM = f"""opam-version: "2.0"
name: "{NAME}"
build: [
  ["ocamlfind" "ocamlopt" "-package" "cudf,opam-0install-cudf,unix" "-linkpkg" "{_SOURCE}" "-o" "{NAME}"]
]
install: ["cp" "{NAME}" "%%{{bin}}%%/{NAME}"]
extra-files: ["{_SOURCE}" "sha256=%s"]
"""


def package() -> PackageFields:
    """The program as a package of opam's, as requests have it."""
    source = Path(__file__).with_suffix(".ml").read_bytes()
    text = _OPAM % hashlib.sha256(source).hexdigest()
    file: PackageFile = {"path": _SOURCE, "content": base64.b64encode(source).decode()}
    return {"name": NAME, "version": "1", "opam": text, "files": [file]}


def lock_solver(request: SolverRequest) -> int:
    """The step `solver`. Raises ToolError where the mirror's lists cannot be read."""
    base: BaseFacts = read_request(request["base_json"], BaseFacts)
    indexes: Indexes = read_request(request["indexes"], Indexes)
    known = secrets.take(request.get("secrets", ""))
    found: SolverPackage = {"package": package(), "debs": [], "note": ""}
    with Apt(lists_of(request, indexes["lists"], known), base["status"]) as apt:
        try:
            found["debs"] = [kept(deb) for deb in apt.resolve(_DEBS)]
        except ToolError as error:
            found["note"] = (
                f"{request['suite']} has no opam solver as a library, so opam is asked for each root by itself, which takes "
                f"some seconds of each: {error}"
            )
    write_json(SOLVER, found)
    return 0
