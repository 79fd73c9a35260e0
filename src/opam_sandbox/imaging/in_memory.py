"""Work in a current directory that lies in memory, for a layer that no other one is built over.

Such a layer is small, and its files need not be moved into the store. So its view's upper directory need not be on the store's
disk, where making some hundreds of small files and removing them again may take longer than everything else.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import layer_paths, memory, syscalls

_PLACE = "memory"


def work(do: Callable[[], None], room: int, rootless: bool) -> None:
    """Call `do` with a current directory in up to `room` bytes of memory, and move the files that it leaves there into this one.

    Where memory cannot hold an overlay's upper directory, and where `do` fails, as it does when the memory is full, it is called
    here. Only inside `run_isolated`; `do` takes no path relative to this directory. Raises what `do` raises here.
    """
    here = Path.cwd()
    place = here / _PLACE
    if not room or not _have(place, room, rootless):
        do()
        return
    os.chdir(place)
    try:
        do()
        done = True
    except (ToolError, OSError):
        done = False
    finally:
        os.chdir(here)
    if done:
        _copy(place, here)
    syscalls.umount(place, syscalls.MNT_DETACH)
    place.rmdir()
    if not done:
        do()


def _have(place: Path, room: int, rootless: bool) -> bool:
    """Whether `place` lies in memory now, and an upper directory may lie there. (Before Linux 6.6 a user's may not.)"""
    place.mkdir()
    try:
        memory.mount(place, room, syscalls.MS_NODEV, "mode=700")
        os.setxattr(place, layer_paths.opaque_attribute(rootless), b"n")
        os.removexattr(place, layer_paths.opaque_attribute(rootless))
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_dir():
            (target / path.name).mkdir(exist_ok=True)
            _copy(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
