"""The file `pex` that Pants' Python backend runs, made of the library that is installed with Pants.

Pants would download it from GitHub. The library comes from PyPI with Pants, pinned by 3rdparty/python/requirements.txt.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pants.core.util_rules.external_tool import ExternalToolError
from pants.engine.download_file import URLDownloadHandler
from pants.engine.fs import CreateDigest, Digest, FileContent
from pants.engine.rules import Get, collect_rules, rule
from pants.engine.unions import UnionRule


class InstalledWithPants(URLDownloadHandler):
    """Urls like `installed-with-pants:///pex`."""

    match_scheme = "installed-with-pants"


def pex_file() -> bytes:
    """The content of the file, made in a directory that is gone afterwards."""
    script = Path(__file__).with_name("make_pex_file.py")
    with tempfile.TemporaryDirectory(prefix="pex-file-") as directory:
        subprocess.run([sys.executable, "-sEB", os.fspath(script), "pex"], cwd=directory, check=True)
        return Path(directory, "pex").read_bytes()


@rule
async def make_pex_file(request: InstalledWithPants) -> Digest:
    """A digest with the file `pex`. Raises ExternalToolError if it is not the one that [pex-cli].known_versions names.

    Takes two seconds. It is no Process, as Pants gives handlers of urls no environment to run one in.
    """
    content = pex_file()
    found = hashlib.sha256(content).hexdigest(), len(content)
    wanted = request.expected_digest.fingerprint, request.expected_digest.serialized_bytes_length
    if found != wanted:
        raise ExternalToolError(
            f"The pex that is installed with Pants gives a file of {found[1]} bytes with sha256 {found[0]}, but "
            f"[pex-cli].known_versions in pants.python.toml names one of {wanted[1]} bytes with sha256 {wanted[0]}. "
            "After a change of Pants' version, write the first into pants.python.toml."
        )
    return await Get(Digest, CreateDigest([FileContent("pex", content, is_executable=True)]))


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(URLDownloadHandler, InstalledWithPants)]
