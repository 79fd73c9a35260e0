import sys

from opam_sandbox.cli import main

sys.exit(main())
