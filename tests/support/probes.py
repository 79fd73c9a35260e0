"""A machine with things to reach, and a program that tries to reach them out of a sandbox (probe.pl)."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Tuple

PROBE = Path(__file__).with_name("probe.pl")

_libc = ctypes.CDLL(None, use_errno=True)
_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_SESSION_KEYRING = -3


@dataclass
class Target:
    """arguments: what probe.pl is to be told. target: a file that only its owner may write. connections: the servers reached."""

    arguments: List[str]
    secret: str
    target: Path
    host_name: str
    connections: List[str] = field(default_factory=list)

    def untouched(self) -> bool:
        """Whether nothing of the machine was changed or spoken to."""
        return self.target.read_text() == "" and not self.connections and socket.gethostname() == self.host_name


@contextmanager
def target(directory: Path) -> Iterator[Target]:
    """Things to reach, made in `directory`: a file that only its owner may read, a process with a secret in its environment
    and arguments, servers on loopback and on an abstract socket, shared memory, a key in the session's keyring."""
    secret = "secret-" + secrets.token_hex(8)
    file, written = directory / "secret", directory / "written"
    file.write_text(secret)
    file.chmod(0o600)
    written.write_text("")
    with ExitStack() as stack:
        held = stack.enter_context(open(file))
        os.set_inheritable(held.fileno(), True)
        command = [sys.executable, "-c", "input()", secret]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "OPAM_OCI_PROBE": secret})
        stack.callback(process.wait)
        stack.callback(process.kill)
        found = Target([], secret, written, socket.gethostname())
        stack.callback(_restore_name, found.host_name)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + "probe-" + secrets.token_hex(8))
        abstract.listen()
        for server, name in ((tcp, "TCP"), (abstract, "abstract socket")):
            threading.Thread(target=_count, args=(server, name, found.connections), daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)
        device = os.stat(directory).st_dev
        found.arguments = [
            f"pid={process.pid}",
            f"file={file}",
            f"target={written}",
            f"secret={secret[::-1]}",
            f"socket={abstract.getsockname()[1:].decode()}",
            f"port={tcp.getsockname()[1]}",
            f"shm={_shared_memory(stack)}",
            f"key={_add_key(secret)}",
            f"major={os.major(device)}",
            f"minor={os.minor(device)}",
        ]
        yield found


def outcomes(text: str) -> Tuple[List[str], List[str]]:
    """What the probe's output says: (held, reached)."""
    lines = [line.partition(" ") for line in text.splitlines()]
    held, reached = ([name for word, _, name in lines if word == kind] for kind in ("held", "reached"))
    return held, reached


def _restore_name(name: str) -> None:
    if socket.gethostname() != name:
        socket.sethostname(name)


def _count(server: socket.socket, name: str, connections: List[str]) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return
        connections.append(name)


def _shared_memory(stack: ExitStack) -> int:
    """The key of a new segment."""
    key = 1 + secrets.randbelow(1 << 30)
    segment = _libc.shmget(key, 4096, 0o1666)  # IPC_CREAT
    assert segment >= 0
    stack.callback(_libc.shmctl, segment, 0, None)  # IPC_RMID
    return key


def _add_key(secret: str) -> int:
    """The number of a new key in this process's session keyring."""
    data = secret.encode()
    number = ctypes.c_long(_ADD_KEY[os.uname().machine])
    key: int = _libc.syscall(number, b"user", b"opam-oci-probe", data, ctypes.c_size_t(len(data)), _SESSION_KEYRING)
    assert key > 0, os.strerror(ctypes.get_errno())
    return key
