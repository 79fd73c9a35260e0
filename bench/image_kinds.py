"""What each kind of image costs: layers, bytes, and seconds to make it from packages' layers and to do it again.

    $(build-support/test-python) bench/image_kinds.py

Makes a clone of this checkout in which the imaging part of the tool has one comment more, so that everything which makes
images runs and no package is built. Baseline, in the same run: the image with one layer for each package.
cold: the layers of the packages are there, nothing of the image is. warm: all is there (a run of `package` in which nothing
has changed). Needs what `./pants package images/kinds:: //images:hello` needs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "//images:hello": "images/hello",
    **{
        f"images/kinds:{name}": f"images.kinds/{name}"
        for name in ("grouped", "flat", "zstd", "uncompressed", "oci-archive", "docker-archive", "layout")
    },
    "//images:0install": "images/0install",
    "//images:0install-runtime": "images/0install-runtime",
}


def run(clone: Path, target: str) -> float:
    start = time.monotonic()
    subprocess.run(["./pants", "--no-dynamic-ui", "-lerror", "package", target], cwd=clone, check=True)
    return time.monotonic() - start


def size_of(path: Path) -> "tuple[str, int]":
    """Layers (of an image in a layout) and bytes of all that is there."""
    if path.is_file():
        return "", path.stat().st_size
    index = json.loads((path / "index.json").read_text())
    layers: List[str] = []
    for entry in index["manifests"]:
        if "artifactType" not in entry:
            manifest = json.loads((path / "blobs" / entry["digest"].replace(":", "/")).read_text())
            layers.append(str(len(manifest["layers"])))
    return "+".join(layers), sum(blob.stat().st_size for blob in (path / "blobs/sha256").iterdir())


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="image-kinds-", dir="/var/tmp") as directory:
        clone = Path(directory) / "main"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        if (ROOT.parent / "shared").exists():
            (Path(directory) / "shared").symlink_to(ROOT.parent / "shared")
        with open(clone / "src/opam_sandbox/imaging/__init__.py", "a") as part:
            part.write(f"# {time.time()}\n")
        subprocess.run(["./pants", "--no-dynamic-ui", "list", "images::"], cwd=clone, check=True)
        rows = []
        try:
            for target, path in KINDS.items():
                cold = run(clone, target)
                warm = min(run(clone, target) for _ in range(3))
                found = clone / "dist" / path
                layers, size = size_of(found if found.exists() else found.with_suffix(".tar"))
                rows.append({"target": target, "layers": layers, "bytes": size, "cold": cold, "warm": warm})
                print(f"{target:32} {layers:>9} {size:>13,} B {cold:>7.1f} s {warm:>6.2f} s", flush=True)
                shutil.rmtree(clone / "dist")
        finally:
            for pid in (clone / ".pids").rglob("pid"):
                subprocess.run(["kill", pid.read_text().strip()], check=False)
            time.sleep(2)
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
