"""Starts the command line of the part `building`; in a process's tool directory it is the `__main__.py`."""

import sys

from opam_sandbox import compiled

if __name__ == "__main__":
    compiled.use()
    from opam_sandbox.building.cli import main

    sys.exit(main())
