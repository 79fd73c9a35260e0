"""`enter`: a person's command over the layers of an image, as user opam, in opam's environment, with this process's streams.

The view is that of a build: nothing of the machine is in it but what the request mounts, and what is written elsewhere is gone at
the end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Sequence

from opam_sandbox.entering import host_directories
from opam_sandbox.entering.requests import EnterRequest
from opam_sandbox.errors import RequestError
from opam_sandbox.layer.description import Layer, read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import Ended, is_rootless, run_isolated

# What a login has; opam says the rest.
_USER = {"USER": "opam", "LOGNAME": "opam", "SHELL": "/bin/sh", "TERM": "dumb"}


def run(request: EnterRequest, words: Sequence[str] = ()) -> int:
    """Run the request's command, with these words behind its own; its exit status, 128 + N for a signal. Raises ToolError."""
    layers = read_layers(request["layers"])
    argv = [*request["command"], *words]
    if not layers or layers[-1].kind != "state":
        raise RequestError("layers: the last should be a state")
    if not argv:
        raise RequestError("command: it has no words")
    env = _environment(layers[-1], request["env"])
    rootless = is_rootless()
    directories = host_directories.find(request["mounts"], rootless)
    host_directories.check_start(request["cwd"], directories)

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        # It may stay for hours: it claims no memory that builds could have.
        with mounted(store, layers, room=0) as view:
            host_directories.show(view, directories)
            if request["network"]:
                view.overlay.show_network()
            return view.overlay.run(argv, env, view.log, user=True, cwd=request["cwd"], person=True).returncode

    try:
        return run_isolated(inside, network=request["network"])
    except Ended as ended:
        return 128 + ended.number


def _environment(state: Layer, more: List[str]) -> Dict[str, str]:
    given = {} if "TERM" not in os.environ else {"TERM": os.environ["TERM"]}
    env = {**_USER, **given}
    for item in (*state.opam.get("env", ()), *more):
        name, equals, value = item.partition("=")
        if not name or not equals or "\0" in item:
            raise RequestError(f"env: {item!r:.80} is no variable")
        env[name] = value
    return env
