import sys

from opam_sandbox.building.cli import main

if __name__ == "__main__":
    sys.exit(main())
