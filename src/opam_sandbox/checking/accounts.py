"""Users of an image, as its /etc/passwd and /etc/group have them."""

from __future__ import annotations

from typing import Dict, List, NamedTuple

from opam_sandbox.checking.requests import UserCheck
from opam_sandbox.checking.results import Result, differs, shown
from opam_sandbox.checking.tree import Tree, text_of

PASSWD, GROUP = "/etc/passwd", "/etc/group"


class User(NamedTuple):
    """A line of /etc/passwd; numbers as they stand there."""

    uid: str
    gid: str
    home: str
    shell: str


class Accounts:
    """By name. The first line of a name counts, as for programs that look it up. Raises ToolError for one that is too large."""

    def __init__(self, tree: Tree) -> None:
        self.users: Dict[str, User] = {}
        self.groups: Dict[str, str] = {}
        self.members: Dict[str, List[str]] = {}
        for row in _rows(text_of(tree, PASSWD), 7):
            self.users.setdefault(row[0], User(row[2], row[3], row[5], row[6]))
        for row in _rows(text_of(tree, GROUP), 4):
            if row[0] not in self.groups:
                self.groups[row[0]] = row[2]
                self.members[row[0]] = row[3].split(",")


def _rows(text: str, columns: int) -> List[List[str]]:
    rows = [line.split(":") for line in text.split("\n")]
    return [row for row in rows if len(row) == columns]


def check_users(accounts: Accounts, checks: List[UserCheck]) -> List[Result]:
    """A result for each."""
    return [Result("user", check["name"], _problems(accounts, check)) for check in checks]


def _problems(accounts: Accounts, check: UserCheck) -> List[str]:
    name = check["name"]
    user = accounts.users.get(name)
    if check.get("absent"):
        return ["there is such a user"] if user is not None else []
    if user is None:
        return ["there is no such user in /etc/passwd"]
    problems: List[str] = []
    if "uid" in check:
        problems += differs("the uid", user.uid, str(check["uid"]))
    if "gid" in check:
        problems += differs("the gid", user.gid, str(check["gid"]))
    if "home" in check:
        problems += differs("the home directory", user.home, check["home"])
    if "shell" in check:
        problems += differs("the shell", user.shell, check["shell"])
    mine = sorted(group for group, gid in accounts.groups.items() if gid == user.gid or name in accounts.members[group])
    for group in check.get("groups", ()):
        if group not in mine:
            problems.append(f"it is in no group {group!r}, but in {shown(mine)}")
    return problems
