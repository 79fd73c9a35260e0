import sys

from opam_sandbox.publishing.cli import main

sys.exit(main())
