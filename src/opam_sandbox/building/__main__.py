"""Starts the command line of the part `building`; in a process's tool directory it is the `__main__.py`."""

import sys

from opam_sandbox.building.cli import main

if __name__ == "__main__":
    sys.exit(main())
