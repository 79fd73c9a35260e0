"""`state`: the layer on top of an image that makes opam's, dpkg's and the dynamic linker's records right for its contents.

Every package's layer leaves these records out, since no package owns them. Here they are written once for the union of
the image's layers: opam's (`opam_state`), with a repository of the packages' opam files (so that `opam list`, `opam install` and
`opam update` work offline), the records of dpkg and its helpers, ld.so.cache, and accounts that several add, with the numbers of
their files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence

from opam_sandbox import dpkg_union
from opam_sandbox.beside.union import Union
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging import image_owners, in_memory, opam_state
from opam_sandbox.imaging.requests import StateRequest
from opam_sandbox.layer import merge_accounts, owners, ownership
from opam_sandbox.layer.description import Layer, installed_packages, read_layers
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.package import OpamPackage, read_package
from opam_sandbox.opam.switch import environment
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG, View

# Records that are wanted here although packages may not own them.
_KEPT = {
    *opam_state.KEPT,
    b"var/lib/dpkg/status",
    b"var/lib/dpkg/diversions",
    b"var/lib/dpkg/statoverride",
    b"var/lib/dpkg/triggers",
    b"var/cache/debconf/config.dat",
    b"var/cache/debconf/templates.dat",
    b"var/lib/ucf/hashfile",
    b"var/lib/ucf/registry",
    b"etc/ld.so.cache",
}


def run(request: StateRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    # The layer is made in another directory: see `in_memory`.
    layers = read_layers(os.path.abspath(path) for path in request["layers"])
    packages = [read_package(item) for item in request["packages"]]
    rootless = is_rootless()
    if not layers or layers[0].kind != "base":
        raise RequestError("layers: the first should be a base")

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)

        def work(view: View) -> Facts:
            return _write(view, store, layers, packages, request["roots"], request.get("overlapping_files", ()))

        with store.memory() as room:
            in_memory.work(
                lambda: make_layer(Identity("state"), layers, store, work, skip=_skip, room=room), room, rootless
            )
        return 0

    return run_isolated(inside)


def _skip(path: bytes, directory: bool) -> bool:
    if path in opam_state.LEFT_OUT or ownership.is_repository_cache(path):
        return True
    return ownership.is_shared(path, directory) and path not in _KEPT


def _write(
    view: View,
    store: Store,
    layers: Sequence[Layer],
    packages: Sequence[OpamPackage],
    roots: Sequence[str],
    allowed: Sequence[str],
) -> Facts:
    root = view.root
    if dpkg_union.unite(view, [layer.dpkg for layer in layers]):
        done = view.overlay.run(["ldconfig", "-X"], {"PATH": environment(1)["PATH"]}, view.log, user=False)
        if done.returncode != 0:
            raise ToolError(f"ldconfig failed in the image (exit status {done.returncode}), see {LOG}")
    merge_accounts.merge(root, [Path(os.fsdecode(path)) for path in reversed(view.overlay.lower)])
    given = image_owners.give(view, owners.Below(store, layers, view.overlay.lower))
    Union(view, store, layers).make(allowed, "the image", "the image's field `overlapping_files`")
    env = opam_state.write(view, packages, installed_packages(layers), roots)
    return Facts(opam={"env": env}, given=given)
