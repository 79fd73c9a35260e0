"""`oci-verify` of a real image in a registry: its packages are really built again; a file that differs is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import jsonschema

from opam_oci.verification import result_json
from tests.e2e.conftest import Layout, Pants, tool
from tests.e2e.test_oci_diff import FILE, changed_copy
from tests.e2e.test_push import push, pushed
from tests.support.registry import Registry

SCHEMA = json.loads(Path(result_json.__file__).with_name("verification.schema.json").read_text())


def values(text: str) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(text)
    jsonschema.validate(found, SCHEMA)
    return found


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
        text = (hello.path.parent / "hello.provenance.json").read_text()
        document = json.loads(text)
        digest = json.loads((changed / "index.json").read_text())["manifests"][0]["digest"]
        document["subject"][0]["digest"]["sha256"] = digest.rpartition(":")[2]
        lockfile = document["predicate"]["buildDefinition"]["resolvedDependencies"][1]
        lockfile["digest"]["sha256"] = "0" * 64
        (tmp_path / "p.json").write_text(json.dumps(document))
        done = pants.run(*verify, *against, f"--provenance={tmp_path}/p.json", "//images:hello", check=False)
        assert done.returncode == 1
        found = values(done.stdout)
        assert found["verdict"] == "different"
        [path] = found["difference"]["layers"][0]["paths"]
        assert (path["path"], path["package"], path["fields"]) == (f"/{FILE}", "opam react", ["content", "size"])
        assert [one["name"] for one in found["dependencies"]["differ"]] == [lockfile["name"]]
