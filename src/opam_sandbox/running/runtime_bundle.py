"""Writes the bundle that crun and runc run. Source: OCI runtime-spec 1.0 (config.md, config-linux.md)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from opam_sandbox.running.image_config import Ids
from opam_sandbox.sandbox import kernel_files, limits, seccomp

# What podman leaves to root of a container (docker also MKNOD, NET_RAW and AUDIT_WRITE). Others have none, and get none.
_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP".split()
    )
]
# As container engines have it, and what is hidden from builds.
_MASKED = sorted({"timer_stats", *kernel_files.EMPTY, *kernel_files.HIDDEN})
_MASKED_IN_SYS = ["firmware", "devices/virtual/powercap"]
_READ_ONLY = sorted(kernel_files.READ_ONLY)


@dataclass(frozen=True)
class Container:
    """What runs, as whom, and what it sees. `mounts`: (absolute path outside, path inside)."""

    argv: Sequence[str]
    env: Sequence[str]
    workdir: str
    ids: Ids
    hostname: str
    host_network: bool
    terminal: bool
    mounts: Sequence[Tuple[str, str]]
    rootless: bool


def write_bundle(bundle: Path, root: Path, container: Container) -> None:
    """Make the directory `bundle` for a container whose root is mounted at `root`. Raises OSError."""
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(_config(root, container), indent=1))


def _config(root: Path, container: Container) -> Dict[str, Any]:
    ids = container.ids
    capabilities = _CAPABILITIES if ids.uid == 0 else []
    env = dict(entry.partition("=")[::2] for entry in container.env)
    if container.terminal:
        env.setdefault("TERM", os.environ.get("TERM", "xterm"))
    size: Dict[str, Any] = {}
    if container.terminal:
        columns, lines = os.get_terminal_size(0)
        size = {"consoleSize": {"height": lines, "width": columns}}
    namespaces = ["mount", "ipc", "uts", "cgroup"] + ([] if container.host_network else ["network"])
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": container.terminal,
            **size,
            "user": {"uid": ids.uid, "gid": ids.gid, "additionalGids": list(ids.groups)},
            "args": list(container.argv),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": container.workdir,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            # Set-uid programs give nothing to who is not root. (root's do: sudo, for one, refuses to run otherwise.)
            "noNewPrivileges": ids.uid != 0,
            "rlimits": [
                {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, soft, hard in _limits(container)
            ],
        },
        "root": {"path": str(root), "readonly": False},
        "hostname": container.hostname,
        "mounts": _mounts(container),
        "linux": {
            # No PID namespace: it shares the one that ends with the caller.
            "namespaces": [{"type": kind} for kind in namespaces],
            "maskedPaths": [f"/proc/{name}" for name in _MASKED] + [f"/sys/{name}" for name in _MASKED_IN_SYS],
            "readonlyPaths": [f"/proc/{name}" for name in _READ_ONLY],
            "seccomp": seccomp.oci_profile(os.uname().machine),
        },
    }


def _limits(container: Container) -> List[Tuple[str, int, int]]:
    found = [("CORE", 0, 0), ("NOFILE", *limits.open_files())]
    if container.rootless and limits.counts_by_namespace(os.uname().release):
        # Else all processes of that id on this machine would count.
        found.append(("NPROC", *limits.processes()))
    return found


def _mounts(container: Container) -> List[Dict[str, Any]]:
    safe = ["nosuid", "noexec", "nodev"]
    # Processes of others cannot be seen: those outside of the container are in the same PID namespace.
    proc = [*safe, "hidepid=2"]
    if not container.rootless:
        proc.append("gid=65533")  # one of nobody: who is in it sees all, and by default that is root's
    # Its group can only be given where it is mapped.
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if container.ids.uid or not container.rootless:
        pts.append("gid=5")
    mounts = [
        _mount("/proc", "proc", "proc", proc),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", pts),
        _mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", safe),
    ]
    if container.rootless and container.host_network:
        # A user namespace may show /sys anew only with a network namespace of its own.
        mounts.append(_mount("/sys", "none", "/sys", ["rbind", "rslave"]))
    else:
        mounts.append(_mount("/sys", "sysfs", "sysfs", [*safe, "ro"]))
    # What the outer mount forbids must be said again in a user namespace, or not be said at all.
    bind = ["bind"] if container.rootless else ["bind", "ro"]
    if container.host_network:
        for name in ("/etc/resolv.conf", "/etc/hosts"):
            if os.path.exists(name):
                mounts.append(_mount(name, "none", os.path.realpath(name), bind))
    mounts += [_mount(target, "none", source, ["rbind"]) for source, target in container.mounts]
    return mounts


def _mount(target: str, kind: str, source: str, options: List[str]) -> Dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}
