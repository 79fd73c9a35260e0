"""`pants publish` of a real image: to a registry with TLS and a password, and into a layout directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List

import pytest

from opam_sandbox.oci.check_layout import problems
from tests.e2e.conftest import Layout, Pants, tool
from tests.e2e.test_push import auth_file
from tests.support.registry import PASSWORD, USER, Registry, Tls


def publish(pants: Pants, output: Path, *options: str) -> List[Any]:
    done = pants.run(*options, f"--publish-output={output}", "publish", "//images:hello", "-ldebug")
    assert PASSWORD not in done.stdout + done.stderr
    token = json.loads(Path(os.environ["REGISTRY_AUTH_FILE"]).read_text())["auths"]
    assert not any(entry["auth"] in done.stderr for entry in token.values())
    entries: List[Any] = json.loads(output.read_text())
    return entries


def test_registry_and_layout(pants: Pants, hello: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = Tls.make(tmp_path / "tls")
    digest = json.loads((hello.path / "index.json").read_text())["manifests"][0]["digest"]
    layout = tmp_path / "layout"
    with Registry(tmp_path / "registry", tls=tls, auth=True) as registry:
        monkeypatch.setenv(
            "REGISTRY_AUTH_FILE", auth_file(tmp_path / "auth.json", registry.address)["REGISTRY_AUTH_FILE"]
        )
        registries = {
            "r": {
                "address": registry.address,
                "default": True,
                "cert_dir": str(tls.for_clients),
                "extra_image_tags": ["{versions.react}"],
                "repository": "ocaml/{name}",
            },
            "shared": {"address": f"oci:{layout}", "default": True},
        }
        option = f"--oci-publish-registries={registries!r}"
        options = ["--cert-dir", str(tls.for_clients), "--creds", f"{USER}:{PASSWORD}"]
        entries = publish(pants, tmp_path / "out.json", option)
        names = [f"{registry.address}/ocaml/hello:{tag}" for tag in ("latest", "1.2.2")]
        assert [entry["names"] for entry in entries] == [[name] for name in names] + [[f"oci:{layout}:hello:latest"]]
        assert {entry["digest"] for entry in entries} == {digest}
        assert all(entry["published"] for entry in entries)

        # Layers and configuration; two SBOMs, the provenance, and the empty configuration of their manifests; for two tags, and a
        # list of what is about the image.
        asked = registry.requests()
        assert sum(r.is_upload for r in asked) == len(hello.layers) + 1 + 4
        assert sum(r.is_manifest for r in asked) == 2 + 3 + 1
        listed = tool(
            "skopeo", "inspect", "--raw", *options, f"docker://{names[0].rpartition(':')[0]}:sha256-{digest[7:]}"
        )
        kinds = {entry["artifactType"] for entry in json.loads(listed.stdout)["manifests"]}
        assert kinds == {"application/spdx+json", "application/vnd.cyclonedx+json", "application/vnd.in-toto+json"}

        # Again: a few questions.
        again = publish(pants, tmp_path / "out.json", option)
        assert [entry["published"] for entry in again] == [True] * 3
        assert {r.method for r in registry.requests()} <= {"GET", "HEAD"}
        pulled = tmp_path / "pulled"
        sources = [f"--src-{option[2:]}" if option.startswith("--") else option for option in options]
        tool("skopeo", "copy", "--quiet", "--preserve-digests", *sources, f"docker://{names[1]}", f"oci:{pulled}:x")
        assert json.loads((pulled / "index.json").read_text())["manifests"][0]["digest"] == digest
        done = pants.run(
            option, "-ldebug", "oci-diff", "--check", "//images:hello", "--", f"docker://{names[1]}", check=False
        )
        assert (
            done.returncode == 0 and "are the same image" in done.stdout and PASSWORD not in done.stdout + done.stderr
        )

        # To a sibling: everything is mounted.
        registries["r"]["repository"] = "other/{name}"
        publish(pants, tmp_path / "out.json", f"--oci-publish-registries={registries!r}")
        asked = registry.requests()
        assert sum(r.is_upload for r in asked) == 0
        assert sum(r.is_mount for r in asked) == len(hello.layers) + 1 + 4

    assert problems(layout) == []
    assert tool("umoci", "ls", "--layout", str(layout)).stdout == "hello:latest\n"
    shared = f"--oci-publish-registries={ {'shared': registries['shared']}!r}"
    done = pants.run(shared, "unpublish", "//images:hello")
    assert f"oci:{layout}:hello:latest removed" in done.stderr
    assert list((layout / "blobs" / "sha256").iterdir()) == []
