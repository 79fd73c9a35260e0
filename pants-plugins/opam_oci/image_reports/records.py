"""An image as reports know it: its layers, and what each is of. Made of its manifest and its configuration; no blob of a layer is
read.

What a layer is of, its line of the image's history says, which `images/history.py` writes. Tools that copy or convert an image
keep the history, while most drop the annotations of layers. An image that was made elsewhere has none of these lines: its layers
are known by their digests alone. Source: OCI image-spec 1.1 (manifest.md, config.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Mapping, Sequence

from opam_oci.images.history import OPAM_ROOT_HISTORY, STATE_HISTORY
from opam_oci.images.oci_layout import LayoutError, check_descriptor, descriptors
from opam_oci.sandbox.foreign_json import checked_digest


class ImageRecordError(Exception):
    """A manifest or a configuration that makes no sense; the message names image and field."""


class LayerKind(Enum):
    """What a layer is of. `other`: its history is none that this project writes."""

    base = "base"
    opam_root = "opam-root"
    packages = "packages"
    state = "state"
    runtime = "runtime"
    flat = "flat"
    other = "other"


@dataclass(frozen=True)
class LayerRecord:
    """A layer. digest: of the blob, diff_id: of its content, both "sha256:..."; size: of the blob, in bytes.

    title: what people call it; packages: full names ("lwt.5.6.1") of those in it, as far as its history says. created_by: of its
    line of the history.
    """

    digest: str
    diff_id: str
    size: int
    media_type: str
    kind: LayerKind
    title: str
    packages: tuple[str, ...] = ()
    created_by: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """An image. name: what the user calls it; manifest: its digest; platform: as in "linux/amd64"; layers: bottom first.

    config: what containers get, `config` of its configuration. annotations: the manifest's. configuration: its digest, "" where
    it is not known.
    """

    name: str
    manifest: str
    platform: str
    layers: tuple[LayerRecord, ...]
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    annotations: Mapping[str, Any] = field(default_factory=dict, compare=False)
    configuration: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it says of its lowest layer what this project's images say."""
        # From scratch, a runtime image has no layer of a base.
        return bool(self.layers) and self.layers[0].kind in (LayerKind.base, LayerKind.flat, LayerKind.runtime)

    @property
    def size(self) -> int:
        """Bytes of its layers' blobs. One that it has twice, as images of other tools have empty layers, counts once."""
        return sum({layer.digest: layer.size for layer in self.layers}.values())

    @property
    def packages(self) -> frozenset[str]:
        """Full names of all packages that its layers name."""
        return frozenset(name for layer in self.layers for name in layer.packages)


def read_image(name: str, digest: str, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> ImageRecord:
    """An image of its manifest, which has this digest, and its configuration. Raises ImageRecordError."""
    where = f"{name}: the manifest {digest}"
    try:
        described = check_descriptor(manifest.get("config"), f"{where}: `config`")
        layers = descriptors(manifest, "layers", where)
    except LayoutError as error:
        raise ImageRecordError(str(error)) from None
    of_config = f"{name}: the configuration {described['digest']}"
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
        raise ImageRecordError(
            f"{of_config}: `rootfs` should have a list `diff_ids`, one for each of {len(layers)} layers."
        )
    for diff_id in diff_ids:
        checked_digest(diff_id, f"{of_config}: `diff_ids`", ImageRecordError)
    lines = _history(config, len(layers))
    return ImageRecord(
        name=name,
        manifest=digest,
        platform="/".join(str(config[key]) for key in ("os", "architecture", "variant") if config.get(key)),
        layers=tuple(_layer(descriptor, diff_id, line) for descriptor, diff_id, line in zip(layers, diff_ids, lines)),
        config=_object(config.get("config")),
        annotations=_object(manifest.get("annotations")),
        configuration=described["digest"],
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def short_digest(digest: str) -> str:
    """The algorithm and the first digits, for people."""
    return digest[: len("sha256:") + 12]


def _history(config: Mapping[str, Any], count: int) -> Sequence[tuple[str, str]]:
    """What the history says of each layer: "created_by", "comment". Nothing where it has not a line for each."""
    history = config.get("history")
    lines = [
        (_text(one.get("created_by")), _text(one.get("comment")))
        for one in (history if isinstance(history, list) else ())
        if isinstance(one, dict) and one.get("empty_layer") is not True
    ]
    return lines if len(lines) == count else [("", "")] * count


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _layer(descriptor: Mapping[str, Any], diff_id: str, line: tuple[str, str]) -> LayerRecord:
    created_by, comment = line
    kind, title, packages = _meaning(created_by, comment)
    return LayerRecord(
        descriptor["digest"],
        diff_id,
        descriptor["size"],
        descriptor["mediaType"],
        kind,
        title or short_digest(descriptor["digest"]),
        packages,
        created_by,
    )


_INSTALL, _RUNTIME = "opam install ", "runtime files of "
# What made a base, and how a comment on it begins.
_BASES = {"debian_rootfs ": "Debian ", "oci_base_image ": "a layer of "}


def _meaning(created_by: str, comment: str) -> tuple[LayerKind, str, tuple[str, ...]]:
    """What a line of the history says: the kind, the title ("" for none) and the packages."""
    # Package names and versions have no blanks, and neither has a resolve's name.
    steps = created_by.split("; ")
    made = next((one for one in _BASES if steps[0].startswith(one)), "")
    # There is nothing to say of an empty one, which is in flat images only.
    if made and (comment.startswith(_BASES[made]) or (not comment and len(steps) > 1)):
        base = steps[0][len(made) :]
        if len(steps) == 1:
            return LayerKind.base, f"base {base}", ()
        packages = [name for step in steps if step.startswith(_INSTALL) for name in step[len(_INSTALL) :].split()]
        if steps[-1] == STATE_HISTORY["created_by"] or steps[-1].startswith(_RUNTIME):
            return LayerKind.flat, f"all of {base}", tuple(packages)
    if (created_by, comment) == (OPAM_ROOT_HISTORY["created_by"], OPAM_ROOT_HISTORY.get("comment", "")):
        return LayerKind.opam_root, "opam's root", ()
    if created_by == STATE_HISTORY["created_by"]:
        return LayerKind.state, "state", ()
    if created_by.startswith(_INSTALL) and comment.startswith("opam resolve "):
        packages = created_by[len(_INSTALL) :].split()
        if packages and all("." in name for name in packages):
            title = packages[0] if len(packages) == 1 else f"{packages[0]} and {len(packages) - 1} more"
            return LayerKind.packages, title, tuple(packages)
    if created_by.startswith(_RUNTIME) and not comment:
        return LayerKind.runtime, f"runtime files of {created_by[len(_RUNTIME) :]}", ()
    return LayerKind.other, "", ()
