"""The layer over a slim base, which may have no program that compresses it: then a base that has one does.

As `layer.make.make_layer`, whose layers are compressed by what they stand on. That module is a part of what builds packages,
which needs no other way.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import broken_links, owners, ownership
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.compress import GZIP
from opam_sandbox.layer.description import Layer, title_of
from opam_sandbox.layer.make import Facts, Identity, write_blob, write_description
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.move_to_store import move_to_store
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox.namespaces import kill_stragglers
from opam_sandbox.sandbox.view import LOG, Timer, View


def make_slim_layer(
    identity: Identity,
    slim: Layer,
    packer: Layer,
    store: Store,
    work: Callable[[View], Facts],
    skip: Callable[[bytes, bool], bool],
) -> None:
    """Let `work` change a view of the slim base, and write the change as a layer into this directory. `packer`: a base whose
    program compresses where the slim one has none. Only inside `run_isolated`. Raises ToolError."""
    timer = Timer()
    Path(LOG).write_bytes(b"")
    try:
        with mounted(store, [slim], timer) as view:
            facts = work(view)
            kill_stragglers()  # nobody is to write any more while the change is captured
            machine_errors.check_room(view.scratch, "what a build writes", machine_errors.SANDBOXES)
            overlay = view.overlay
            with timer.step("unmount"):
                overlay.unmount()
            below = owners.Below(store, [slim], overlay.lower)

            def owner_below(path: bytes, status: os.stat_result) -> owners.Owner:
                if ownership.is_opams(path):
                    return ownership.owner(path)
                return below.of(path) if store.rootless else (status.st_uid, status.st_gid)

            def owner(path: bytes, status: os.stat_result) -> owners.Owner:
                if path in facts.given and not ownership.is_opams(path):
                    return facts.given[path]
                return owner_below(path, status)

            rules = Rules(skip=skip, owner=owner, owner_below=owner_below, lower=overlay.lower, rootless=store.rootless)
            base = store.get(slim)
            with timer.step("capture"):
                written, captured = write_blob(
                    base if _compresses(base) else store.get(packer), lambda sink: capture(overlay.upper, rules, sink)
                )
                broken_links.check(store, [slim], overlay.upper, captured)
            given = owners.of_taken(captured.taken)
            if given:
                tops = (overlay.upper, *(Path(os.fsdecode(path)) for path in overlay.lower))
                facts.dpkg.update(owners.facts(given, owners.read_accounts(tops)))
            write_description(identity, written, captured.entries, facts)
            with timer.step("keep"):
                move_to_store(store, written.diff_id, overlay.upper, captured.taken, title_of(*identity))
    finally:
        timer.write()


def _compresses(root: Path) -> bool:
    try:
        return bool(GZIP.program(root))
    except ToolError:
        return False
