"""The directory of a container: removed whoever is killed, at the latest by the next container."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import Tuple

from opam_sandbox.sandbox.scratch import Scratch


class ContainerScratch(Scratch):
    """A new directory below `parent`; `records` is the store's directory for them."""

    def __init__(self, records: Path, parent: Path) -> None:
        super().__init__(records, parent / f"{os.getpid()}-{secrets.token_hex(6)}", mode=0o711)

    def keep(self) -> Tuple[int, int]:
        """Fork a process that removes the directory when all copies of a pipe's end are closed, however their owners end.

        Returns its pid and that end.
        """
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(read_end)
            return pid, write_end
        try:
            os.setsid()  # signals to the group are not for it
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            os.close(write_end)
            # Whoever reads this process's output does not wait for it.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            while os.read(read_end, 1):
                pass
            self._remove_patiently()
        finally:
            os._exit(0)

    def _remove_patiently(self) -> None:
        for _ in range(100):
            try:
                self.remove()
                break
            except OSError:
                time.sleep(0.05)  # the last of the container's processes are on their way out
