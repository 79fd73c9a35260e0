"""A skopeo that makes and takes sigstore's signatures. Debian 12's does not, on purpose; Debian 13's does."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.checkout import tool


def put_skopeo(top: Path) -> Path:
    """A new directory below `top` for PATH with such a `skopeo`: this machine's own, or one that runs Debian 13's with all its
    libraries, and with nothing of its root but those."""
    directory = top / "bin"
    directory.mkdir()
    own = shutil.which("skopeo")
    # What can make a key can use it.
    if own is not None and "generate-sigstore-key" in tool(own, "--help").stdout:
        (directory / "skopeo").symlink_to(own)
        return directory
    root = top / "trixie"
    tool("mmdebstrap", "--variant=extract", "--include=skopeo", "trixie", str(root), apt_mirrors(Path("/etc/apt"))[0])
    [loader] = root.glob("usr/lib*/ld-linux-*.so.*")
    libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
    script = f'#!/bin/sh\nexec {loader} --library-path {libraries} {root}/usr/bin/skopeo "$@"\n'
    (directory / "skopeo").write_text(script)
    (directory / "skopeo").chmod(0o755)
    return directory
