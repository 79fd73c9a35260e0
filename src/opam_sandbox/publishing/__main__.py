"""Starts the command line of the part `publishing`; in a process's tool directory it is the `__main__.py`."""

import sys

from opam_sandbox.publishing.cli import main

if __name__ == "__main__":
    sys.exit(main())
