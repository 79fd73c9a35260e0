import sys

from opam_sandbox.publishing.cli import main

if __name__ == "__main__":
    sys.exit(main())
