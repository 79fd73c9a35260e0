"""`opam-cache`: what is built again after everything was pruned is the same; a limit is kept to at the end of a run."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Dict

from tests.e2e.conftest import Layout, Pants
from tests.e2e.test_image_hello import layer_digests

IMAGE = "//images:hello"
CHANGED = "ocamlfind"


def usage(pants: Pants) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(pants.run("opam-cache", "--format=json").stdout)
    return found


def layers(pants: Pants) -> int:
    [found] = [int(kind["items"]) for kind in usage(pants)["kinds"] if kind["kind"] == "layers"]
    return found


def change(pants: Pants) -> None:
    """Have a package be built anew, and so all that stand on it, whose layers stay as they are."""
    # No earlier run of this test had it: its layers would be in Pants' store, and nothing would be built.
    text = uuid.uuid4().hex
    lock = pants.root / "3rdparty/opam/system.lock"
    head, mark, rest = lock.read_text().partition(f'name = "{CHANGED}"\n')
    opam, build, tail = rest.partition("\nbuild: [")
    assert mark and build
    lock.write_text(f'{head}{mark}{opam}\nbuild: [["sh" "-c" "echo {text}"] {tail}')


def others(layout: Layout) -> Dict[str, str]:
    """The digests of all layers that have nothing of the package's own opam file."""
    found = layer_digests(layout)
    kept = {name: digest for name, digest in found.items() if CHANGED not in name and "state" not in name}
    assert len(found) - 2 == len(kept) >= 4
    return kept


def test_what_is_pruned_is_made_again(hello: Layout, clone: Pants, tmp_path: Path) -> None:
    # Named caches of its own: nobody else's are pruned.
    pants = Pants(clone.root, options=["--no-pantsd", f"--named-caches-dir={tmp_path / 'caches'}"])
    assert usage(pants)["size"] == 0
    change(pants)
    pants.run("package", IMAGE)
    image = Layout(pants.root / "dist/images/hello")
    assert others(image) == others(hello) and layer_digests(image) != layer_digests(hello)
    assert layers(pants) >= 5
    done = json.loads(pants.run("opam-cache", "--prune", "--percent=0", "--format=json").stdout)
    assert done["after"] == 0 and layers(pants) == 0
    change(pants)
    said = pants.run("--opam-store-max-size=1M", "package", IMAGE).stderr
    assert others(image) == others(hello)
    assert "Removed" in said and "holds" in said
    assert sum(kind["size"] for kind in usage(pants)["kinds"] if kind["pruned"]) <= 1 << 20
