"""An install of .debs that sees owners as a real one does, and what it leaves behind, told by names.

Before: the accounts of all layers of the view are in its /etc/passwd and its kin, and each path that is not root's has the owner
that these give it. Without privileges all files of layers are one user's, so there they are given to his subordinate ids.

Afterwards: what was put there for the install, and was not touched, is taken out again; owners are noted; and without privileges
the files are the user's again, as all of a build's are.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from opam_sandbox.errors import BuildFailed
from opam_sandbox.layer import merge_accounts, owners, ownership
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.owners import ROOT, Owner
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import has_many_ids
from opam_sandbox.sandbox.view import View

_ACCOUNTS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
# An account's name and number are in two files, which are one layer's or none's.
_TOGETHER = ("etc/passwd", "etc/group")
_NO_IDS = (
    "it gives files to others than root, which needs subordinate ids: give this user a range of 65536 in /etc/subuid and in "
    "/etc/subgid (`usermod --add-subuids`, `--add-subgids`), and install newuidmap and newgidmap (uidmap)"
)

# What a path was when it was put there: inode, size, modification and change in ns.
_Mark = Tuple[int, int, int, int]


class RealOwners:
    """left_out: patterns of further files that are left out, as `machine_files` has them.

    given: the owners of what the install has written, as `make.Facts` has it.
    """

    def __init__(self, view: View, store: Store, layers: Sequence[Layer], left_out: Sequence[str] = ()) -> None:
        self.given: Dict[bytes, Owner] = {}
        self._view = view
        self._store = store
        self._left_out = left_out
        self._below = owners.Below(store, layers, view.overlay.lower)
        self._put: Dict[str, _Mark] = {}
        self._accounts: Dict[str, Optional[bytes]] = {}

    @contextmanager
    def shown(self, title: str) -> Iterator[None]:
        """While .debs are installed. `title` names the package that wants them. Raises BuildFailed, ToolError."""
        # Most packages have no depexts, and their builds do not wait for these.
        from opam_sandbox.beside import machine_files
        from opam_sandbox.building import secrets_of_install

        many = not self._store.rootless or has_many_ids()
        self._show(many)
        try:
            yield
        except BuildFailed as error:
            if not many and _is_refused(self._view.log_text()):
                raise BuildFailed(f"{error}: {_NO_IDS}") from None
            raise
        root = self._view.root
        changed = {name for name, text in self._accounts.items() if view_files.read(root, name, links=False) != text}
        if not many and (changed & set(_TOGETHER) or _is_refused(self._view.log_text())):
            # It may have gone on without: nothing would tell what should be whose.
            raise BuildFailed(f"{title}: its depexts cannot be installed here: {_NO_IDS}")
        upper = self._view.overlay.set_aside()
        self._take_out(upper, bool(changed))
        machine_files.settle(upper, self._view.overlay.lower, self._left_out)
        secrets_of_install.set_dates(upper, self._view.overlay.lower)
        self._note(upper, many)
        secrets_of_install.refuse(upper, self._view.overlay.lower, title)

    def _show(self, many: bool) -> None:
        root = self._view.root
        merge_accounts.merge(root, [Path(os.fsdecode(path)) for path in reversed(self._view.overlay.lower)])
        self._accounts = {name: view_files.read(root, name, links=False) for name in _ACCOUNTS}
        shown: Dict[str, Owner] = {}
        for owned in self._below.owned(owners.read_accounts([root])):
            if many and owned.wanted != (ROOT if self._store.rootless else owned.recorded):
                shown[owned.path] = owned.wanted
        for name in _ACCOUNTS:
            found = view_files.status(root, name)
            if found is not None and stat.S_ISREG(found.st_mode):
                shown.setdefault(name, (found.st_uid, found.st_gid))
        for name, owner in shown.items():
            view_files.give(root, name, owner)
        for name in shown:
            found = view_files.status(self._view.overlay.upper, name)
            if found is not None:
                self._put[name] = _mark(found)

    def _take_out(self, upper: Path, changed: bool) -> None:
        untouched: Dict[str, bool] = {}
        for name, mark in self._put.items():
            found = view_files.status(upper, name)
            if found is not None and _mark(found) == mark and not (changed and name in _TOGETHER):
                untouched[name] = stat.S_ISDIR(found.st_mode)
        for name in sorted(untouched, reverse=True):  # what is in a directory first
            with view_files.keeping_times(
                upper, os.path.dirname(name)
            ):  # of a directory that was only copied up for this
                if untouched[name]:
                    view_files.remove_if_empty(upper, name)
                else:
                    view_files.remove(upper, name)

    def _note(self, upper: Path, many: bool) -> None:
        """Note the owners of all that is not opam's; without privileges, give it to root."""
        if not many:
            return
        from opam_sandbox.beside import machine_files

        for path, found in list(machine_files.walk(upper)):
            if stat.S_ISCHR(found.st_mode) and not found.st_rdev:
                continue
            owner = (found.st_uid, found.st_gid)
            if not ownership.is_opams(path) and (owner != ROOT or self._below.of(path) != ROOT):
                self.given[path] = owner
            if self._store.rootless and owner != ROOT:
                name = os.fsdecode(path)
                view_files.give(upper, name, ROOT)


def _mark(found: os.stat_result) -> _Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_refused(log: str) -> bool:
    """Whether a program said that it may not give a file to somebody: EINVAL is of ids that a user namespace does not know."""
    lines: List[str] = [line.lower() for line in log.split("\n") if "invalid argument" in line.lower()]
    return any(word in line for line in lines for word in ("owner", "group", "chown", "chgrp", "setgid", "setuid"))
