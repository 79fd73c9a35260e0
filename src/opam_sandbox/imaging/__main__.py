"""Starts the command line of the part `imaging`; in a process's tool directory it is the `__main__.py`."""

import sys

from opam_sandbox.imaging.cli import main

if __name__ == "__main__":
    sys.exit(main())
