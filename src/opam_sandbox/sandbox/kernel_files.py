"""/proc of a sandbox or a container, without what is the whole machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from opam_sandbox.sandbox import syscalls

_MOUNT = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC

# root of the namespace would be let in there, although it is the whole machine's: as OCI runtimes have it by default.
READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "pressure", "mtrr")
EMPTY = ("acpi", "asound", "scsi")
HIDDEN = (
    *("kcore", "keys", "key-users", "timer_list", "latency_stats", "sched_debug", "kmsg", "kallsyms", "interrupts"),
    # What the machine's memory is used for.
    *("kpagecount", "kpageflags", "kpagecgroup", "pagetypeinfo", "slabinfo", "vmallocinfo"),
)


def mount_proc(target: Path, masked: bool = True) -> None:
    """Mount /proc of this process's PID namespace at `target`.

    masked: what the machine's root may write is read-only, and what tells of the machine is empty. In a user namespace in
    which another /proc is to be mounted it must not be: the kernel asks for one that hides nothing. Raises OSError.
    """
    syscalls.mount("proc", target, "proc", _MOUNT)
    if not masked:
        return
    for name in READ_ONLY:
        path = target / name
        if path.exists():
            syscalls.mount(path, path, flags=syscalls.MS_BIND)
            syscalls.mount("none", path, flags=syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _MOUNT)
    for name in EMPTY:
        if (target / name).exists():
            syscalls.mount("tmpfs", target / name, "tmpfs", syscalls.MS_RDONLY | _MOUNT, "mode=555,size=4k")
    mask: Optional[Path] = None
    for name in HIDDEN:
        path = target / name
        if path.exists():
            # A mount of a read-only mount is read-only, too.
            syscalls.mount(mask or "/dev/null", path, flags=syscalls.MS_BIND)
            if mask is None:
                syscalls.make_read_only(path)
                mask = path
