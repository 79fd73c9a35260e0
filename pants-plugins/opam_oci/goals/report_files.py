"""Reports of goals, below the distribution directory."""

from __future__ import annotations

from typing import Mapping

from pants.engine.fs import CreateDigest, FileContent, Workspace

from opam_oci.pants_engine.calls import create_digest


async def write_report_files(files: Mapping[str, bytes], directory: str, workspace: Workspace) -> None:
    """Write files by path below a directory of the build root, in the place of all that an earlier run left there."""
    digest = await create_digest(CreateDigest([FileContent(path, content) for path, content in sorted(files.items())]))
    workspace.write_digest(digest, path_prefix=directory, clear_paths=("",))
