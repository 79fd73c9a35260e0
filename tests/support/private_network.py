"""Runs a command in a network namespace of its own, where a server plays a cloud's metadata service, and one a local service.

    python3 private_network.py NOTES COMMAND ...

NOTES gets a line for each connection: the address that was reached. root only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading

METADATA = ("169.254.169.254", 80)
LOCAL = ("127.0.0.1", 5432)
_CLONE_NEWNET = 0x40000000


def main() -> int:
    notes, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{METADATA[0]}/32", "dev", "lo"], check=True)
    for address in (METADATA, LOCAL):
        server = socket.create_server(address)
        threading.Thread(target=_serve, args=(server, address, notes), daemon=True).start()
        # It is there to be reached: this is its first connection.
        socket.create_connection(address).close()
    return subprocess.run(command).returncode


def _serve(server: socket.socket, address: "tuple[str, int]", notes: str) -> None:
    while True:
        connection, _ = server.accept()
        with open(notes, "a") as file:
            file.write(f"{address[0]}\n")
        connection.close()


if __name__ == "__main__":
    os.environ.setdefault("PATH", os.defpath)
    sys.exit(main())
