"""The imaging part's command line, in the place of the shared one: its commands are of no concern to what makes layers."""

import sys

from opam_sandbox.imaging.cli import main

if __name__ == "__main__":
    sys.exit(main())
