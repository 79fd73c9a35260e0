"""crun and runc: how they are called, what they say of their own failures, and what is hidden from them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Dict, List

from opam_sandbox.sandbox import syscalls

# In the container's directory.
_LOG = "log"


def command(program: str, kind: str, scratch: Path, bundle: Path, own_log: bool) -> List[str]:
    """The words that run a bundle. own_log: what the runtime itself fails of is for `failure`, not for the command's readers."""
    # Nothing is limited, and a container that is killed is to leave no control group behind. (runc warns that it finds
    # none to end processes by: the PID namespace does that. What it fails of it also says on standard error.)
    options: Dict[str, List[str]] = {
        "crun": ["--cgroup-manager=disabled", *([f"--log={scratch / _LOG}"] if own_log else [])],
        "runc": ["--rootless=true", f"--log={scratch / _LOG}"],
    }
    state, pid = f"--root={scratch / 'state'}", f"--pid-file={scratch / 'pid'}"
    return [program, state, *options[kind], "run", pid, f"--bundle={bundle}", f"opam-oci-{scratch.name}"]


def failure(scratch: Path) -> str:
    """What a runtime has failed of, out of its log; "" for nothing."""
    try:
        lines = (scratch / _LOG).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(line for line in lines if line.strip() and "level=warning" not in line)


def hide_cgroups(kind: str) -> None:
    """In this mount namespace only: runc makes a control group as root unless it cannot, and crun 1.8 does not start at all
    where a cgroup v2 hierarchy lies beside those of v1."""
    if kind == "crun":
        if os.path.isdir("/sys/fs/cgroup/unified"):
            syscalls.mount(
                "tmpfs",
                "/sys/fs/cgroup",
                "tmpfs",
                syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC,
                "size=64k",
            )
        return
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        mounts = [line.split() for line in lines]
    for mount in mounts:
        if mount[mount.index("-") + 1] in ("cgroup", "cgroup2"):
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
            flags |= syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
            try:
                syscalls.mount("none", mount[4], flags=flags)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOENT, errno.EACCES):
                    raise
