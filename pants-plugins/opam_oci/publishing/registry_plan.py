"""What a registry lacks of an image, asked before any of its layers is fetched.

The tool is started beside the engine, which has no process for this: one of its own could be run on a remote worker, and what it
needs (the user's environment, his credentials) would be in its cache key. It gets the image's JSON and documents, which were
made in this run.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import Digest, DigestSubset, PathGlobs
from pants.option.global_options import GlobalOptions

from opam_oci.host.programs import env_names, find_python
from opam_oci.host.skopeo import SKOPEO_ENV, skopeo_env
from opam_oci.images.oci_layout import blob_json, descriptors, image_of_index
from opam_oci.pants_engine.calls import digest_subset_to_digest, environment_vars
from opam_oci.pants_engine.digests import file_entries, read_files
from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule
from opam_oci.publishing.destinations import Destination
from opam_oci.sandbox.layer import blob_path
from opam_oci.sandbox.tool import tool_command
from opam_oci.subsystems.oci_publish import OciPublishSubsystem

if TYPE_CHECKING:
    from opam_sandbox.publishing.requests import PlanRequest

# A registry that takes longer, in seconds, or asks for more tries, is left to skopeo.
_PATIENCE, _RETRIES = 120, 2


@dataclass(frozen=True)
class RegistryPlanRequest:
    """Asks what a registry lacks. `address`: the image's; `layout`: all of its layout; `destination`: no layout directory."""

    address: str
    layout: Digest
    destination: Destination


@dataclass(frozen=True)
class RegistryPlan:
    """`files`: what of the layout must be at hand to push it: all but the layers that the registry has. `there`: the digests of
    those. `missing`: how many others there are.

    current: tags that have all of the image already: for them, `documents`, the layout without any layer, is enough. requests:
    what it took. unplanned: why the registry could not be asked; then `files` is the whole layout.
    """

    files: Digest
    documents: Digest
    there: tuple[str, ...]
    missing: int
    current: tuple[str, ...]
    requests: int
    unplanned: str


def known_directory(options: GlobalOptions) -> str:
    """Where the tool remembers which repository of a registry has which blobs; it may not be there yet."""
    return str(Path(options.pants_workdir, "opam-oci", "registries"))


def run_plan(files: Mapping[str, bytes], request: PlanRequest, env: Mapping[str, str]) -> dict[str, Any]:
    """What the tool's `plan-push` writes: a plan, or `failed`. `files`: those of the layout, by path. Raises MissingToolError."""
    with tempfile.TemporaryDirectory(prefix="opam-oci-plan-") as top:
        for path, content in files.items():
            target = Path(top, request["image"], path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        Path(top, "request.json").write_text(json.dumps(request))
        argv = [find_python(), *tool_command("plan-push", "request.json")]
        try:
            done = subprocess.run(
                argv,
                cwd=top,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                errors="replace",
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"it did not say within {_PATIENCE} s what it has"}
        if done.returncode != 0:
            return {"failed": done.stderr.strip()[-2000:] or f"exit status {done.returncode}"}
        found: dict[str, Any] = json.loads(Path(top, "plan.json").read_text())
        return found


@uncacheable_rule
async def plan_push(request: RegistryPlanRequest, publish: OciPublishSubsystem, options: GlobalOptions) -> RegistryPlan:
    """In each run: what a registry has may change at any time."""
    layout, destination = request.layout, request.destination
    [index] = (await read_files(layout, "index.json")).values()
    image = image_of_index(request.address, index).descriptor
    manifest = await blob_json(request.address, layout, image)
    layers = {blob_path(one["digest"]): one["digest"] for one in descriptors(manifest, "layers", request.address)}
    paths = await file_entries(layout)
    documents = await digest_subset_to_digest(DigestSubset(layout, PathGlobs(sorted(set(paths) - set(layers)))))
    environment = await environment_vars(EnvironmentVarsRequest([*SKOPEO_ENV, *env_names(publish.env_vars)]))
    values: PlanRequest = {
        "image": "image",
        "repository": destination.repository,
        "tags": list(destination.tags),
        "tls_verify": destination.tls_verify,
        "cert_dir": destination.cert_dir,
        "retries": min(publish.retries, _RETRIES),
        "known": known_directory(options),
    }
    found = run_plan(await read_files(documents, "**"), values, skopeo_env(environment))
    if "failed" in found:
        return RegistryPlan(layout, documents, (), len(layers), (), 0, str(found["failed"]))
    there = {digest for digest in found["there"] if blob_path(digest) in layers}
    left = sorted(set(paths) - {blob_path(digest) for digest in there})
    files = await digest_subset_to_digest(DigestSubset(layout, PathGlobs(left)))
    return RegistryPlan(
        files=files,
        documents=documents,
        there=tuple(sorted(there)),
        missing=len(set(layers) & set(left)),
        current=tuple(found["current"]),
        requests=found["requests"],
        unplanned="",
    )


def rules() -> list[object]:
    return [*collect_rules()]
