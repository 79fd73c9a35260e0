"""Whether a container's command is there, told as shells tell it, before a runtime puts it in words of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from pathlib import Path
from typing import Sequence

from opam_sandbox.running.image_config import Ids

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_TRACE_ME = 0
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


def why_not_started(root: Path, argv: Sequence[str], env: Sequence[str], workdir: str, ids: Ids) -> str:
    """Why the kernel does not start a command of `root` as this user, "" where it does, or does not say. Nothing of it is run.

    Runtimes tell that in no other way than a command tells its own errors: by an exit status, and words on standard error. The
    caller must be allowed to chroot and to become the user.
    """
    child = os.fork()
    if child == 0:
        try:
            os.chroot(root)
            os.chdir(workdir or "/")
            os.setgroups(ids.groups)
            os.setresgid(ids.gid, ids.gid, ids.gid)
            os.setresuid(ids.uid, ids.uid, ids.uid)
            # A process that is traced stops where the program would begin.
            if ctypes.CDLL(None).ptrace(_TRACE_ME, 0, 0, 0) == 0:
                _try(argv, dict(entry.partition("=")[::2] for entry in env))
        except OSError:
            pass  # the runtime knows better what is wrong
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    return os.strerror(code) if code else ""


def _try(argv: Sequence[str], env: "dict[str, str]") -> None:
    try:
        os.execvpe(argv[0], list(argv), {"PATH": _DEFAULT_PATH, **env})
    except OSError as error:
        os._exit(error.errno or 0)


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
