"""Files of an image: whether they are there, and what they are."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from opam_sandbox.checking.accounts import Accounts
from opam_sandbox.checking.requests import FileCheck
from opam_sandbox.checking.results import Result, differs, unmatched
from opam_sandbox.checking.tree import LARGEST_TEXT, Node, Tree
from opam_sandbox.layer import tar_headers

_KINDS = {
    tar_headers.REGULAR: "file",
    tar_headers.SYMLINK: "link",
    tar_headers.DIRECTORY: "directory",
    tar_headers.CHARDEV: "character device",
    tar_headers.BLOCKDEV: "block device",
    tar_headers.FIFO: "pipe",
}
_OF_CONTENT = ("contains", "lacks", "sha256")


def check_files(tree: Tree, accounts: Accounts, checks: List[FileCheck]) -> List[Result]:
    """A result for each. Raises ToolError for damaged layers."""
    found: List[Tuple[FileCheck, Optional[Node]]] = [
        (check, tree.find(check["path"], check.get("follow", False))) for check in checks
    ]
    tree.load(node for check, node in found if node is not None and of_content(check))
    return [Result("file", check["path"], _problems(check, node, accounts)) for check, node in found]


def of_content(check: FileCheck) -> bool:
    """Whether the check is about what a file holds."""
    return any(key in check for key in _OF_CONTENT)


def _problems(check: FileCheck, node: Optional[Node], accounts: Accounts) -> List[str]:
    if check.get("absent"):
        return [] if node is None else [f"there is a {_KINDS[node.kind]}, but should be nothing"]
    if node is None:
        return ["there is nothing"]
    problems: List[str] = []
    if "type" in check:
        problems += differs("its type", _KINDS[node.kind], check["type"])
    if "mode" in check:
        problems += differs("its mode", f"{node.mode:04o}", check["mode"])
    if "owner" in check:
        uids = {name: user.uid for name, user in accounts.users.items()}
        problems += _owner("owner", node.uid, check["owner"], uids, "/etc/passwd")
    if "group" in check:
        problems += _owner("group", node.gid, check["group"], accounts.groups, "/etc/group")
    if "target" in check:
        where = node.target.decode("utf-8", "surrogateescape") if node.kind == tar_headers.SYMLINK else None
        problems += ["it is no link"] if where is None else differs("its target", where, check["target"])
    return problems + _content(check, node)


def _owner(what: str, number: int, wanted: str, known: Dict[str, str], file: str) -> List[str]:
    expected = wanted if wanted.isdecimal() else known.get(wanted)
    if expected is None:
        return [f"its {what} should be {wanted!r}, whom the image's {file} does not have"]
    if expected == str(number):
        return []
    names = [name for name, one in known.items() if one == str(number)]
    called = f" ({names[0]})" if names else ""
    return [f"its {what} is {number}{called}, but should be {wanted}"]


def _content(check: FileCheck, node: Node) -> List[str]:
    asked = [key for key in (*_OF_CONTENT, "size", "max_size") if key in check]
    if not asked:
        return []
    if node.kind != tar_headers.REGULAR:
        hint = ' (`"follow": True` looks at what it leads to)' if node.kind == tar_headers.SYMLINK else ""
        return [f"it has no content to compare, as it is a {_KINDS[node.kind]}{hint}"]
    problems: List[str] = []
    if "size" in check:
        problems += differs("its size in bytes", node.size, check["size"])
    if "max_size" in check and node.size > check["max_size"]:
        problems.append(f"it has {node.size:,} bytes, but should have at most {check['max_size']:,}")
    if "sha256" in check:
        problems += differs("its sha256", node.sha256, check["sha256"])
    wanted, unwanted = check.get("contains", []), check.get("lacks", [])
    if (wanted or unwanted) and node.content is None:
        problems.append(f"it has {node.size:,} bytes; patterns are looked for in files of at most {LARGEST_TEXT:,}")
    elif node.content is not None:
        problems += unmatched("it", node.content.decode("utf-8", "surrogateescape"), wanted, unwanted)
    return problems
