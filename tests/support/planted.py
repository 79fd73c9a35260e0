"""Secrets of a caller, planted to be found, and a script that looks for them from inside of a build."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import List, Set

from tests.support.canaries import Canaries

# What a package finds out of its build: printed into the build's log, and put into the layer.
SPY = r"""
echo "--- environment"; env
echo "--- ids"; id; cat /proc/self/status
echo "--- files"; ls -laR "$HOME" /root /tmp /run /var/tmp /home 2>&1 | head -n 300
for file in .netrc .docker/config.json .config/containers/auth.json .ssh/id_ed25519 .git-credentials .gnupg/key .env; do
  for home in "$HOME" /root PLANTED_HOME PROJECT; do cat "$home/$file" 2>/dev/null; done
done
cat /etc/apt/auth.conf /etc/apt/auth.conf.d/* /etc/apt/apt.conf.d/* 2>/dev/null
echo "--- processes"; for one in /proc/[0-9]*; do cat $one/environ $one/cmdline 2>/dev/null | tr '\0' '\n'; done
cat /proc/keys /proc/key-users /proc/self/mountinfo 2>&1
perl -e '
  use Socket;
  for my $ring (-3, -4, -5) {
    my $list = "\0" x 4096;
    my $size = syscall(NUMBER_KEYCTL, 11, $ring, $list, 4096);
    for (my $at = 0; $at + 4 <= $size; $at += 4) {
      my $text = "\0" x 4096;
      my $length = syscall(NUMBER_KEYCTL, 11, unpack("l", substr($list, $at, 4)), $text, 4096);
      print "key: " . substr($text, 0, $length) . "\n" if $length > 0;
    }
  }
  for my $name (SOCKETS) {
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0);
    print "REACHED $name\n" if connect($socket, pack_sockaddr_un($name));
  }
  for my $place (["169.254.169.254", 80], ["127.0.0.1", 5432]) {
    socket(my $socket, AF_INET, SOCK_STREAM, 0);
    print "REACHED $place->[0]\n" if connect($socket, pack_sockaddr_in($place->[1], inet_aton($place->[0])));
  }
' 2>&1
echo "--- end"
"""

_SYSCALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}
_SESSION, _USER = -3, -4

VARIABLES = """
    AWS_SECRET_ACCESS_KEY GITHUB_TOKEN CI_JOB_TOKEN ALL_PROXY OPAMSWITCH OPAMROOT OPAMVAR_token OPAMFETCH OCAMLPATH
    OCAMLRUNPARAM OCAMLPARAM CAML_LD_LIBRARY_PATH PERL5LIB PERL5OPT PYTHONPATH LD_LIBRARY_PATH DEBIAN_PRIORITY
    DEBCONF_TOKEN DPKG_ROOT DPKG_TOKEN APT_TOKEN MAKEFLAGS CFLAGS
""".split()


@dataclass
class Sockets:
    """Servers of agents: `paths` as programs name them; `reached`: those that somebody connected to."""

    paths: List[str]
    reached: Set[str]


def listen(name: str, sockets: Sockets) -> None:
    """A server whose name begins with NUL if it is an abstract one."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    sockets.paths.append(name)

    def serve() -> None:
        while True:
            server.accept()[0].close()
            sockets.reached.add(name)

    threading.Thread(target=serve, daemon=True).start()


def add_keys(canaries: Canaries) -> List[int]:
    """Keys in the session's and the user's keyring."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for ring in (_SESSION, _USER):
        text = canaries["key"].encode()
        found.append(libc.syscall(_SYSCALLS[os.uname().machine][0], b"user", b"opam-oci-test", text, len(text), ring))
    return found


def remove_keys(keys: List[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for key, ring in zip(keys, (_SESSION, _USER)):
        libc.syscall(_SYSCALLS[os.uname().machine][1], 9, key, ring)


def plant_home(home: Path, canaries: Canaries) -> None:
    for name in (
        *(".netrc", ".docker/config.json", ".config/containers/auth.json", ".ssh/id_ed25519", ".git-credentials"),
        *(".gnupg/key", ".opam/config", ".aws/credentials"),
    ):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = canaries[f"home {name}"]
        if name.endswith(".json"):
            text = json.dumps({"auths": {"registry.example": {"auth": text}}})
        elif name == ".netrc":
            text = f"machine elsewhere.example login me password {text}\n"
        path.write_text(text)


def spy_script(sockets: Sockets, home: Path, project: Path) -> str:
    """SPY, for these servers, the home that `plant_home` filled, and another directory with a file `.env`."""
    names = ", ".join('"' + name.replace("\0", "\\0") + '"' for name in sockets.paths)
    text = SPY.replace("NUMBER_KEYCTL", str(_SYSCALLS[os.uname().machine][1])).replace("SOCKETS", names)
    return text.replace("PLANTED_HOME", str(home)).replace("PROJECT", str(project))
