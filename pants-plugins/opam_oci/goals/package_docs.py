"""`package` for `opam_docs`."""

from __future__ import annotations

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, PackageFieldSet
from pants.engine.fs import AddPrefix
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.documenting.docs import DocsRequest, make_docs
from opam_oci.documenting.selection import OpamDocsFieldSet
from opam_oci.goals.dist_paths import claim_output
from opam_oci.goals.kept_output import written_or_kept
from opam_oci.pants_engine.calls import add_prefix
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule


@rule(desc="Package documentation of opam packages", level=LogLevel.DEBUG)
async def package_docs(field_set: OpamDocsFieldSet) -> BuiltPackage:
    """A directory of pages. Raises SameOutputPathError."""
    path = field_set.output_path.value_or_default(file_ending=None)
    await claim_output(field_set.address, path)  # Before anything is built.
    docs = await make_docs(DocsRequest(field_set), **implicitly())
    digest = await add_prefix(AddPrefix(docs.digest, path))
    artifacts = (BuiltPackageArtifact(path, (f"documentation of {pluralize(len(docs.packages), 'package')}",)),)
    return await written_or_kept(digest, artifacts, f"documentation {field_set.address}")


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OpamDocsFieldSet)]
