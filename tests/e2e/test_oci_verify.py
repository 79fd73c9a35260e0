"""`oci-verify` of a real image in a registry: its packages are really built again; a file that differs is found."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any, Dict

import jsonschema

from opam_oci.verification import result_json
from tests.e2e.conftest import Layout, Pants, tool
from tests.e2e.test_oci_diff import FILE, changed_copy
from tests.e2e.test_push import push, pushed
from tests.support.registry import Registry
from tests.support.small_images import write_blob, write_json_blob

SCHEMA = json.loads(Path(result_json.__file__).with_name("verification.schema.json").read_text())


def values(text: str) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(text)
    jsonschema.validate(found, SCHEMA)
    return found


def provenance_of(hello: Layout, path: Path, file: Path) -> str:
    """Writes the image's provenance as that of another one, in a layout; a lockfile is another one, whose name is returned."""
    document = json.loads((hello.path.parent / "hello.provenance.json").read_text())
    digest = json.loads((path / "index.json").read_text())["manifests"][0]["digest"]
    document["subject"][0]["digest"]["sha256"] = digest.rpartition(":")[2]
    lockfile = document["predicate"]["buildDefinition"]["resolvedDependencies"][1]
    lockfile["digest"]["sha256"] = "0" * 64
    file.write_text(json.dumps(document))
    return str(lockfile["name"])


def packed_otherwise(hello: Layout, path: Path) -> None:
    """A layout of the image whose last layer is compressed otherwise."""
    shutil.copytree(hello.path, path)
    manifest = hello.manifest
    layer = manifest["layers"][-1]
    plain = gzip.decompress(hello.blob(layer["digest"]).read_bytes())
    layer.update(write_blob(path, gzip.compress(plain, 1, mtime=0), layer["mediaType"]))
    entry = write_json_blob(path, manifest, manifest["mediaType"])
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def test_another_compression(pants: Pants, hello: Layout, tmp_path: Path) -> None:
    """The status says so, unless it is allowed; what differs is listed in any case."""
    path = tmp_path / "packed"
    packed_otherwise(hello, path)
    provenance_of(hello, path, tmp_path / "p.json")
    verify = ["oci-verify", "--rebuild=none", f"--against=oci:{path}", f"--provenance={tmp_path}/p.json"]
    done = pants.run(*verify, "//images:hello", check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"images:hello has the same contents as, and another manifest than, oci:{path}\n")
    assert f"layers[{len(hello.layers) - 1}].digest" in done.stdout and "compressed otherwise" in done.stdout
    pants.run(*verify, "--same-contents", "//images:hello")


def test_of_a_registry(pants: Pants, hello: Layout, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed_copy(hello, changed)
    with Registry(tmp_path / "registry") as registry:
        name = f"{registry.address}/hello"
        # With what is about it, as `publish` does it.
        pushed(push(tmp_path / "push", hello.path, f"{name}:1.0"))
        options = ["--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        tool("skopeo", "copy", *options, f"oci:{changed}", f"docker://{name}:changed")
        verify = ["oci-verify", "--format=json"]
        done = pants.run(*verify, "--rebuild=packages", f"--against=docker://{name}:1.0", "//images:hello")
        found = values(done.stdout)
        assert (found["verdict"], found["rebuilt"]) == ("identical", "packages")
        assert found["dependencies"]["differ"] == [] and found["dependencies"]["same"] > 100
        built = [line for line in done.stderr.splitlines() if "Completed: Build opam package " in line]
        assert len(built) == len(hello.layers) - 3, done.stderr
        # Nobody says what the changed one was made of.
        against = ["--rebuild=none", f"--against=docker://{name}:changed"]
        done = pants.run(*verify, *against, "//images:hello", check=False)
        assert done.returncode == 1 and "no provenance is attached to it" in done.stderr and not done.stdout
        # Somebody lies: it was made of the same, and of another lockfile.
        lockfile = provenance_of(hello, changed, tmp_path / "p.json")
        done = pants.run(*verify, *against, f"--provenance={tmp_path}/p.json", "//images:hello", check=False)
        assert done.returncode == 1
        found = values(done.stdout)
        assert found["verdict"] == "different"
        [path] = found["difference"]["layers"][0]["paths"]
        assert (path["path"], path["package"], path["fields"]) == (f"/{FILE}", "opam react", ["content", "size"])
        assert [one["name"] for one in found["dependencies"]["differ"]] == [lockfile]
