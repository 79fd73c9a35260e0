"""Who owns what in the layers of a view, by number and by name.

A layer's archive has numbers, those of the accounts where the layer was made. Its description says which paths are not
root's, and the names that their numbers had there: in an image, two layers that were made side by side may have given one
number to two accounts, and one of these gets another (`merge_accounts`).

    "dpkg": {"owners": {"usr/bin/ssh-agent": "0:101"}, "users": {}, "groups": {"101": "_ssh"}}

What lies below opam's home is opam's, and is not listed. Without privileges all files of the store are one user's: then these
descriptions are the only ones who know owners.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox import dpkg_records
from opam_sandbox.account_files import number_of, read_entries
from opam_sandbox.errors import RequestError
from opam_sandbox.layer import ownership
from opam_sandbox.layer.capture import Taken
from opam_sandbox.layer.description import DpkgFacts, Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import layer_paths

Owner = Tuple[int, int]
ROOT: Owner = (0, 0)
_LARGEST_ID = (1 << 32) - 2


class Accounts(NamedTuple):
    """The names of users and of groups -> their numbers, as /etc/passwd and /etc/group have them."""

    users: Dict[str, int]
    groups: Dict[str, int]


class Owned(NamedTuple):
    """A path that is not root's: the owner as its layer's archive has it, and as `Accounts` have it."""

    path: str
    recorded: Owner
    wanted: Owner


class Recorded(NamedTuple):
    """An owner as a layer's archive has it, and its names there: None for root's, and for numbers without one."""

    owner: Owner
    user: Optional[str]
    group: Optional[str]


def read_accounts(roots: Iterable[Path]) -> Accounts:
    """Of the first of these directories that has the file, for each of both files."""
    tops = list(roots)
    return Accounts(_numbers(tops, "passwd"), _numbers(tops, "group"))


def _numbers(roots: Sequence[Path], name: str) -> Dict[str, int]:
    for root in roots:
        entries = read_entries(root, name)
        if entries is None:
            continue
        found: Dict[str, int] = {}
        for entry in entries:
            number = number_of(entry)
            if number is not None:
                found.setdefault(entry[0], number)
        return found
    return {}


def facts(owners: Mapping[str, Owner], accounts: Accounts) -> DpkgFacts:
    """What a description says of a layer's owners; nothing where all is root's. Of several names of a number the first counts."""
    if not owners:
        return {}
    uids, gids = ({owner[place] for owner in owners.values()} for place in (0, 1))
    return {
        "owners": {path: "%d:%d" % owners[path] for path in sorted(owners)},
        "users": _names(accounts.users, uids),
        "groups": _names(accounts.groups, gids),
    }


def _names(numbers: Mapping[str, int], wanted: Iterable[int]) -> Dict[str, str]:
    names: Dict[int, str] = {}
    for name, number in numbers.items():
        names.setdefault(number, name)
    return {str(number): names[number] for number in sorted(set(wanted) - {0}) if number in names}


def of_taken(taken: Iterable[Taken]) -> Dict[str, Owner]:
    """The paths of a captured layer that are neither root's nor below opam's home."""
    return {
        os.fsdecode(one.path): (one.uid, one.gid)
        for one in taken
        if (one.uid, one.gid) != ROOT and not ownership.is_opams(one.path) and not layer_paths.is_whiteout(one.stat)
    }


class Below:
    """The owners of what lies in the layers of a view; `lower`: their directories in `store`, topmost first."""

    def __init__(self, store: Store, layers: Sequence[Layer], lower: Sequence[bytes]) -> None:
        self._lower = lower
        self._rootless = store.rootless
        self._facts = {os.fsencode(store.path(layer.diff_id)): layer.dpkg for layer in layers}
        self._recorded = {path for layer in layers for path in layer.dpkg.get("owners", {})}
        self._overrides = _overrides(layers)

    def of(self, path: bytes) -> Owner:
        """As the topmost layer that has the path says. Raises RequestError for a description that makes no sense."""
        if ownership.is_opams(path):
            return ownership.owner(path)
        found = self._find(os.fsdecode(path))
        return ROOT if found is None else found.owner

    def owned(self, accounts: Accounts) -> List[Owned]:
        """All paths of the view that are not root's, nor opam's, in order, and those that dpkg-statoverride gives to somebody
        else than their layer does. Raises RequestError as `of`."""
        result: List[Owned] = []
        for name in sorted({*self._recorded, *self._overrides}):
            found = self._find(name)
            override = self._override(name)
            if override is not None:
                recorded = ROOT if found is None else found.owner
                user, group = override
                wanted = _number(user, accounts.users, recorded[0]), _number(group, accounts.groups, recorded[1])
                result.append(Owned(name, recorded, wanted))
            elif found is not None:
                uid, gid = found.owner
                wanted = (
                    uid if found.user is None else accounts.users.get(found.user, uid),
                    gid if found.group is None else accounts.groups.get(found.group, gid),
                )
                result.append(Owned(name, found.owner, wanted))
        return result

    def recorded(self, path: str) -> Recorded:
        """What is known of a path that is not opam's: root's, where no layer says anything. Raises RequestError as `of`."""
        found = self._find(path) or Recorded(ROOT, None, None)
        override = self._override(path)
        if override is None:
            return found
        owner = _number(override[0], {"root": 0}, found.owner[0]), _number(override[1], {"root": 0}, found.owner[1])
        user, group = (None if name == "root" or name.startswith("#") else name for name in override)
        return Recorded(owner, user, group)

    def _override(self, name: str) -> Optional[Tuple[str, str]]:
        """The USER and GROUP that dpkg-statoverride gives a path, if the topmost layer that has it was made without knowing."""
        facts = self._topmost(name) if name in self._overrides else None
        if facts is None:
            return None
        records = facts.get("records", {}).get(dpkg_records.STATOVERRIDES, {})
        return None if name in map(dpkg_records.merged_name, records) else self._overrides[name]

    def _find(self, name: str) -> Optional[Recorded]:
        known = self._topmost(name) if name in self._recorded else None
        if known is None or name not in known.get("owners", {}):
            return None
        uid, gid = _parse(known["owners"][name])
        return Recorded((uid, gid), known.get("users", {}).get(str(uid)), known.get("groups", {}).get(str(gid)))

    def _topmost(self, name: str) -> Optional[DpkgFacts]:
        """What the topmost layer that has the path says; None where none has it."""
        for directory in self._lower:
            here = layer_paths.look(directory, os.fsencode(name), self._rootless)
            if here.status is not None:
                return self._facts.get(directory, {})
            if here.hides:
                return None
        return None


def _overrides(layers: Sequence[Layer]) -> Dict[str, Tuple[str, str]]:
    """The paths of dpkg-statoverride's records of all layers (bottom first) -> USER and GROUP."""
    found: Dict[str, Tuple[str, str]] = {}
    for layer in layers:
        for path in layer.dpkg.get("gone", {}).get(dpkg_records.STATOVERRIDES, ()):
            found.pop(dpkg_records.merged_name(path), None)
        for path, value in layer.dpkg.get("records", {}).get(dpkg_records.STATOVERRIDES, {}).items():
            words = value.split()
            if len(words) > 1:
                found[dpkg_records.merged_name(path)] = words[0], words[1]
    return found


def _number(name: str, numbers: Mapping[str, int], default: int) -> int:
    """Of an account as dpkg-statoverride(1) has it: a name, or `#` and a number."""
    if name.startswith("#"):
        return _parse(f"{name[1:]}:0")[0]
    return numbers.get(name, default)


def _parse(text: str) -> Owner:
    numbers = text.split(":")
    if len(numbers) != 2 or not all(one.isascii() and one.isdigit() and len(one) < 11 for one in numbers):
        raise RequestError(f"layer.json: {text!r:.80} is no owner")
    uid, gid = int(numbers[0]), int(numbers[1])
    if max(uid, gid) > _LARGEST_ID:
        raise RequestError(f"layer.json: {text!r:.80} is no owner")
    return uid, gid
