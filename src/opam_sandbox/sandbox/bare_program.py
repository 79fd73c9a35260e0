"""A program of an unpacked root that reads and writes what it has open, and needs nothing else: one that compresses."""

from __future__ import annotations

import os

from opam_sandbox.sandbox import privileges, seccomp, syscalls


def enter(root: str) -> None:
    """For a child before exec: `root` is its root directory, read-only, and it has no capabilities. The calling process must
    be allowed to mount. Raises OSError.

    There is neither /proc nor a device. A chroot is enough, as nothing outside is open and no capability is left to leave
    it; the files are the store's own, and whoever owns them is not to change them.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount(root, root, flags=syscalls.MS_BIND)
    syscalls.make_read_only(root)
    os.chroot(root)
    os.chdir("/")
    privileges.keep_only(frozenset())
    syscalls.no_new_privileges()
    seccomp.load()
