"""`runtime`: what an image's roots need at run time, as one layer on a slim base.

Out of the layers of the roots and of what they depend on at run time come, below the switch: the roots' programs, and all but
what compilers and people read; out of any layer of a package, what a kept file needs (shared libraries, interpreters,
primitives of bytecode, plugins), and what the request's `keep` says. What cannot be had is an error, what cannot be seen a
warning.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, Mapping, Sequence

from opam_sandbox.account_files import read_entries
from opam_sandbox.accounts import USER, add_user, has_user
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging.copy_files import Copies
from opam_sandbox.imaging.debian_files import Owners, write_status
from opam_sandbox.imaging.needs import Needs
from opam_sandbox.imaging.requests import RuntimeRequest
from opam_sandbox.imaging.runtime_owners import RuntimeOwners
from opam_sandbox.imaging.search import Base
from opam_sandbox.imaging.selection import Selection
from opam_sandbox.imaging.slim_layer import make_slim_layer
from opam_sandbox.layer import ownership
from opam_sandbox.layer.description import DpkgFacts, Layer, read_layer, read_layers
from opam_sandbox.layer.make import Facts, Identity
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.owners import Below
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.switch import HOME, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG, View

_KEPT = {b"etc/ld.so.cache"}


def run(request: RuntimeRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError where the slim base lacks what the files need."""
    slim = read_layer(Path(request["slim"]))
    layers = read_layers(request["layers"])
    rootless = is_rootless()
    if slim.kind != "base" or not layers or layers[0].kind != "base":
        raise RequestError("slim, layers: each should start with a base")
    # What lies beside one another, dpkg's records and accounts are right in it.
    if layers[-1].kind != "state":
        raise RequestError("layers: the last should be the image's state")
    env = _environment(request["env"])

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        with mounted(store, layers, name="full") as full:
            make_slim_layer(
                Identity("runtime"),
                slim,
                layers[0],
                store,
                lambda view: _fill(view, full, request, env, layers, store),
                _skip,
            )
        return 0

    return run_isolated(inside)


def _skip(path: bytes, directory: bool) -> bool:
    return path not in _KEPT and ownership.is_shared(path, directory)


def _environment(lines: Sequence[str]) -> Dict[str, str]:
    if not all(line.find("=") > 0 for line in lines):
        raise RequestError("env: each should be `NAME=value`")
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _check_accounts(slim: Path) -> None:
    """Make accounts that others wrote ready for one more. Raises ToolError where the base has a user opam that is another than
    the image's, whose numbers are 1000."""
    for name, title, end in (("passwd", "user", 4), ("group", "group", 3)):
        for entry in read_entries(slim, name, links=True) or ():
            numbers = entry[2:end]
            if entry[0] == USER and set(numbers) != {"1000"}:
                raise ToolError(
                    f"the slim base has a {title} {USER} of its own, with the number {':'.join(numbers)!r:.40}; that of "
                    "images is 1000: take another base, or one without it"
                )
    for name in ("passwd", "group", "shadow"):
        text = view_files.read_text(slim, f"etc/{name}") or ""
        if text and not text.endswith("\n"):
            view_files.overwrite(slim, f"etc/{name}", f"{text}\n".encode("utf-8", "surrogateescape"))


def _fill(
    view: View, full_view: View, request: RuntimeRequest, env: Mapping[str, str], layers: Sequence[Layer], store: Store
) -> Facts:
    """Put into `view`, the slim base, what the roots need of `full_view`."""
    slim, full, lower = view.root, full_view.root, full_view.overlay.lower
    trees = {layer.name: store.get(layer) for layer in layers if layer.kind == "package"}
    selection = Selection(full, slim, trees)
    selection.choose(request["packages"], request["keep"])
    packages = Owners(full)
    base = Base.of(full, slim, foreign=request.get("foreign_base", False))
    if base.foreign:
        _check_accounts(slim)
    needs = Needs(full, slim, selection, packages, env, base)
    problems = needs.follow()
    if problems:
        raise ToolError(
            "the runtime image lacks what its files need:\n" + "\n".join(f"  * {text}" for text in problems)
        )
    owners = RuntimeOwners(Below(store, layers, lower), lower, slim)
    copies = Copies(full, slim, view.overlay.rootless, owners.of)
    for path in sorted(selection.chosen):
        copies.copy(path)
    for directory in sorted(selection.empty):
        copies.make_directory(directory)
    for note in needs.notes(layers):
        print(f"note: {note}", file=sys.stderr)
    status = write_status(full, slim, layers, packages.names(selection.chosen))
    if not has_user(slim):
        add_user(slim)
    copies.make_directory(HOME)
    if base.has_ldconfig and not base.other_release[0]:  # of another release nothing loads libraries
        done = view.overlay.run(["/sbin/ldconfig", "-X"], {"PATH": environment(1)["PATH"]}, view.log, user=False)
        if done.returncode != 0:
            raise ToolError(f"ldconfig failed in the runtime image (exit status {done.returncode}), see {LOG}")
    return Facts(dpkg=DpkgFacts(status=status) if status else DpkgFacts(), given=copies.given)
