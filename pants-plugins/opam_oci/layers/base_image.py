"""Makes the layers of a base that others made as an image: its own, and the one that they make together."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.base.build_environment import get_buildroot
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import Digest, DigestSubset, PathGlobs, RemovePrefix
from pants.util.logging import LogLevel

from opam_oci.host.programs import env_names
from opam_oci.host.skopeo import SKOPEO_ENV, skopeo_env
from opam_oci.pants_engine.calls import digest_subset_to_digest, environment_vars, remove_prefix
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.resolves.base_images import BaseImage
from opam_oci.sandbox.foreign_json import checked_digest, parse_object
from opam_oci.sandbox.handover import handed_over
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer, LayerError, layer_in
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool, run_tool
from opam_oci.subsystems.oci_publish import OciPublishSubsystem, registry_of, tls_of

if TYPE_CHECKING:
    from opam_sandbox.importing.requests import FetchImageRequest, JoinImageRequest

# Debian's names of architectures that OCI calls otherwise.
OCI_ARCHITECTURES = {"i386": "386", "armhf": "arm", "armel": "arm", "ppc64el": "ppc64le", "mips64el": "mips64le"}

_HANDOVER = "skopeo.json"


@dataclass(frozen=True)
class BaseImageRequest(EngineAwareParameter):
    """Asks for a base that others made as an image. `packer`: a base whose program compresses."""

    image: BaseImage
    packer: Layer

    def debug_hint(self) -> str:
        return str(self.image.address)


@dataclass(frozen=True)
class BaseImageLayers:
    """`layers`: the image's own, bottom first; `joined`: one that has all that they show, for the tool's commands.

    `manifest`: the digest of the image's manifest, "" for an image from scratch."""

    image: BaseImage
    layers: tuple[Layer, ...]
    joined: Layer
    manifest: str


def fetch_call(image: BaseImage, publish: OciPublishSubsystem, handover: str) -> Call:
    """The call that gets an image's layers. `handover`: the path of a file with skopeo's environment, or ""."""
    root = get_buildroot()
    layout = image.layout(root)
    values: FetchImageRequest = {
        "source": "layout" if layout else "registry",
        "place": layout or image.image,
        "digest": image.digest,
        "architecture": OCI_ARCHITECTURES.get(image.architecture, image.architecture),
        "name": image.address.target_name,
        "tls_verify": True,
        "cert_dir": "",
        "handover": handover,
    }
    if not layout:
        registry = registry_of(image.image, publish.registries)
        values["tls_verify"], values["cert_dir"] = tls_of(registry, root)
    return Call("fetch-image", f"Fetch the base {image.reference}", values, (), ("image.json",), ("layers",))


async def _fetched(image: BaseImage, publish: OciPublishSubsystem) -> Digest:
    """What `fetch-image` writes: of an image that was fetched once, out of Pants' cache."""
    if image.layout(get_buildroot()):
        return (await run_tool(fetch_call(image, publish, ""))).output_digest
    # Not in the process's own environment, which is its key: credentials of proxies, and what differs from shell to shell.
    names = [*SKOPEO_ENV, *env_names(publish.env_vars)]
    env = skopeo_env(await environment_vars(EnvironmentVarsRequest(names)))
    with ExitStack() as stack:
        # Of the same name in each run, as the path is a part of the cache's key.
        name = f"base-{image.digest[len('sha256:') :][:16]}"
        directory = stack.enter_context(handed_over({_HANDOVER: json.dumps({"env": env})}, name))
        return (await run_tool(fetch_call(image, publish, f"{directory}/{_HANDOVER}"))).output_digest


async def _layers_of(image: BaseImage, digest: Digest) -> tuple[tuple[Layer, ...], str]:
    """The layers that `fetch-image` wrote, and the manifest's digest. Raises LayerError."""
    where = f"the base {image.reference}: image.json"
    values = parse_object((await read_files(digest, "image.json"))["image.json"], where, LayerError)
    layers = []
    for number in range(values["layers"]):
        path = f"layers/{number}"
        one = await digest_subset_to_digest(DigestSubset(digest, PathGlobs([f"{path}/**"])))
        directory = await remove_prefix(RemovePrefix(one, path))
        layers.append(await layer_in(directory, f"layer {number} of the base {image.reference}"))
    return tuple(layers), checked_digest(values["manifest"], where, LayerError)


@rule(desc="Get base image", level=LogLevel.DEBUG)
async def make_base_image(request: BaseImageRequest, publish: OciPublishSubsystem) -> BaseImageLayers:
    """The layers of an image, compared with its digest. Raises LayerError."""
    image = request.image
    layers: tuple[Layer, ...] = ()
    manifest = ""
    if not image.is_scratch:
        layers, manifest = await _layers_of(image, await _fetched(image, publish))
    paths = layer_paths((*layers, request.packer))
    values: JoinImageRequest = {
        "store": STORE,
        "name": image.address.target_name,
        "version": "",
        "layers": paths[:-1],
        "packer": paths[-1],
    }
    call = Call("join-image", f"Unpack the base {image.reference}", values, (*layers, request.packer), LAYER_OUTPUTS)
    return BaseImageLayers(image, layers, await run_layer_tool(call), manifest)


def rules() -> list[object]:
    return [*collect_rules()]
