"""What a layer costs above opam's own time: a small package over 40 dependency layers, against the bare build.

    PYTHONPATH=src $(build-support/test-python) bench/layer_overhead.py

Needs root, and dist/images/hello (`./pants package //images:hello`).

Baseline, in the same run: the same `opam install` of the same package in a chroot that holds the same base and the same 40
dependencies as plain files, with no overlay, no namespaces and no capture.
Prints a table and one line of JSON; times in seconds, the middle one of several runs.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
RUNS = 7
DEPENDENCIES = 40


def write_layer(directory: Path, layout: Path, descriptor: Dict[str, Any], diff_id: str, kind: str, name: str) -> None:
    """A layer directory, as the tool reads it, out of an image layout."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    digest = descriptor["digest"].split(":")[1]
    os.link(layout / "blobs" / "sha256" / digest, blobs / digest)
    (directory / "layer.json").write_text(
        json.dumps(
            {
                "kind": kind,
                "name": name,
                "version": "",
                "diff_id": diff_id,
                "digest": descriptor["digest"],
                "size": descriptor["size"],
                "media_type": descriptor["mediaType"],
                "files": 0,
                "opam": {},
                "dpkg": {},
            }
        )
    )


def opam(text: str) -> str:
    return f'opam-version: "2.0"\ninstall: [["sh" "-c" "{text}"]]\n'


def copy_tool(target: Path) -> Path:
    """The tool and filelock, and nothing else of this Python: they run under the system's, as in a process's sandbox."""
    filelock = next(Path(path) / "filelock" for path in sys.path if (Path(path) / "filelock").is_dir())
    for package in (ROOT / "src" / "opam_sandbox", filelock):
        shutil.copytree(package, target / package.name)
    return target


def build(tool: Path, work: Path, layers: List[Path], name: str, store: Path) -> float:
    """Build a package with the tool in an empty directory; returns the wall time of the process."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "in").mkdir(parents=True)
    (work / "store").symlink_to(store)
    for number, layer in enumerate(layers):
        (work / "in" / str(number)).symlink_to(layer)
    request = {
        "store": "store",
        "layers": [f"in/{number}" for number in range(len(layers))],
        "package": {
            "name": name,
            "version": "1",
            "opam": opam(f"echo {name} > %{{lib}}%/{name}.txt"),
            "files": [{"path": "readme", "content": base64.b64encode(b"x").decode()}],
            "sources": [],
            "debs": [],
        },
        "with_test": False,
    }
    (work / "request.json").write_text(json.dumps(request))
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(tool)}
    start = time.perf_counter()
    subprocess.run(["python3", "-sB", "-m", "opam_sandbox", "build", "request.json"], cwd=work, env=env, check=True)
    return time.perf_counter() - start


def bare(root: Path, name: str) -> float:
    """`opam install` in a plain chroot with the same things installed."""
    repository = root / "home/opam/.opam/repo/default"
    package = repository / "packages" / name / f"{name}.1"
    package.mkdir(parents=True)
    (package / "opam").write_text(opam(f"echo {name} > %{{lib}}%/{name}.txt"))
    for cache in (root / "home/opam/.opam/repo").glob("state-*.cache"):
        cache.unlink()
    subprocess.run(["chown", "-R", "1000:1000", str(root / "home/opam")], check=True)
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/opam",
        "OPAMYES": "1",
        "OPAMNODEPEXTS": "1",
        "OPAMPRECISETRACKING": "1",
        "OPAMNOSELFUPGRADE": "1",
    }
    command = ["chroot", "--userspec=1000:1000", str(root), "opam", "install", "--yes", "--no-depexts", f"{name}.1"]
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    layout = ROOT / "dist/images/hello"
    if os.geteuid() != 0 or not layout.exists():
        print("needs root, and ./pants package //images:hello", file=sys.stderr)
        return 1
    index = json.loads((layout / "index.json").read_text())

    def blob(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

    manifest = blob(index["manifests"][0]["digest"])
    diff_ids = blob(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    with tempfile.TemporaryDirectory(dir=ROOT / "dist") as temporary:
        top = Path(temporary)
        store = top / "store"
        tool = copy_tool(top / "tool")
        store.mkdir()
        for number, (kind, name) in enumerate((("base", "base"), ("opam-root", "default"))):
            write_layer(top / kind, layout, manifest["layers"][number], diff_ids[number], kind, name)
        layers = [top / "base", top / "opam-root"]
        for number in range(DEPENDENCIES):
            build(tool, top / f"dep{number}", layers[:2], f"dep{number}", store)
            layers.append(top / f"dep{number}")
        build(tool, top / "warm", layers, "warm", store)
        ours = [build(tool, top / "small", layers, "small", store) for _ in range(RUNS)]
        steps = json.loads((top / "small/timings.json").read_text())

        root = top / "bare"
        [base] = [path for path in store.glob("*/*/layers/*") if (path / "usr/bin/opam").exists()]
        subprocess.run(["cp", "-a", str(base), str(root)], check=True)
        for layer in layers[1:]:
            tar = next((layer / "blobs/sha256").iterdir())
            subprocess.run(["tar", "-xzf", str(tar), "-C", str(root)], check=True)
        installed = " ".join(f'"dep{number}.1"' for number in range(DEPENDENCIES))
        (root / "home/opam/.opam/default/.opam-switch/switch-state").write_text(
            f'opam-version: "2.0"\ncompiler: []\nroots: []\ninstalled: [{installed}]\n'
        )
        for device, minor in (("null", 3), ("urandom", 9)):
            os.mknod(root / "dev" / device, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        bares = [bare(root, f"small{number}") for number in range(RUNS)]
    one, other = statistics.median(ours), statistics.median(bares)
    print(f"{'a layer over ' + str(DEPENDENCIES) + ' layers, the whole process':46} {one:6.3f} s")
    print(f"{'  of that opam':46} {steps['opam']:6.3f} s")
    print(f"{'bare opam install in a chroot (baseline)':46} {other:6.3f} s")
    print(f"{'above the bare build':46} {one - other:6.3f} s   ratio {one / other:.2f}")
    figures = {"ours": one, "opam": steps["opam"], "baseline": other, "above": one - other, "ratio": one / other}
    print(json.dumps({**figures, "steps": steps}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
