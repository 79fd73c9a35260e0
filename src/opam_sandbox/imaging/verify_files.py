"""`verify-files`: whether what is about to be written to dist/ is, to the last byte, what it was when it was made.

Pants keeps files by their sha256, but compares nothing when it gives them out: a disk that has lost a sector, or a power loss,
would be in the image, and Pants would end with 0.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.imaging.requests import VerifyFilesRequest, WrittenFile
from opam_sandbox.request import DAMAGED_STORE, safe_path

DIRECTORY = Path("files")


def run(request: VerifyFilesRequest, jobs: int) -> int:
    """Compare all files. Returns 0; raises ToolError, which names the damaged ones."""
    with ThreadPoolExecutor(jobs) as pool:
        damaged = [text for text in pool.map(_problem, request["files"]) if text]
    if damaged:
        raise ToolError(f"{request['name']} is damaged: {'; '.join(damaged)}. {DAMAGED_STORE}")
    return 0


def _problem(file: WrittenFile) -> str:
    """What is wrong with a file; "" if nothing is."""
    try:
        found, size = file_sha256(DIRECTORY / safe_path(file["path"]))
    except FileNotFoundError:
        return f"{file['path']} is missing"
    if (found, size) == (file["sha256"], file["size"]):
        return ""
    return f"{file['path']} has {size} bytes with sha256 {found}, but should have {file['size']} with {file['sha256']}"
