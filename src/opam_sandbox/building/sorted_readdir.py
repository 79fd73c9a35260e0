"""Has the programs of a build see every directory sorted by name.

In what order the kernel lists a directory depends on the file system, on a secret of its own (ext4's hash seed) and, in
memory, on the kernel's version. Builds let it slip into what they install: ocamlbuild passes `-I` in that order, and compilers
write their command lines into .cmt and .cmti files. A library that is preloaded into every program sorts what readdir(3) gives.
It is compiled by the base's own gcc, once for each base, and kept in the store. Its source is sorted_readdir.c, beside this file.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

LIBRARY = "sorted-readdir.so"
_SOURCE = "readdir.c"

# It is loaded into every program, ten thousand times by one `configure`: it has nothing to run at its start, as few
# segments to map as can be, and needs libdl only where that is a library.
_COMMAND = (
    *("gcc", "-shared", "-fPIC", "-O2", "-s", "-nostartfiles", "-Wl,--as-needed"),
    *("-Wl,-z,norelro", "-Wl,-z,noseparate-code", "-Wl,--hash-style=gnu"),
    *("-o", f"/tmp/{LIBRARY}", f"/tmp/{_SOURCE}", "-ldl", "-lpthread"),
)


def library(view: View, store: Store, base: Layer) -> Optional[Path]:
    """The library for programs of this base, compiled in the merged view if nobody has yet; None if the base cannot."""
    if not view_files.exists(view.root, "usr/bin/gcc"):
        return None
    source = Path(__file__).with_suffix(".c").read_bytes()
    key = hashlib.sha256("\n".join([base.diff_id, *_COMMAND]).encode() + source).hexdigest()

    def fill(target: Path) -> None:
        temporary = view.root / "tmp"
        view_files.write(temporary, _SOURCE, source)
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": "/tmp"}
        done = view.overlay.run(_COMMAND, env, view.log, user=False)
        made = view_files.read(temporary, LIBRARY, links=False)
        if done.returncode != 0 or made is None:
            raise ToolError(f"the base's gcc made no library (exit status {done.returncode})")
        (target / LIBRARY).write_bytes(made)
        os.chmod(target / LIBRARY, 0o644)
        for name in (_SOURCE, LIBRARY):
            view_files.remove(temporary, name)

    try:
        return store.put(key, fill) / LIBRARY
    except ToolError:
        return None  # such as a gcc without libc's headers: as little use as none
