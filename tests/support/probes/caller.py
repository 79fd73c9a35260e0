"""Runs commands as a caller who has much to lose: a controlling terminal, open files, secrets in the environment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import termios
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from tests.support.probes.program import PERL
from tests.support.probes.target import Target

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def call(
    target: Target, argv: Sequence[str], cwd: Path, env: Optional[Dict[str, str]] = None, timeout: int = 300
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a session of its own whose terminal is a pseudo terminal of the machine. Output is text."""
    main, terminal = os.openpty()
    try:
        return subprocess.run(
            list(argv),
            cwd=cwd,
            env={"PATH": PATH, **target.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(*target.descriptors, terminal),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    finally:
        os.close(main)
        os.close(terminal)


def unconfined(target: Target, prefix: Sequence[str] = ()) -> str:
    """What the probes say where nothing confines them but mounts of their own, and what they change is put back.

    Their directories are in memory, in these mounts: nothing of them is left, however the run ends."""
    directory = target.directory
    with tempfile.TemporaryDirectory(prefix="opam-oci-probe-") as scratch:
        # One mount of which /proc says where it comes from, as a sandbox has many.
        script = 'mount --bind "$1" "$1" && mount -t tmpfs -o mode=0700 none "$2" && shift 2 && exec "$@"'
        command = [*prefix, "perl", str(PERL / "probe.pl"), *target.arguments, "unconfined=yes", f"scratch={scratch}"]
        wrapped: List[str] = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
        done = call(target, [*wrapped, str(directory), scratch, *command], directory)
    assert done.returncode == 0, done.stderr
    return done.stdout
