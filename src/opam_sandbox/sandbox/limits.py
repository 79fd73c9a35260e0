"""What a command of a sandbox may take of the machine, the same in each phase and for everybody."""

from __future__ import annotations

import os
import re
import resource
from contextlib import suppress
from functools import lru_cache
from typing import Tuple

# The soft limit is what programs find nearly everywhere; whoever wants more may have what container engines give.
_OPEN_FILES = (1024, 1 << 20)

# The soft limit of a process's stack, which also decides where the kernel puts what is mapped: Linux's own default, which
# container engines leave as it is. Programs raise it as far as the hard limit lets them.
_STACK = 8 << 20
# Soft limits of the caller's own would make another build than elsewhere. Hard ones hold: they are for the machine's sake.
_LIFTED = (resource.RLIMIT_DATA, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_RSS)

# When memory is short, the kernel is to end a build rather than what else runs on the machine.
_END_FIRST = 500


def processes() -> Tuple[int, int]:
    """(soft, hard) limit of processes and threads: more than any build has, fewer than would take the machine."""
    most = max(4096, 64 * (os.cpu_count() or 1))
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return most, most


def memory() -> int:
    """How many bytes of memory a command may have, where a control group bounds it: all but a sixteenth of the machine's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16 * 15


def open_files() -> Tuple[int, int]:
    """(soft, hard) limit of open files."""
    soft, most = _OPEN_FILES
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return min(soft, hard), hard


def stack() -> Tuple[int, int]:
    """(soft, hard) limit of a process's stack, in bytes."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    return (_STACK if hard == resource.RLIM_INFINITY else min(_STACK, hard)), hard


def set_limits() -> None:
    """For this process and all that it starts. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, open_files())
    for limit in _LIFTED:
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (hard, hard))
    resource.setrlimit(resource.RLIMIT_STACK, stack())
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # a kernel or a sandbox around this one that has none
    try:
        with suppress(OSError, ValueError):
            if int(os.read(score, 16)) < _END_FIRST:
                os.write(score, b"%d" % _END_FIRST)
    finally:
        os.close(score)


def limit_processes() -> None:
    """Limit the processes of this process's user namespace, in which nobody else's are counted. Raises OSError.

    Before Linux 5.14, those of all the machine's processes of one user are counted, and nothing is done.
    """
    if not counts_by_namespace(os.uname().release):
        return
    resource.setrlimit(resource.RLIMIT_NPROC, processes())


@lru_cache(maxsize=None)
def counts_by_namespace(release: str) -> bool:
    """Whether a kernel of this release counts processes for each user namespace."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return match is not None and (int(match.group(1)), int(match.group(2))) >= (5, 14)
