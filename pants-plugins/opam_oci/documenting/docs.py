"""The pages of an `opam_docs`, made by one process over the layers of its packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import Digest, RemovePrefix
from pants.util.logging import LogLevel

from opam_oci.documenting.selection import OpamDocsFieldSet, named_packages, odoc_name, odoc_targets
from opam_oci.entering.environment import EnvironmentRequest, build_environment
from opam_oci.layers.opam_text import strings_of_field
from opam_oci.pants_engine.calls import remove_prefix
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import DEBIANS_OCAML
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_tool

if TYPE_CHECKING:
    from opam_sandbox.documenting.requests import DocumentRequest

_OUTPUT = "docs"


@dataclass(frozen=True)
class DocsRequest(EngineAwareParameter):
    """Asks for the pages of a target."""

    field_set: OpamDocsFieldSet

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class Docs:
    """The pages, with index.html at the top, and the packages that they are of, sorted."""

    digest: Digest
    packages: tuple[str, ...]


@rule(desc="Document opam packages", level=LogLevel.DEBUG)
async def make_docs(request: DocsRequest) -> Docs:
    """Build the packages and document them. Raises InvalidFieldException, EnteringError, LayerError."""
    field_set = request.field_set
    selection = await named_packages(field_set.address, field_set.packages)
    lock = await read_opam_lockfile(OpamLockRequest(selection.resolve), **implicitly())
    odoc = odoc_name(field_set.address, selection, await odoc_targets(field_set), lock)
    # Before anything is built: a name that the lockfile lacks.
    names = tuple(sorted(lock.image_closure(selection.names) if field_set.with_dependencies.value else selection.names))
    asked = EnvironmentRequest(selection.resolve, tuple(sorted({*selection.names, odoc})), "to document")
    built = await build_environment(asked, **implicitly())
    paths = layer_paths(built.layers)
    values: DocumentRequest = {
        "store": STORE,
        "layers": paths,
        "title": field_set.title.value,
        "packages": [
            {
                "name": name,
                "version": lock.packages[name].version,
                "synopsis": " ".join(strings_of_field(lock.packages[name].opam, "synopsis")),
                "layer": paths[built.layers.index(built.layer_of(name))],
            }
            for name in names
        ],
        "base_library": DEBIANS_OCAML if DEBIANS_OCAML in names else "",
    }
    description = f"Document {field_set.address}"
    result = await run_tool(Call("document", description, values, built.layers, (), (_OUTPUT,)))
    return Docs(await remove_prefix(RemovePrefix(result.output_digest, _OUTPUT)), names)


def rules() -> list[object]:
    return [*collect_rules()]
