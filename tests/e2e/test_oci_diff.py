"""`oci-diff` of a real image: against one with a changed package, and against what a registry has of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Dict, Tuple

import jsonschema
import pytest

from opam_oci.image_reports import difference_json
from tests.e2e.conftest import Layout, Pants, tool
from tests.support.registry import Registry
from tests.support.small_images import write_blob, write_json_blob

SCHEMA = json.loads(Path(difference_json.__file__).with_name("difference.schema.json").read_text())
FILE = "home/opam/.opam/default/lib/react/META"


def with_a_line(blob: Path) -> Tuple[bytes, int]:
    """A layer as a tar, with a line more in FILE; and how long the line is."""
    line, out = b"# changed\n", io.BytesIO()
    with tarfile.open(blob, "r:gz") as old, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new:
        for one in old:
            content = old.extractfile(one) if one.isreg() else None
            data = content.read() if content else b""
            if one.name == FILE:
                data += line
                one.size = len(data)
            new.addfile(one, io.BytesIO(data) if one.isreg() else None)
    return out.getvalue(), len(line)


def changed_copy(hello: Layout, path: Path) -> int:
    """A layout of the image with another layer of react and another command. Returns how much larger its files are."""
    shutil.copytree(hello.path, path)
    manifest, config = hello.manifest, hello.config
    steps = [one["created_by"] for one in config["history"] if not one.get("empty_layer")]
    [number] = [number for number, step in enumerate(steps) if step.startswith("opam install react.")]
    plain, more = with_a_line(hello.blob(manifest["layers"][number]["digest"]))
    manifest["layers"][number].update(
        write_blob(path, gzip.compress(plain, mtime=0), manifest["layers"][number]["mediaType"])
    )
    config["rootfs"]["diff_ids"][number] = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    config["config"]["Cmd"] = ["true"]
    manifest["config"] = write_json_blob(path, config, manifest["config"]["mediaType"])
    entry = write_json_blob(path, manifest, manifest["mediaType"])
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return more


@pytest.fixture(scope="module")
def changed(hello: Layout, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, int]:
    path = tmp_path_factory.mktemp("diff") / "changed"
    return path, changed_copy(hello, path)


def check(found: Dict[str, Any], more: int) -> None:
    jsonschema.validate(found, SCHEMA)
    assert [(one["name"], one["change"]) for one in found["packages"]] == [("react", "rebuilt")]
    assert found["packages"][0]["before"] == found["packages"][0]["after"] != ""
    [layer] = found["layers"]
    [path] = layer["paths"]
    assert layer["file_bytes_change"] == path["after"]["size"] - path["before"]["size"] == more
    assert (path["path"], path["package"], path["fields"]) == (f"/{FILE}", "opam react", ["content", "size"])
    assert [(one["field"], one["after"]) for one in found["config"]] == [("Cmd", ["true"])]


def test_a_target_and_a_layout(pants: Pants, hello: Layout, changed: Tuple[Path, int]) -> None:
    path, more = changed
    done = pants.run("oci-diff", "--files", "--format=json", "//images:hello", "--", f"oci:{path}")
    check(json.loads(done.stdout), more)
    done = pants.run("oci-diff", "--check", "//images:hello", "--", f"oci:{path}", check=False)
    assert done.returncode == 1 and "react    rebuilt" in done.stdout
    done = pants.run("oci-diff", "--check", "--files", "--", "oci:dist/images/hello", "images:hello")
    assert done.stdout.startswith("oci:dist/images/hello and images:hello are the same image: manifest sha256:")
    done = pants.run("oci-diff", "--", "oci:dist/nothing", "images:hello", check=False)
    assert done.returncode == 1 and "error: oci:dist/nothing: there is no directory " in done.stderr and not done.stdout


def test_a_registry_and_a_target(pants: Pants, hello: Layout, changed: Tuple[Path, int], tmp_path: Path) -> None:
    """Of layers, those that differ are fetched."""
    path, more = changed
    with Registry(tmp_path / "registry") as registry:
        name = f"docker://{registry.address}/hello"
        for source, tag in ((f"oci:{hello.path}:latest", "old"), (f"oci:{path}", "new")):
            options = ["--quiet", "--preserve-digests", "--dest-tls-verify=false"]
            tool("skopeo", "copy", *options, source, f"{name}:{tag}")
        registry.requests()
        done = pants.run("oci-diff", "--check", "--", f"{name}:old", "images:hello")
        assert "are the same image" in done.stdout
        assert sum(one.method == "GET" and "/blobs/" in one.path for one in registry.requests()) == 1
        done = pants.run("oci-diff", "--files", "--format=json", "--", "images:hello", f"{name}:new")
        check(json.loads(done.stdout), more)
        fetched = {
            one.path.rpartition("/")[2] for one in registry.requests() if one.method == "GET" and "/blobs/" in one.path
        }
        assert fetched == {
            entry["digest"]
            for entry in (Layout(path).manifest["config"], *Layout(path).manifest["layers"])
            if entry not in hello.layers
        }
        done = pants.run("oci-diff", "--", f"{name}:none", "images:hello", check=False)
        assert done.returncode == 1 and f"error: {name}:none cannot be read: " in done.stderr
