"""What the targets of one run are about to write, so that no two of them write the same."""

from __future__ import annotations

import posixpath
import threading

from pants.engine.addresses import Address

from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule


class Claims:
    """Who writes what in a run. Rules that run at once may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, Address] = {}
        self._paths: dict[str, Address] = {}
        # Directories that somebody writes into, each with one who does.
        self._directories: dict[str, Address] = {}

    def claim_name(self, name: str, owner: Address) -> Address | None:
        """Take a name. Returns another target that has it in this run, or None: then it is the owner's."""
        with self._lock:
            other = self._names.setdefault(name, owner)
        return None if other == owner else other

    def claim_path(self, path: str, owner: Address) -> Address | None:
        """Take a relative path and all below it. Returns another target that has a part of that in this run, or None."""
        path = posixpath.normpath(path)
        parents = []
        parent = posixpath.dirname(path)
        while parent:
            parents.append(parent)
            parent = posixpath.dirname(parent)
        with self._lock:
            found = [self._paths.setdefault(path, owner), self._directories.get(path)]
            found += [self._paths.get(parent) for parent in parents]
            for parent in parents:
                self._directories.setdefault(parent, owner)
        return next((other for other in found if other is not None and other != owner), None)


@uncacheable_rule
async def claims_of_this_run() -> Claims:
    """New ones for each run, equal to none before: rules that ask for them are run again in each, and claim again."""
    return Claims()


def rules() -> list[object]:
    return [*collect_rules()]
