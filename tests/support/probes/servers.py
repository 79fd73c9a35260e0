"""Servers of this machine, on every kind of address that a network namespace or a root directory hides."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List


class Servers:
    """connections: the names of the servers that were reached, in order."""

    def __init__(self, directory: Path, owner: int) -> None:
        self.connections: List[str] = []
        self._sockets: List[socket.socket] = []
        token = secrets.token_hex(8)
        path = str(directory / "socket")
        self._names: Dict[str, object] = {
            "address": _address(),
            "port": self._listen("TCP", socket.AF_INET, ("127.0.0.1", 0)),
            "port_any": self._listen("TCP on all addresses", socket.AF_INET, ("0.0.0.0", 0)),
            "port6": self._listen("TCP, IPv6", socket.AF_INET6, ("::1", 0)),
            "udp": self._receive("UDP", socket.AF_INET, ("127.0.0.1", 0)),
            "abstract": f"probe-{token}",
            "datagram": f"probe-datagram-{token}",
            "path": path,
        }
        self._listen("an abstract socket", socket.AF_UNIX, f"\0probe-{token}")
        self._receive("an abstract socket", socket.AF_UNIX, f"\0probe-datagram-{token}")
        self._listen("a socket with a path", socket.AF_UNIX, path)
        os.chown(path, owner, owner)

    def arguments(self) -> Dict[str, object]:
        """Where they are, by the names of the probes' arguments."""
        return self._names

    def close(self) -> None:
        for server in self._sockets:
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # one that is not connected
            server.close()

    def _listen(self, name: str, family: int, address: Any) -> int:
        server = self._bind(family, socket.SOCK_STREAM, address)
        server.listen()
        threading.Thread(target=self._accept, args=(server, name), daemon=True).start()
        return _port(server)

    def _receive(self, name: str, family: int, address: Any) -> int:
        server = self._bind(family, socket.SOCK_DGRAM, address)
        threading.Thread(target=self._answer, args=(server, name), daemon=True).start()
        return _port(server)

    def _bind(self, family: int, kind: int, address: Any) -> socket.socket:
        server = socket.socket(family, kind)
        self._sockets.append(server)
        server.bind(address)
        return server

    def _accept(self, server: socket.socket, name: str) -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return
            self.connections.append(name)

    def _answer(self, server: socket.socket, name: str) -> None:
        while True:
            try:
                data, sender = server.recvfrom(64)
                if not data and not sender:
                    return
                self.connections.append(name)
                server.sendto(data, sender)
            except OSError:
                return


def _port(server: socket.socket) -> int:
    name = server.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


def _address() -> str:
    """An address of this machine that is not loopback's, "" if it has none."""
    try:
        found = subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    except OSError:
        return ""
    return next((address for address in found if ":" not in address), "")
