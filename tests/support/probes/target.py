"""Things of this machine that a sandbox must keep from what runs in it: witnesses, which say whether they were reached."""

from __future__ import annotations

import glob
import os
import secrets
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

from tests.support.probes import shared_memory
from tests.support.probes.program import parameters
from tests.support.probes.servers import Servers

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
# They change by themselves.
_RESTLESS = ("cgroup.procs", "ns_last_pid", "pressure/cpu", "uevent")
CANARY = "OPAM_OCI_PROBE"

# A process of the caller: a secret in its environment and arguments, an open file to write; it tells of signals.
_PROCESS = """
import os, signal, sys
held = os.open(sys.argv[1], os.O_WRONLY)
signal.signal(signal.SIGURG, lambda *_: os.write(1, b"signal\\n"))
print("ready", flush=True)
while True:
    signal.pause()
"""


@dataclass
class Target:
    """arguments: what probe.pl is to be told. environment, descriptor: what the caller of the tool has, and the tool inherits.

    owner: the caller, who owns what is to be reached. run: in the names of what the probes make."""

    arguments: List[str]
    secret: str
    directory: Path
    environment: Dict[str, str]
    descriptors: Tuple[int, ...]
    owner: int
    servers: Servers
    signals: int
    run: str
    before: Dict[str, str] = field(default_factory=dict)

    def changes(self) -> List[str]:
        """What of the machine was changed, or spoken to, since this was made."""
        now = self.state()
        found = [
            f"{name}: {value!r} -> {now.get(name)!r}" for name, value in self.before.items() if now.get(name) != value
        ]
        found += [f"{name}: new" for name in now if name not in self.before]
        return found + [f"a connection to {name}" for name in self.servers.connections]

    def state(self) -> Dict[str, str]:
        """What must not change."""
        found = {f"hostname of {kind}": value for kind, value in zip(("node", "domain"), _names())}
        for path in sorted(self.directory.rglob("*")):
            status = path.lstat()
            found[str(path)] = (
                f"{status.st_mode:o} {status.st_uid} {status.st_size} {status.st_mtime_ns} {status.st_nlink}"
            )
        for pattern in parameters():
            for name in sorted(glob.glob(pattern))[:1]:
                if not name.endswith(_RESTLESS):
                    found[name] = _content(name)
        signals = os.stat(self.signals)
        found["signals of the caller's process"] = str(signals.st_size)
        found["keys of the session"] = str(shared_memory.session_keys())
        return {**found, **dict.fromkeys(self.left(), "there")}

    def left(self) -> Set[str]:
        """Directories and nodes of this target's probes on this machine, and mounts on them."""
        mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        found = {f"a mount at {path}" for path in mounts if f"/probe-{self.run}-" in path}
        return found.union(*(glob.glob(f"{place}/probe-{self.run}-*") for place in ("/tmp", "/mnt", "/dev")))


@contextmanager
def target(directory: Path, owner: int = 0, above: Optional[Path] = None) -> Iterator[Target]:
    """Things to reach, made in `directory`, which is empty, for a caller with this id. above: a directory that no sandbox is to
    know of, in which all of the caller's work lies; by default `directory`."""
    secret = "secret-" + secrets.token_hex(8)
    with ExitStack() as stack:
        files = _files(directory, secret, owner)
        run = secrets.token_hex(4)
        marker = Path(os.path.expanduser("~root"), f"opam-oci-probe-{run}")
        marker.touch()
        stack.callback(marker.unlink)
        held = stack.enter_context(open(files["file"]))
        opened = os.open(directory, os.O_RDONLY)
        stack.callback(os.close, opened)
        process, signals = _process(stack, files["target"], secret, owner)
        names = _names()
        stack.callback(_restore_names, names)
        servers = Servers(directory, owner)
        stack.callback(servers.close)
        device = os.stat(directory).st_dev
        values: Dict[str, object] = {
            **files,
            "dir": directory,
            "home": (above or directory).name,
            "home_name": marker.name,
            "run": run,
            "pid": process,
            "secret": secret[::-1],
            "major": os.major(device),
            "minor": os.minor(device),
            "pts": os.ttyname(_terminal(stack)),
            **servers.arguments(),
            **shared_memory.make(stack, secret, owner),
            **{f"ns_{kind}": os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES},
            **_devices(),
        }
        arguments = [f"{name}={value}" for name, value in values.items()]
        descriptors = (held.fileno(), opened)
        found = Target(arguments, secret, directory, {CANARY: secret}, descriptors, owner, servers, signals, run)
        found.before = found.state()
        yield found


def _files(directory: Path, secret: str, owner: int) -> Dict[str, Path]:
    """A file that its owner alone may read, and one that it alone may write."""
    file, written = directory / "secret", directory / "written"
    file.write_text(secret)
    written.write_text("")
    for path in (file, written):
        path.chmod(0o600)
    for path in (directory, file, written):
        os.chown(path, owner, owner)
    return {"file": file, "target": written}


def _process(stack: ExitStack, written: Path, secret: str, owner: int) -> Tuple[int, int]:
    """The number of a process of the caller, and a file that grows with each signal that it gets."""
    output = stack.enter_context(open(os.memfd_create("signals"), "w+b"))
    process = subprocess.Popen(
        ["/usr/bin/python3", "-sEc", _PROCESS, str(written), secret],
        stdin=subprocess.DEVNULL,
        stdout=output,
        env={"PATH": "/usr/bin:/bin", CANARY: secret},
        user=owner,
        group=owner,
        extra_groups=[],
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + 20
    while os.stat(output.fileno()).st_size == 0:
        assert process.poll() is None and time.monotonic() < deadline, "the caller's process does not start"
        time.sleep(0.01)
    return process.pid, output.fileno()


def _terminal(stack: ExitStack) -> int:
    """A pseudo terminal of the machine."""
    main, other = os.openpty()
    stack.callback(os.close, main)
    stack.callback(os.close, other)
    return other


def _devices() -> Dict[str, str]:
    """The numbers of this machine's devices, as the probes take them."""
    found = {}
    for name in ("autofs", "cpu_dma_latency", "userfaultfd", "vsock", "zram0", "kvm", "fuse", "hwrng"):
        with suppress(OSError):
            status = os.stat(f"/dev/{name}")
            kind = "b" if (status.st_mode & 0o170000) == 0o060000 else "c"
            found[f"device {name}"] = f"{kind}:{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return found


def _names() -> Tuple[str, str]:
    return socket.gethostname(), _content("/proc/sys/kernel/domainname")


def _restore_names(names: Tuple[str, str]) -> None:
    if socket.gethostname() != names[0]:
        socket.sethostname(names[0])


def _content(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return f"errno {error.errno}"
    try:
        return os.read(descriptor, 4096).decode(errors="replace").strip()
    except OSError as error:
        return f"errno {error.errno}"
    finally:
        os.close(descriptor)
