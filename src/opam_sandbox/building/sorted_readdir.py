"""Has the programs of a build see every directory sorted by name.

In what order the kernel lists a directory depends on the file system, on a secret of its own (ext4's hash seed) and, in
memory, on the kernel's version. Builds let it slip into what they install: ocamlbuild passes `-I` in that order, and compilers
write their command lines into .cmt and .cmti files. A library that is preloaded into every program sorts what readdir(3) gives.
It is compiled by the base's own gcc, in a view of the base alone: what a package or its depexts put in gcc's place has no say in
what others are built with. It is kept in the store, once for each base, with a record of what it is and of what it was made.
Its source is sorted_readdir.c, beside this file.

What a program may do is the same with it as without. It is named in /etc/ld.so.preload, not in LD_PRELOAD: environments are
nobody's but the build's, programs of another libc (musl) do not load it, and what is linked statically has never done so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Dict, Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import LOG, View

LIBRARY = "sorted-readdir.so"
_RECORD = "made-of.json"
_SOURCE = "readdir.c"
# By what a base says that it can compile. What it has does not change; whether gcc succeeds may be the machine's.
_NEEDED = ("usr/bin/gcc", "usr/include/dirent.h")

# It is loaded into every program, ten thousand times by one `configure`: it has nothing to run at its start, as few
# segments to map as can be, and needs libdl only where that is a library.
_COMMAND = (
    *("gcc", "-shared", "-fPIC", "-O2", "-s", "-nostartfiles", "-Wl,--as-needed"),
    *("-Wl,-z,norelro", "-Wl,-z,noseparate-code", "-Wl,--hash-style=gnu"),
    *("-o", f"/tmp/{LIBRARY}", f"/tmp/{_SOURCE}", "-ldl", "-lpthread"),
)

# Where it is shown: among the devices, of which nothing is in a layer.
_DIRECTORY = "sorted-readdir"
# A program with an address sanitizer ends itself where the first library that it loads has a name without `libasan.so`: its
# checks are to be in front. The library takes none of them away, as it calls the next readdir and malloc, which are the
# sanitizer's. The name is a link's: where the sanitizer is linked statically, no file in memory may have such a name.
_NAME = "not-libasan.so"


def show(view: View, library: Path) -> None:
    """Have all programs of opam's load the library. Raises OSError."""
    # Its content, as a mount would say where the store is.
    view.overlay.show_in_dev(f"{_DIRECTORY}/{LIBRARY}", library.read_bytes())
    view.overlay.show_in_dev(f"{_DIRECTORY}/{_NAME}", LIBRARY)
    view.overlay.preload(f"/dev/{_DIRECTORY}/{_NAME}")


def library(store: Store, base: Layer) -> Optional[Path]:
    """The library for programs of this base, compiled if it is not there or not what it was; None if the base has no gcc, or
    none of libc's headers.

    Only inside `run_isolated`, while nothing else runs there. Raises ToolError where gcc makes nothing: to go on without the
    library would be another layer than where gcc was not killed, or had room.
    """
    root = store.get(base)
    if not all(view_files.exists(root, name) for name in _NEEDED):
        return None
    source = Path(__file__).with_suffix(".c").read_bytes()
    made_of = {
        "base": base.diff_id,
        "command": " ".join(_COMMAND),
        "source": hashlib.sha256(source).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def fill(target: Path) -> None:
        made = _compile(store, base, source)
        (target / LIBRARY).write_bytes(made)
        os.chmod(target / LIBRARY, 0o644)
        record = {**made_of, "sha256": hashlib.sha256(made).hexdigest()}
        (target / _RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    found = store.put(key, fill, LIBRARY)
    if not _is_recorded(found, made_of):
        print(f"warning: {LIBRARY} is not what was made of {base.title}; it is made again", file=sys.stderr)
        store.discard(key)
        found = store.put(key, fill, LIBRARY)
    return found / LIBRARY


def _compile(store: Store, base: Layer, source: bytes) -> bytes:
    """Raises ToolError where the base's gcc makes nothing."""
    with mounted(store, [base], name="sorted-readdir") as view:
        temporary = view.root / "tmp"
        view_files.write(temporary, _SOURCE, source)
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": "/tmp"}
        done = view.overlay.run(_COMMAND, env, view.log, user=False)
        made = view_files.read(temporary, LIBRARY, links=False)
    if done.returncode != 0 or made is None:
        raise ToolError(
            f"the gcc of {base.title} does not compile what sorts directories for builds (exit status {done.returncode}); "
            f"what it printed is in {LOG}"
        )
    return made


def _is_recorded(directory: Path, made_of: Dict[str, str]) -> bool:
    """Whether a library is the one that its record names, and was made of this."""
    try:
        record = json.loads((directory / _RECORD).read_text())
        found = hashlib.sha256((directory / LIBRARY).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False
    return bool(record == {**made_of, "sha256": found})
