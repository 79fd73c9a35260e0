"""`describe`: an image's manifest and configuration, of a layout or a registry. Layers are not asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from opam_sandbox import strict_json
from opam_sandbox.comparing import skopeo
from opam_sandbox.comparing.images import DEEPEST, find_image, of_platform
from opam_sandbox.comparing.requests import DescribeRequest, RegistryReference
from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.oci import layout as oci


class Described(NamedTuple):
    """digest: of the manifest's bytes."""

    digest: str
    manifest: Dict[str, Any]
    config: Dict[str, Any]


def run(request: DescribeRequest, jobs: int) -> int:
    """Write what is known of the image. Returns 0; raises ToolError."""
    name, reference = request["name"], request["reference"]
    platform = (request["os"], request["architecture"])
    if reference["kind"] == "layout":
        found = _of_layout(name, Path(reference["path"]), reference["wanted"], platform)
    else:
        found = _of_registry(name, reference, platform)
    write_json(request["output"], found._asdict())
    return 0


def _of_layout(name: str, layout: Path, wanted: str, platform: Tuple[str, str]) -> Described:
    if not layout.is_dir():
        raise ToolError(f"{name}: there is no directory {layout}")
    descriptor = find_image(name, layout, wanted, platform)
    manifest = oci.read_manifest(layout, descriptor)
    config = oci.read_json_blob(layout, oci.check_descriptor(manifest.get("config"), f"{name}: `config`"))
    return Described(descriptor["digest"], manifest, config)


def _of_registry(name: str, reference: RegistryReference, platform: Tuple[str, str]) -> Described:
    repository, source = _repository(reference["source"]), reference["source"]
    for _ in range(DEEPEST):
        content = skopeo.inspect(name, reference, source)
        manifest = strict_json.parse_object(content, f"{name}: its manifest")
        # The tag may stand for another image by the next question.
        source = f"{repository}@sha256:{hashlib.sha256(content).hexdigest()}"
        if "manifests" not in manifest:
            break
        source = f"{repository}@{of_platform(name, _entries(name, manifest), platform)['digest']}"
    else:
        raise ToolError(f"{name}: its indexes are nested more than {DEEPEST} deep")
    described = oci.check_descriptor(manifest.get("config"), f"{name}: `config`")
    text = skopeo.inspect(name, reference, source, "--config")
    if f"sha256:{hashlib.sha256(text).hexdigest()}" != described["digest"]:
        raise ToolError(f"{name}: its configuration is not {described['digest']}, which its manifest names")
    config = strict_json.parse_object(text, f"{name}: its configuration")
    return Described(source.rpartition("@")[2], manifest, config)


def _entries(name: str, index: Dict[str, Any]) -> List[oci.Descriptor]:
    entries = index["manifests"]
    if not isinstance(entries, list):
        raise ToolError(f"{name}: its index has no list `manifests`")
    return [oci.check_descriptor(one, f"{name}: manifests[{number}]") for number, one in enumerate(entries)]


def _repository(source: str) -> str:
    """`docker://HOST/PATH` of a reference with a tag, a digest, or both."""
    path, _, _ = source.partition("@")
    head, slash, last = path.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
