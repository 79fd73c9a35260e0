"""Layers mounted over one another, for the work of a command."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Iterator, Optional, Sequence

from opam_sandbox import machine_errors
from opam_sandbox.layer import closed
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import kill_stragglers
from opam_sandbox.sandbox.overlay import Overlay
from opam_sandbox.sandbox.view import LOG, Timer, View


@contextmanager
def mounted(
    store: Store,
    layers: Sequence[Layer],
    timer: Optional[Timer] = None,
    name: str = "scratch",
    room: Optional[int] = None,
) -> Iterator[View]:
    """The merged view of `layers` (bottom first), with build.log for what its commands print.

    Only inside `run_isolated`. `name`: the scratch directory, below the current one. room: see `Overlay`; None: what there is.

    At the end whatever runs in the namespaces is killed, and what was written is removed. Raises ToolError.
    """
    timer = timer or Timer()
    with timer.step("unpack"):
        lower = [store.get(layer) for layer in layers]
    with ExitStack() as stack:
        if room is None:
            room = stack.enter_context(store.memory())
        # Set-uid programs that a package makes are for nobody else.
        directory = stack.enter_context(store.scratch(store.place(name, room), mode=0o700))
        log = stack.enter_context(open(LOG, "ab"))
        overlay = Overlay(lower, directory, store.rootless, room, closed.names)
        try:
            with timer.step("mount"):
                overlay.mount()
            place = (directory, "what a build writes", machine_errors.SANDBOXES)
            with machine_errors.suspecting(*place), machine_errors.at(*place):
                yield View(overlay, log, timer, directory)
        finally:
            # Nobody is to write any more, and what still runs would keep the directory.
            kill_stragglers()
            with timer.step("clean"):
                overlay.remove()
