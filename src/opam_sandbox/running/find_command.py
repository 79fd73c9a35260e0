"""Whether a container's command is there, told as shells tell it, before a runtime puts it in words of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Sequence

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(root: Path, name: str, env: Sequence[str], workdir: str) -> int:
    """0 if `root` has the command `name` (looked up in the PATH of `env`, `NAME=value` entries), else the exit status that
    POSIX gives to such a command: 127 if there is none, 126 if it is no program. The caller must be allowed to chroot."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.chroot(root)
            os.chdir(workdir or "/")
            code = _look_up(name, env)
        except OSError:
            pass  # the runtime knows better what is wrong
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def _look_up(name: str, env: Sequence[str]) -> int:
    # The last entry of a name counts, as for those who read an environment.
    path = dict(entry.partition("=")[::2] for entry in env).get("PATH", _DEFAULT_PATH)
    places = [name] if "/" in name else [os.path.join(directory or ".", name) for directory in path.split(":")]
    found = [place for place in places if os.path.exists(place)]
    if not found:
        return NOT_FOUND
    return 0 if any(_is_program(place) for place in found) else NOT_EXECUTABLE


def _is_program(path: str) -> bool:
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)
