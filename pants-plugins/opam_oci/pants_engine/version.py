"""Which way of calling rules the running Pants takes."""

from __future__ import annotations

from pants.version import PANTS_SEMVER

# Rules can be called by name from 2.30 on, and only so from 2.32 on. (mypy is told the value: build-support/mypy.ini.)
BY_NAME: bool = PANTS_SEMVER.release[:2] >= (2, 30)

# Whether `generate-lockfiles` asks for a wrapper around each request.
WRAPS_LOCKFILE_REQUESTS: bool = PANTS_SEMVER.release[:2] < (2, 33)
