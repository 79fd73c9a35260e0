"""The system calls that are refused in a sandbox, by their numbers: see `seccomp`, which makes a filter of this."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple


class Kind(NamedTuple):
    """Programs that are made for one machine: their column in the table, and AUDIT_ARCH_* of linux/audit.h."""

    column: int
    audit_arch: int


# What a machine runs besides: programs of images may be of these kinds.
SCMP_ARCH = {"x86_64": ("X86_64", "X86", "X32"), "aarch64": ("AARCH64", "ARM")}

KINDS = {"x86_64": Kind(0, 0xC000003E), "aarch64": Kind(1, 0xC00000B7), "i386": Kind(2, 0x40000003)}
# What each machine runs, its own first: i386's calls have their own numbers, whoever makes them. All others end the process.
RUNS = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}

Numbers = Tuple[Optional[int], Optional[int], Optional[int]]

# name: number on x86_64, on aarch64, on i386 (None: it has no such call). Refused with EPERM.
REFUSED: Dict[str, Numbers] = {
    # the machine's clock, swap, accounts, modules, kernel, log, name
    "acct": (163, 89, 51),
    "adjtimex": (159, 171, 124),
    "clock_adjtime": (305, 266, 343),
    "clock_settime": (227, 112, 264),
    "create_module": (174, None, 127),
    "delete_module": (176, 106, 129),
    "finit_module": (313, 273, 350),
    "init_module": (175, 105, 128),
    "ioperm": (173, None, 101),
    "iopl": (172, None, 110),
    "kexec_file_load": (320, 294, None),
    "kexec_load": (246, 104, 283),
    "lookup_dcookie": (212, 18, 253),
    "quotactl": (179, 60, 131),
    "quotactl_fd": (443, 443, 443),
    "reboot": (169, 142, 88),
    "setdomainname": (171, 162, 121),
    "sethostname": (170, 161, 74),
    "settimeofday": (164, 170, 79),
    "swapoff": (168, 225, 115),
    "swapon": (167, 224, 87),
    "syslog": (103, 116, 103),
    "vhangup": (153, 58, 111),
    # i386's own ways to the clock
    "clock_adjtime64": (None, None, 405),
    "clock_settime64": (None, None, 404),
    "stime": (None, None, 25),
    # keys are the user's, in whatever namespace
    "add_key": (248, 217, 286),
    "keyctl": (250, 219, 288),
    "request_key": (249, 218, 287),
    # files and descriptors of others
    "fanotify_init": (300, 262, 338),
    "open_by_handle_at": (304, 265, 342),
    "pidfd_getfd": (438, 438, 438),
    "setns": (308, 268, 346),
    # large parts of the kernel that builds do not need
    "bpf": (321, 280, 357),
    "perf_event_open": (298, 241, 336),
    "userfaultfd": (323, 282, 374),
    "vm86": (None, None, 166),
    "vm86old": (None, None, 113),
}

# Refused but to a program that makes a root directory.
MOUNTS: Dict[str, Numbers] = {
    "fsconfig": (431, 431, 431),
    "fsmount": (432, 432, 432),
    "fsopen": (430, 430, 430),
    "fspick": (433, 433, 433),
    "mount": (165, 40, 21),
    "mount_setattr": (442, 442, 442),
    "move_mount": (429, 429, 429),
    "open_tree": (428, 428, 428),
    "pivot_root": (155, 41, 217),
    "umount": (None, None, 22),
    "umount2": (166, 39, 52),
}

# Refused with ENOSYS: programs do without.
ABSENT: Dict[str, Numbers] = {
    "clone3": (435, 435, 435),  # its flags are in memory, which no filter reads; libc takes clone then
    "io_uring_enter": (426, 426, 426),
    "io_uring_register": (427, 427, 427),
    "io_uring_setup": (425, 425, 425),
    # they say where on the machine a root directory lies
    "listmount": (458, 458, 458),
    "statmount": (457, 457, 457),
}

# Calls that take ids, and which arguments these are. The kernel refuses opam other ids all the same, but with another error where
# a user namespace knows no others.
WITH_IDS: Dict[str, Tuple[Numbers, Tuple[int, ...]]] = {
    "chown": ((92, None, 212), (1, 2)),
    "fchown": ((93, 55, 207), (1, 2)),
    "fchownat": ((260, 54, 298), (2, 3)),
    "lchown": ((94, None, 198), (1, 2)),
    "setgid": ((106, 144, 214), (0,)),
    "setregid": ((114, 143, 204), (0, 1)),
    "setresgid": ((119, 149, 210), (0, 1, 2)),
    "setresuid": ((117, 147, 208), (0, 1, 2)),
    "setreuid": ((113, 145, 203), (0, 1)),
    "setuid": ((105, 146, 213), (0,)),
}
IDS = (1000, 0xFFFFFFFF)  # opam, "as it is"
# The same with ids of 16 bits, in which -1 is "as it is".
WITH_SHORT_IDS: Dict[str, Tuple[Numbers, Tuple[int, ...]]] = {
    "chown": ((None, None, 182), (1, 2)),
    "fchown": ((None, None, 95), (1, 2)),
    "lchown": ((None, None, 16), (1, 2)),
    "setgid": ((None, None, 46), (0,)),
    "setregid": ((None, None, 71), (0, 1)),
    "setresgid": ((None, None, 170), (0, 1, 2)),
    "setresuid": ((None, None, 164), (0, 1, 2)),
    "setreuid": ((None, None, 70), (0, 1)),
    "setuid": ((None, None, 23), (0,)),
}
SHORT_IDS = (1000, 0xFFFF, 0xFFFFFFFF)

CLONE: Numbers = (56, 220, 120)
UNSHARE: Numbers = (272, 97, 310)
SOCKET: Numbers = (41, 198, 359)
IOCTL: Numbers = (16, 29, 54)
PERSONALITY: Numbers = (135, 92, 136)
# i386's older way to make a socket and to use it. The family of a new one is in memory, which no filter reads.
SOCKETCALL: Numbers = (None, None, 102)
NEW_SOCKET = 1

NAMESPACES = 0x7E020000  # CLONE_NEW*: mount, control group, UTS, IPC, user, PID, network
NEW_TIME = 0x80  # CLONE_NEWTIME, of unshare only: for clone it is part of a signal's number
FAMILIES = (
    1,
    2,
    10,
    16,
)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: others leave the network namespace, or are seldom used
ALL_FAMILIES = 64  # more than there are
TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into the caller's terminal
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bit addresses, uname of 2.6, both, "which is it?"
