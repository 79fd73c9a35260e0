"""What all commands that make a layer share: the capture of what was written, the blob, layer.json, the timings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

from opam_sandbox import machine_errors
from opam_sandbox.files import write_json
from opam_sandbox.layer import broken_links, owners, ownership
from opam_sandbox.layer.capture import Sink, capture
from opam_sandbox.layer.compress import GZIP, PackedWriter, Packing, Written
from opam_sandbox.layer.description import FILE, DpkgFacts, Kind, Layer, LayerFields, OpamFacts, title_of
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.move_to_store import move_to_store
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox.namespaces import kill_stragglers
from opam_sandbox.sandbox.overlay import Overlay
from opam_sandbox.sandbox.view import LOG, Timer, View

BLOBS = Path("blobs/sha256")

T = TypeVar("T")


class Facts:
    """What a layer's description says of the layer's contents, for those that merge it with others.

    given: the owners of paths where the file system does not say them, which goes into the archive.
    """

    def __init__(
        self,
        opam: Optional[OpamFacts] = None,
        dpkg: Optional[DpkgFacts] = None,
        given: Optional[Mapping[bytes, owners.Owner]] = None,
    ) -> None:
        self.opam: OpamFacts = {} if opam is None else opam
        self.dpkg: DpkgFacts = {} if dpkg is None else dpkg
        self.given: Mapping[bytes, owners.Owner] = {} if given is None else given


class Identity(NamedTuple):
    """What a layer's description calls the layer: `name` and `version` are "" where there is none."""

    kind: Kind
    name: str = ""
    version: str = ""


def make_layer(
    identity: Identity,
    layers: Sequence[Layer],
    store: Store,
    work: Callable[[View], Facts],
    skip: Callable[[bytes, bool], bool] = ownership.is_shared,
    room: Optional[int] = None,
    packed_by: Optional[Callable[[Path], Path]] = None,
) -> None:
    """Merge `layers` (bottom first), let `work` change the view, and write the change as a layer into this directory.

    Only inside `run_isolated`. skip(path, is a directory): what the layer leaves out. room: see `Overlay`. packed_by: the
    root whose programs compress the layer, where that is not always the lowest layer's, which it is given. Raises ToolError.
    """
    timer = Timer()
    Path(LOG).write_bytes(b"")
    try:
        with mounted(store, layers, timer, room=room) as view:
            facts = work(view)
            kill_stragglers()  # nobody is to write any more while the change is captured
            machine_errors.check_room(view.scratch, "what a build writes", machine_errors.SANDBOXES)
            overlay = view.overlay
            with timer.step("unmount"):
                overlay.unmount()
            rules = _rules(store, layers, overlay, facts, skip)
            base = Path(os.fsdecode(overlay.lower[-1]))
            with timer.step("capture"):
                base = packed_by(base) if packed_by else base
                written, captured = write_blob(base, lambda sink: capture(overlay.upper, rules, sink))
                broken_links.check(store, layers, overlay.upper, captured)
            given = owners.of_taken(captured.taken)
            if given:
                tops = (overlay.upper, *(Path(os.fsdecode(path)) for path in overlay.lower))
                facts.dpkg.update(owners.facts(given, owners.read_accounts(tops)))
            write_description(identity, written, captured.entries, facts)
            with timer.step("keep"):
                move_to_store(store, written.diff_id, overlay.upper, captured.taken, title_of(*identity))
    finally:
        timer.write()


def _rules(
    store: Store, layers: Sequence[Layer], overlay: Overlay, facts: Facts, skip: Callable[[bytes, bool], bool]
) -> Rules:
    """Without privileges, what is in a layer below has the owner that it has there, and all else is root's, if not `given`."""
    below = owners.Below(store, layers, overlay.lower)

    def owner_below(path: bytes, status: os.stat_result) -> owners.Owner:
        if ownership.is_opams(path):
            return ownership.owner(path)
        return below.of(path) if store.rootless else (status.st_uid, status.st_gid)

    def owner(path: bytes, status: os.stat_result) -> owners.Owner:
        if path in facts.given and not ownership.is_opams(path):
            return facts.given[path]
        return owner_below(path, status)

    return Rules(skip=skip, owner=owner, owner_below=owner_below, lower=overlay.lower, rootless=store.rootless)


def write_blob(root: Path, produce: Callable[[Sink], T], packing: Packing = GZIP) -> Tuple[Written, T]:
    """Write what `produce` sends as a blob named by its digest; returns what was written and what `produce` returns.

    `root`: the base, whose programs compress. Raises ToolError where they fail.
    """
    BLOBS.mkdir(parents=True, exist_ok=True)
    temporary = BLOBS / "partial"
    with machine_errors.at(temporary, "the layer", machine_errors.SANDBOXES), open(temporary, "wb") as out:
        writer = PackedWriter(out, root, packing)
        result = produce(writer)
        written = writer.close()
    os.replace(temporary, BLOBS / written.digest)
    return written, result


def write_description(identity: Identity, written: Written, files: int, facts: Facts, packing: Packing = GZIP) -> None:
    """Write layer.json; `files` is the number of the tar's entries."""
    fields: LayerFields = {
        "kind": identity.kind,
        "name": identity.name,
        "version": identity.version,
        "diff_id": f"sha256:{written.diff_id}",
        "digest": f"sha256:{written.digest}",
        "size": written.size,
        "media_type": packing.media_type,
        "files": files,
        "opam": facts.opam,
        "dpkg": facts.dpkg,
    }
    write_json(FILE, fields)
