"""Makes a view of several layers what dpkg would have made of it, had it installed all their packages one after the other.

Layers beside one another were built without each other's records. Besides the records themselves (`dpkg.merge`):

    diversions     A file that one layer's package diverts, and another layer's package brought to its old place, is moved.
    statoverride   A file that another layer's package brought gets the mode. `layer/owners.py` says its owner.
    alternatives   Where several layers offer the same command, the base's update-alternatives chooses among all of them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import List, Optional, Sequence

from opam_sandbox import dpkg, dpkg_records
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import DpkgFacts
from opam_sandbox.opam.switch import environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import LOG, View

_INFO = f"{dpkg_records.DATABASE}/info"


def unite(view: View, additions: Sequence[DpkgFacts]) -> bool:
    """Put the view's Debian part right; returns whether any layer has one. `additions`: what each layer's description says.

    Raises ToolError where layers contradict one another.
    """
    if not dpkg.merge(view.root, additions):
        return False
    layers = [Path(os.fsdecode(path)) for path in reversed(view.overlay.lower)]
    ours = {path for facts in additions for path in facts.get("records", {}).get(dpkg_records.DIVERSIONS, {})}
    for path, value in dpkg_records.read_table(view.root, dpkg_records.DIVERSIONS).items():
        if path in ours:
            _divert(view, layers, path, *value.split("\n"))
    overridden = {path for facts in additions for path in facts.get("records", {}).get(dpkg_records.STATOVERRIDES, {})}
    for path, value in dpkg_records.read_table(view.root, dpkg_records.STATOVERRIDES).items():
        if path in overridden:
            _override(view.root, path, value)
    for name in dpkg.changed(additions, dpkg_records.ALTERNATIVES):
        _choose(view, name)
    return True


def _divert(view: View, layers: Sequence[Path], path: str, to: str, package: str) -> None:
    """Move what layers have at `path` whose packages were installed without the diversion."""
    source, target = path.lstrip("/"), to.lstrip("/")
    strangers = [place for place, layer in enumerate(layers) if _is_strangers(layer, source, target, package)]
    # What the diverting package found there, it has moved itself, into its own layer.
    misplaced = [place for place in strangers if not any(_is_there(layer, target) for layer in layers[place + 1 :])]
    if not misplaced:
        return
    _copy(layers[misplaced[-1]], source, view.root, target)
    having = [place for place, layer in enumerate(layers) if view_files.status(layer, _real(layer, source)) is not None]
    if having[-1] not in strangers:
        return
    own = [layer for place, layer in enumerate(layers) if place not in strangers and _is_there(layer, source)]
    if own:
        _copy(own[-1], source, view.root, source)
    else:
        view_files.remove(view.root, _real(view.root, source))


def _is_there(layer: Path, path: str) -> bool:
    """Whether a layer has a file or a link of this name, which no whiteout is."""
    found = view_files.status(layer, _real(layer, path))
    return found is not None and (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode))


def _real(layer: Path, path: str) -> str:
    """dpkg names files by where they were before /bin and its like became links."""
    top = path.split("/", 1)[0]
    merged = top in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") and not view_files.is_directory(layer, top)
    return f"usr/{path}" if merged else path


def _is_strangers(layer: Path, source: str, target: str, package: str) -> bool:
    """Whether a layer's file is of another package than the diverting one, and was not diverted."""
    if not _is_there(layer, source) or _is_there(layer, target):
        return False
    owners = _owners(layer, source)
    return bool(owners) and package not in owners


def _owners(layer: Path, path: str) -> List[str]:
    """The packages that a layer has installed, and that have a file of this name."""
    found = []
    for name in view_files.names(layer, _INFO):
        if name.endswith(".list"):
            lines = (view_files.read_text(layer, f"{_INFO}/{name}") or "").split("\n")
            if f"/{path}" in lines:
                found.append(name[: -len(".list")].partition(":")[0])
    return found


def _copy(layer: Path, source: str, root: Path, target: str) -> None:
    source, target = _real(layer, source), _real(root, target)
    found = view_files.status(layer, source)
    assert found is not None
    owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
    if stat.S_ISLNK(found.st_mode):
        view_files.make_link(root, target, view_files.read_link(layer, source), owner)
        return
    content = view_files.read(layer, source, links=False)
    assert content is not None
    view_files.write(root, target, content, stat.S_IMODE(found.st_mode), owner)


def _override(root: Path, path: str, value: str) -> None:
    """Give a file or directory the mode of `user group mode`."""
    name = _real(root, path.lstrip("/"))
    found = view_files.status(root, name)
    words = value.split()
    mode = _octal(words[-1]) if words else None
    if found is None or stat.S_ISLNK(found.st_mode) or mode is None or stat.S_IMODE(found.st_mode) == mode:
        return
    view_files.change_mode(root, name, mode)


def _octal(text: str) -> Optional[int]:
    try:
        mode = int(text, 8)
    except ValueError:
        return None
    return mode if 0 <= mode <= 0o7777 else None


def _choose(view: View, name: str) -> None:
    """Have the links of an alternative lead where its record says. Who chose one by hand keeps it."""
    table = dpkg_records.read_table(view.root, dpkg_records.ALTERNATIVES + name)
    if table.get("", "").split("\n")[0] != "auto":
        return
    argv = ["update-alternatives", "--quiet", "--log", "/dev/null", "--auto", name]
    done = view.overlay.run(argv, {"PATH": environment(1)["PATH"], "LC_ALL": "C.UTF-8"}, view.log, user=False)
    if done.returncode != 0:
        raise ToolError(
            f"update-alternatives failed in the image for {name!r:.200} (exit status {done.returncode}), see {LOG}"
        )
