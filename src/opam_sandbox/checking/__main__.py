"""Starts the command line of the part `checking`; in a process's tool directory it is the `__main__.py`."""

from opam_sandbox import start

if __name__ == "__main__":
    start.run("opam_sandbox.checking.cli")
