"""What dune's own package management has locked: the versions in a directory `dune.lock`, as bounds of a resolve.

Its files say how dune builds a package, in dune's language, and have no opam file; what opam builds comes from the opam
repositories, in these versions. Files: `NAME.pkg`, or `NAME.VERSION.pkg` of a lock for several platforms, with `(version V)`.
"""

from __future__ import annotations

import posixpath
import re

from pants.engine.fs import PathGlobs
from pants.engine.target import InvalidTargetException

from opam_oci.fields.opam import OPAM_REQUIREMENT
from opam_oci.fields.projects import OpamProjectDuneLockField
from opam_oci.pants_engine.calls import contents_of_globs
from opam_oci.resolves.projects import OpamProject

_INDEX = "lock.dune"
_COMMENT = re.compile(r";[^\n]*")
_VERSION = re.compile(r"^\(version\s+(\"[^\"\n]*\"|[^\s()\"]+)\s*\)", re.MULTILINE)


async def bounds_of_dune_lock(project: OpamProject) -> tuple[str, ...]:
    """`NAME=VERSION` of each package that a project's `dune.lock` has, sorted. Raises InvalidTargetException."""
    if not project.dune_lock:
        return ()
    directory = posixpath.join(project.directory, project.dune_lock)
    field = f"The `{OpamProjectDuneLockField.alias}` field in target {project.address}"
    files = await contents_of_globs(PathGlobs([f"{directory}/{_INDEX}", f"{directory}/*.pkg"]))
    if not any(file.path == f"{directory}/{_INDEX}" for file in files):
        raise InvalidTargetException(
            f"{field} names {directory}, in which there is no {_INDEX}: `dune pkg lock` writes it. Or .gitignore or "
            "`[GLOBAL].pants_ignore` hides it from Pants."
        )
    found: dict[str, tuple[str, str]] = {}
    for file in files:
        name = posixpath.basename(file.path).partition(".")[0]
        versions = _VERSION.findall(_COMMENT.sub("", file.content.decode("utf-8", "replace")))
        if not file.path.endswith(".pkg") or not versions:
            continue  # of a package without a version dune knows no other than what is in its own pin
        bound = name + "=" + versions[0].strip('"')
        if not OPAM_REQUIREMENT.match(bound):
            raise InvalidTargetException(
                f"{field}: {file.path} has the version {versions[0]:.80}, which opam takes for none."
            )
        first = found.setdefault(name, (bound, file.path))
        if first[0] != bound:
            raise InvalidTargetException(
                f"{field}: {first[1]} and {file.path} are two versions of one package, for several platforms, and a resolve has "
                "one. Lock for the base's platform alone."
            )
    return tuple(sorted(bound for bound, _ in found.values()))
