"""Files of a view, or of an unpacked layer, for code that stands outside of it.

Packages made these files, their links among them. Nothing outside of a view follows a link that was made inside one: a
name is either refused where a link is on its way (all that writes), or its links are followed as a process inside sees them,
with `root` as their root (all that only reads).

In all functions `root` is a directory that this process made or mounted, and names are relative to it, with `/` between
components. All is done by descriptors (see `open_in_root`), so that processes which still run in the view change nothing of
this. What is mounted in a view is not found from its root: names below its /tmp are looked up with `root / "tmp"` as `root`.
"""

from __future__ import annotations

from opam_sandbox.sandbox.view_changes import (
    NewFile,
    Owner,
    change_mode,
    change_owner,
    give,
    keeping_times,
    make_directories,
    make_directory,
    make_file,
    make_hard_link,
    make_link,
    overwrite,
    remove,
    remove_directory,
    remove_if_empty,
    write,
    write_all,
)
from opam_sandbox.sandbox.view_lookups import (
    exists,
    is_directory,
    is_link,
    mount_point,
    names,
    open_file,
    read,
    read_link,
    read_text,
    resolve,
    status,
    walk,
)

__all__ = [
    "NewFile",
    "Owner",
    "change_mode",
    "change_owner",
    "exists",
    "give",
    "is_directory",
    "is_link",
    "keeping_times",
    "make_directories",
    "make_directory",
    "make_file",
    "make_hard_link",
    "make_link",
    "mount_point",
    "names",
    "open_file",
    "overwrite",
    "read",
    "read_link",
    "read_text",
    "remove",
    "remove_directory",
    "remove_if_empty",
    "resolve",
    "status",
    "walk",
    "write",
    "write_all",
]
