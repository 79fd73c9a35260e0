"""`rootfs`: a Debian base layer, made by mmdebstrap out of locked .debs and nothing else."""

from __future__ import annotations

import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Sequence

from opam_sandbox import machine_errors
from opam_sandbox.building.mmdebstrap import make_rootfs
from opam_sandbox.building.requests import Deb, RootfsRequest
from opam_sandbox.building.rewrite_rootfs import rewrite_rootfs
from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.layer import owners
from opam_sandbox.layer.capture import Sink
from opam_sandbox.layer.compress import PIECE
from opam_sandbox.layer.make import Facts, Identity, write_blob, write_description
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import Timer

_MADE, _CLEAN = Path("rootfs.tar"), Path("layer.tar")


def run(request: RootfsRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    timer = Timer()
    rootless = is_rootless()
    store = Store(Path(request["store"]), rootless)
    with timer.step("verify"):
        _verify(request["debs"])
    with ExitStack() as stack:
        with store.memory() as room:
            files = stack.enter_context(store.scratch(store.place("rootfs", room), mode=0o700))
            with timer.step("mmdebstrap"), store.scratch(_place_for_all(room)) as directory:
                remedy = "mount more room there"
                with machine_errors.suspecting(directory, "what mmdebstrap writes", remedy):
                    made = make_rootfs(request, directory, room)
                shutil.move(os.fspath(made), files / _MADE)
        return _make_layer(request, store, files, timer)


def _place_for_all(room: int) -> Path:
    """Of a new directory that is not in the process's own sandbox: mmdebstrap works as users who may not enter that.

    room: as of `memory.room`. Without any, it is not to be in memory either, where many machines have /tmp.
    """
    places = [Path("/tmp"), Path("/var/tmp")]
    on_disk = [
        place for place in places if not room and not machine_errors.is_in_memory(place) and os.access(place, os.W_OK)
    ]
    return (on_disk or places)[0] / f"debian-rootfs-{secrets.token_hex(8)}"


def _make_layer(request: RootfsRequest, store: Store, files: Path, timer: Timer) -> int:
    """Make the layer of the tar that mmdebstrap has left in `files`. Returns the exit status."""
    clean = files / _CLEAN
    owned: Dict[str, owners.Owner] = {}
    with timer.step("rewrite"):
        plain, entries = rewrite_rootfs(files / _MADE, clean, request["epoch"], owned)
        os.unlink(files / _MADE)

    def fill(path: Path) -> None:
        with open(clean, "rb") as tar:
            unpack(tar, path, store.rootless)

    def send(sink: Sink) -> None:
        with open(clean, "rb") as tar:
            for data in iter(lambda: tar.read(PIECE), b""):
                sink.write(data)

    def inside() -> int:
        with timer.step("unpack"):
            root = store.put(plain, fill, f"base {request['name']}")
        with timer.step("compress"):
            written, _ = write_blob(root, send)
        if written.diff_id != plain:
            raise ToolError(f"{_CLEAN} changed while it was compressed: {written.diff_id} is not {plain}")
        facts = Facts(dpkg=owners.facts(owned, owners.read_accounts([root])))
        write_description(Identity("base", request["name"], request["suite"]), written, entries, facts)
        timer.write()
        return 0

    return run_isolated(inside)


def _verify(debs: Sequence[Deb]) -> None:
    def one(deb: Deb) -> None:
        found, _ = file_sha256(deb["file"])
        if found != deb["sha256"]:
            raise ToolError(f"{deb['file']}: its sha256 is {found}, but the lockfile says {deb['sha256']}")

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, debs))
