"""What a process inherits of its caller's and what is to have no say: ignored and blocked signals, closed standard streams.

Programs of builds would inherit it in turn. `nohup`, a shell's `&`, or a supervisor start programs with signals ignored; whoever
ignores SIGCHLD is never told how a child has ended, and Python's subprocess then takes every end for a success.
"""

from __future__ import annotations

import os
import signal
import sys

# Python itself ignores these, and has what it starts not ignore them.
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)


def settle() -> None:
    """Have signals do what they usually do, as well as `settle_less`. For commands whose programs nobody is to influence."""
    for number in range(1, signal.NSIG):
        try:
            if signal.getsignal(number) == signal.SIG_IGN and number not in _PYTHONS_OWN:
                signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # the C library's own
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    settle_less()


def settle_less() -> None:
    """Hear how children end, and have all three standard streams. A caller may still say that, as by `nohup`, a signal is
    ignored: for commands that do what a person asks for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one. Otherwise the next file that is opened would be it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
