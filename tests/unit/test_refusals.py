"""Machines that refuse what a sandbox needs: the message says what, and what to do; nothing else happens."""

from __future__ import annotations

import errno
import os
import platform
import struct
import subprocess
import sys
from typing import Callable

import pytest

from opam_sandbox.sandbox import syscalls
from tests.unit.conftest import REPOSITORY

# Numbers of x86_64.
MOUNT, UNSHARE, SETHOSTNAME, KEYCTL, SOCKET, SETUID = 165, 272, 170, 250, 41, 105

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="refuses system calls by their numbers of x86_64"
)


def refuse(call: int, number: int) -> Callable[[], None]:
    """Have a system call fail, as a security module does. For a child, before it starts its program."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x00050000 | number), (0x06, 0, 0, 0x7FFF0000)]

    def before() -> None:
        syscalls.no_new_privileges()
        syscalls.set_seccomp_filter(b"".join(struct.pack("=HBBI", *one) for one in code))

    return before


INSIDE = "print('inside') or 0"


def isolated(before: Callable[[], None], inside: str = INSIDE) -> "subprocess.CompletedProcess[str]":
    code = (
        "from opam_sandbox.sandbox.namespaces import run_isolated; from opam_sandbox.errors import ToolError\n"
        "import os, subprocess, sys\n"
        f"try: sys.exit(run_isolated(lambda: {inside}))\n"
        "except ToolError as error: sys.exit(f'error: {error}')"
    )
    return run_python(code, before)


def run_python(code: str, before: Callable[[], None]) -> "subprocess.CompletedProcess[str]":
    """With the tool at hand; `before` is called in the new process."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, env=env, preexec_fn=before, stdout=-1, stderr=-1, text=True, check=False)


@pytest.mark.parametrize(
    "call, number, remedy",
    [
        (MOUNT, errno.EACCES, "apparmor=unconfined"),
        (SETHOSTNAME, errno.EPERM, "apparmor=unconfined"),
        (SOCKET, errno.EACCES, "apparmor_restrict_unprivileged_userns=0"),
        (UNSHARE, errno.EPERM, "SYS_ADMIN"),
        (UNSHARE, errno.ENOSPC, "namespaces"),
    ],
    ids=["mount", "hostname", "loopback", "unshare", "too many"],
)
def test_what_to_do_is_said(root_user: None, call: int, number: int, remedy: str) -> None:
    done = isolated(refuse(call, number))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("error: ") and remedy in done.stderr and os.strerror(number) in done.stderr


ENTER = "enter(Ids(1000, 1000, ())) and 0"
UNSHARED = "in_namespaces(lambda: 0, False, {})"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOSPC])
@pytest.mark.parametrize("inside, rootless", [(ENTER, True), (UNSHARED, True), (UNSHARED, False)])
def test_what_to_do_is_said_where_an_image_is_run(root_user: None, number: int, inside: str, rootless: bool) -> None:
    code = (
        "import os, sys; from opam_sandbox.errors import ToolError; from opam_sandbox.running.image_config import Ids\n"
        "from opam_sandbox.running.container import in_namespaces; from opam_sandbox.running.user_namespace import enter\n"
        f"try: sys.exit({inside.format(rootless)})\n"
        "except ToolError as error: sys.exit(f'error: {error}')"
    )
    done = run_python(code, refuse(UNSHARE, number))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: the kernel gives no namespaces to run the image in") and os.strerror(number) in line
    assert ("kernel.apparmor_restrict_unprivileged_userns=0" in line) is rootless


def test_keys_need_not_be_there(root_user: None) -> None:
    done = isolated(refuse(KEYCTL, errno.EPERM))
    assert (done.returncode, done.stdout, done.stderr) == (0, "inside\n", "")


def test_a_capability_that_is_not_there(root_user: None) -> None:
    """Of what a child could not do before it became a program, Python does not say what it was."""
    inside = "subprocess.run(['true'], preexec_fn=lambda: os.setuid(1000)).returncode"
    done = isolated(refuse(SETUID, errno.EPERM), inside)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("error: ") and "CAP_SETUID" in done.stderr and "Traceback" not in done.stderr
