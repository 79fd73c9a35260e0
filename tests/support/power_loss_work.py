"""What is done on a disk that loses power (`power_loss`): layers come and go, images are named, values are kept."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Set

from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.move_to_store import move_to_store
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.locking.cache import Memo
from opam_sandbox.oci.shared_layout import SharedLayout
from tests.support.small_images import LAYER_TYPE, layer_tar, numbered_image

_LAYERS, _IMAGES, _KEYS = 8, 5, 6
_RULES = Rules(skip=lambda path, directory: False, owner=lambda path, status: (0, 0))


@dataclass(frozen=True)
class Blob:
    """A layer as the store takes it."""

    title: str
    blob: Path
    media_type: str
    digest: str
    diff_id: str


@dataclass
class Inputs:
    """What lies on another disk: blobs of layers (by number), layouts of images, the files of each layer."""

    layers: List[Blob]
    files: List[Dict[str, bytes]]
    images: List[Path]
    digests: List[str]


def make_inputs(top: Path) -> Inputs:
    """Layers of 20 files each, of which the upper half come as captured trees, and images that share blobs."""
    inputs = Inputs([], [], [], [])
    for number in range(_LAYERS):
        chance = random.Random(number)
        files = {f"f{index}": chance.randbytes(chance.choice((0, 1, 500, 6000, 30000))) for index in range(20)}
        inputs.files.append(files)
        plain = layer_tar(files) if number < _LAYERS // 2 else _captured(top, files)
        packed = gzip.compress(plain, 1, mtime=0)
        path = top / f"layer{number}"
        path.write_bytes(packed)
        digest, diff_id = (f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (packed, plain))
        inputs.layers.append(Blob(f"layer {number}", path, LAYER_TYPE, digest, diff_id))
    for number in range(_IMAGES):
        inputs.images.append(top / f"image{number}")
        inputs.digests.append(numbered_image(inputs.images[-1], number, size=9000))
    return inputs


def _captured(top: Path, files: Dict[str, bytes]) -> bytes:
    pieces: List[bytes] = []
    tree = _write_tree(top / "tree", files)
    capture(tree, _RULES, _Sink(pieces.append))
    shutil.rmtree(tree)
    return b"".join(pieces)


class _Sink:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write


def _write_tree(tree: Path, files: Dict[str, bytes]) -> Path:
    tree.mkdir()
    for name, content in files.items():
        (tree / name).write_bytes(content)
        os.utime(tree / name, (1, 1))
        os.chmod(tree / name, 0o755)
    return tree


class Work:
    """What the child does on the disk `top`, again and again, saying what it does."""

    def __init__(self, top: Path, inputs: Inputs, say: Callable[[Dict[str, Any]], None], seed: int) -> None:
        self.chance = random.Random(seed)
        self.top, self.inputs, self._say = top, inputs, say
        self.store = Store(top / "store", False)
        self.layout = SharedLayout(top / "layout")
        self.memo = Memo(top / "memo")
        self.names: Set[str] = set()
        self.count = 0

    def step(self) -> None:
        steps = [
            self.unpack,
            self.unpack,
            self.damage,
            self.remove_layer,
            self.name,
            self.unname,
            self.note,
            self.litter,
        ]
        self.chance.choice(steps)()

    def unpack(self) -> None:
        number = self.chance.randrange(_LAYERS)
        layer = self.inputs.layers[number]
        if number < _LAYERS // 2:
            self.store.get(layer)
        else:
            tree = _write_tree(self.top / "tree", self.inputs.files[number])
            captured = capture(tree, _RULES, _Sink(len))
            move_to_store(self.store, layer.diff_id.split(":")[1], tree, captured.taken)
            shutil.rmtree(tree)
        self._say({"has": number})

    def damage(self) -> None:
        """A layer that was damaged is made again."""
        number = self.chance.randrange(_LAYERS)
        layer = self.inputs.layers[number]
        self._say({"loses": number})
        path = self.store.path(layer.diff_id)
        if path.exists():
            os.truncate(path / "f3", 1 << 12)
            (path.parent / "checked").unlink()
        self.store.get(layer)
        self._say({"has": number})

    def remove_layer(self) -> None:
        """By hand, or by `verify`, which finds damage that one does not see."""
        number = self.chance.randrange(_LAYERS)
        self._say({"loses": number})
        path = self.store.path(self.inputs.layers[number].diff_id)
        if path.exists() and self.chance.random() < 0.5:
            self._say({"spoils": number})
            found = (path / "f1").stat()
            (path / "f1").write_bytes(bytes(len(self.inputs.files[number]["f1"])))
            os.utime(path / "f1", ns=(found.st_atime_ns, found.st_mtime_ns))
            list(self.store.verify())
            self._say({"loses": number})
        else:
            self.store.discard(self.inputs.layers[number].diff_id)

    def name(self) -> None:
        number = self.chance.randrange(_IMAGES)
        name = f"name:{self.chance.randrange(4)}"
        self._say({"naming": name, "digest": self.inputs.digests[number]})
        self.layout.add(self.inputs.images[number], [name])
        self.names.add(name)
        self._say({"named": name, "digest": self.inputs.digests[number]})

    def unname(self) -> None:
        if not self.names:
            return
        name = self.chance.choice(sorted(self.names))
        self._say({"naming": name, "digest": ""})
        self.layout.remove([name])
        self.names.remove(name)
        self._say({"named": name, "digest": ""})

    def note(self) -> None:
        """Values of equal size: one in the place of another looks right."""
        for _ in range(5):
            self.count += 1
            key, value = f"key{self.chance.randrange(_KEYS)}", hashlib.sha256(b"%d" % self.count).hexdigest() * 40
            self._say({"key": key, "value": value})
            self.memo.put(key, {"is": value})

    def litter(self) -> None:
        """Files that come and go, unsynced: their blocks were others', and will be."""
        for number in range(6):
            path = self.top / f"litter{number}"
            if path.exists():
                path.unlink()
            path.write_bytes(b"litter" * self.chance.choice((100, 3000, 20000)))
