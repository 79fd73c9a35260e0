"""What `plan-push` finds out of Debian's docker-registry, and what `push` makes of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from opam_sandbox.oci import layout as oci
from opam_sandbox.publishing.contents import contents
from opam_sandbox.registry import blobs
from opam_sandbox.registry.client import Access, Client
from opam_sandbox.registry.errors import RegistryError
from opam_sandbox.registry.manifests import fallback_tag
from tests.e2e.conftest import ROOT, tool
from tests.e2e.test_push import SKOPEO, Once, auth_file, pulled_digest
from tests.support.registry import Front, Registry, Tls, TokenServer
from tests.support.small_images import make_image, numbered_image


def run(work: Path, command: str, request: Dict[str, Any], env: Dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """The tool, as `pants publish` runs it, in a directory of its own."""
    work.mkdir(exist_ok=True)
    (work / "request.json").write_text(json.dumps(request))
    argv = [sys.executable, "-sB", "-m", "opam_sandbox.publishing", command, "request.json"]
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "PYTHONPATH": str(ROOT / "src"), **env}
    done = subprocess.run(
        argv, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )
    assert "Traceback" not in done.stderr
    return done


class Publisher:
    """A machine that plans and pushes; it remembers in `known` what it has seen."""

    def __init__(self, work: Path, env: Optional[Dict[str, str]] = None, **options: Any) -> None:
        self.work, self.env = work, env or {}
        work.mkdir(exist_ok=True)
        self.options = {"tls_verify": False, "cert_dir": "", "retries": 0, "known": str(work / "known"), **options}

    def plan(self, image: Path, repository: str, *tags: str) -> Any:
        request = {**self.options, "image": str(image), "repository": repository, "tags": tags}
        done = run(self.work, "plan-push", request, self.env)
        assert done.returncode == 0, done.stderr
        return json.loads((self.work / "plan.json").read_text())

    def push(self, image: Path, reference: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        request = {**self.options, "image": str(image), "reference": reference, "skopeo": SKOPEO, **more}
        return run(self.work, "push", request, self.env)

    def publish(self, image: Path, reference: str) -> str:
        """Plan, and push with nothing at hand but what is missing; what is said of it."""
        plan = self.plan(image, *reference.rsplit(":", 1))
        partial = self.work / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(image, partial)
        layers = json.loads(oci.blob_path(image, contents(image).image["digest"]).read_text())["layers"]
        there = [layer["digest"] for layer in layers if layer["digest"] in plan["there"]]
        for digest in set(there):
            oci.blob_path(partial, digest).unlink()
        current = reference.rpartition(":")[2] in plan["current"]
        done = self.push(partial, reference, there=there, current=current, requests=plan["requests"])
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as registry:
        yield registry


def test_ten_images_in_ten_repositories(registry: Registry, tmp_path: Path) -> None:
    """Planned at once, pushed one after the other: each blob is sent once. Then nothing is."""
    machine = Publisher(tmp_path / "machine")
    images = [tmp_path / f"image-{number}" for number in range(10)]
    digests = [numbered_image(image, number, shared=5) for number, image in enumerate(images)]
    references = [f"{registry.address}/team/app-{number}:latest" for number in range(10)]
    before = {oci.blob_path(image, digest).name for image in images for digest in contents(image).blobs}
    with ThreadPoolExecutor(4) as pool:
        plans = list(
            pool.map(
                lambda n: Publisher(tmp_path / f"plan-{n}").plan(images[n], *references[n].rsplit(":", 1)), range(10)
            )
        )
    assert all(plan["there"] == plan["current"] == [] for plan in plans)
    for image, reference in zip(images, references):
        assert machine.push(image, reference).returncode == 0
    sent = [request.path.rpartition("digest=")[2][-64:] for request in registry.requests() if request.is_upload]
    assert sorted(sent) == sorted(before)

    for image, reference in zip(images, references):
        assert "the registry has it already" in machine.publish(image, reference)
    assert {request.method for request in registry.requests()} == {"GET", "HEAD"}
    assert pulled_digest(tmp_path, references[7], "--src-tls-verify=false") == digests[7]


def test_a_sibling_lends_what_it_has(registry: Registry, tmp_path: Path) -> None:
    """A fresh machine, and two images that a registry has: a third one, in another repository, is sent its own blobs only."""
    first = Publisher(tmp_path / "first")
    for number in (1, 2, 3):
        numbered_image(tmp_path / f"{number}", number, shared=5)
    for number in (1, 2):
        first.publish(tmp_path / f"{number}", f"{registry.address}/app-{number}:x")
    fresh = Publisher(tmp_path / "fresh")
    assert "has it already" in fresh.publish(tmp_path / "1", f"{registry.address}/app-1:x")
    registry.requests()
    said = fresh.publish(tmp_path / "3", f"{registry.address}/app-3:x")
    assert "2 of 7 blobs sent" in said
    asked = registry.requests()
    assert (sum(r.is_mount for r in asked), sum(r.is_upload for r in asked)) == (5, 2)
    # Only what it sent was at hand: a layer and the configuration.
    assert "2 taken from Pants' cache" in said


def referrers_of(registry: Registry, repository: str, digest: str) -> List[Any]:
    place = f"docker://{registry.address}/{repository}:{fallback_tag(digest)}"
    index: Dict[str, Any] = json.loads(tool("skopeo", "inspect", "--raw", "--tls-verify=false", place).stdout)
    found: List[Any] = index["manifests"]
    return found


def test_referrers_go_along(registry: Registry, tmp_path: Path) -> None:
    digest = make_image(tmp_path / "image", [{"a": b"1"}], referrers=2)
    about = json.loads((tmp_path / "image/index.json").read_text())["manifests"][1:]
    machine = Publisher(tmp_path / "machine")
    reference = f"{registry.address}/app:1"
    machine.publish(tmp_path / "image", reference)
    listed = referrers_of(registry, "app", digest)
    assert [entry["digest"] for entry in listed] == [entry["digest"] for entry in about]
    assert [entry["artifactType"] for entry in listed] == ["application/x-0", "application/x-1"]
    assert not any("platform" in entry for entry in listed)
    for entry in listed:
        place = f"docker://{registry.address}/app@{entry['digest']}"
        manifest = json.loads(tool("skopeo", "inspect", "--raw", "--tls-verify=false", place).stdout)
        assert manifest["subject"]["digest"] == digest
    # What somebody else has attached stays, and what is listed already is not listed twice.
    make_image(tmp_path / "more", [{"a": b"1"}], referrers=3)
    machine.publish(tmp_path / "more", reference)
    assert len(referrers_of(registry, "app", digest)) == 3
    assert "has it already" in machine.publish(tmp_path / "image", reference)


def test_a_registry_that_refuses_artifacts(registry: Registry, tmp_path: Path) -> None:
    make_image(tmp_path / "image", [{"a": b"1"}], referrers=1)
    about = json.loads((tmp_path / "image/index.json").read_text())["manifests"][1]["digest"]
    with Front(registry, Once(400, "PUT", f"/manifests/{about}", times=100)) as front:
        done = Publisher(tmp_path / "machine").push(tmp_path / "image", f"{front.address}/app:1")
    assert done.returncode == 1 and 'sbom="files"' in done.stderr and "its tag is as it was" in done.stderr
    assert registry.tags("app") == []


def test_a_blob_that_goes_between_plan_and_push(registry: Registry, tmp_path: Path) -> None:
    numbered_image(tmp_path / "image", 1)
    machine = Publisher(tmp_path / "machine")
    reference = f"{registry.address}/app:1"
    machine.publish(tmp_path / "image", reference)
    layer = json.loads(oci.blob_path(tmp_path / "image", contents(tmp_path / "image").image["digest"]).read_text())[
        "layers"
    ][0]
    oci.blob_path(tmp_path / "image", layer["digest"]).unlink()
    shutil.rmtree(registry.storage / f"docker/registry/v2/repositories/app/_layers/sha256/{layer['digest'][7:]}")
    shutil.rmtree(tmp_path / "machine/known")
    done = machine.push(tmp_path / "image", f"{registry.address}/app:2", there=[layer["digest"]])
    assert done.returncode == 1 and layer["digest"] in done.stderr and "Publish again" in done.stderr
    assert registry.tags("app") == ["1"]


def test_a_tag_that_moves_between_plan_and_push(registry: Registry, tmp_path: Path) -> None:
    machine = Publisher(tmp_path / "machine")
    reference = f"{registry.address}/app:1"
    for number in (1, 2):
        numbered_image(tmp_path / f"{number}", number)
        machine.publish(tmp_path / f"{number}", reference)
    done = machine.push(tmp_path / "1", reference, current=True)
    assert done.returncode == 1 and "Somebody else has written it: publish again" in done.stderr


def test_tokens(tmp_path: Path) -> None:
    """A registry that wants tokens of a server beside it, over TLS."""
    tls = Tls.make(tmp_path / "tls")
    numbered_image(tmp_path / "image", 1)
    with (
        TokenServer(tmp_path / "tokens") as tokens,
        Registry(tmp_path / "registry", tls=tls, tokens=tokens) as registry,
    ):
        env = auth_file(tmp_path / "auth.json", registry.address)
        options: Dict[str, Any] = {"tls_verify": True, "cert_dir": str(tls.for_clients)}
        plan = Publisher(tmp_path / "nobody", **options).plan(tmp_path / "image", f"{registry.address}/app", "1")
        assert "authentication required" in plan["failed"]
        plan = Publisher(tmp_path / "carol", env, **options).plan(tmp_path / "image", f"{registry.address}/app", "1")
        # The realm speaks plain HTTP, to which no password goes where TLS is asked for.
        assert "plain HTTP" in plan["failed"] and tokens.asked == []
        machine = Publisher(tmp_path / "other", env, cert_dir=str(tls.for_clients))
        assert machine.plan(tmp_path / "image", f"{registry.address}/app", "1")["there"] == []
        assert tokens.asked == [["repository:app:pull,push"]]
        machine.publish(tmp_path / "image", f"{registry.address}/app:1")
        assert "has it already" in machine.publish(tmp_path / "image", f"{registry.address}/app:1")
        # To a sibling, mounted: by a token for both.
        assert "0 of 5 blobs sent" in machine.publish(tmp_path / "image", f"{registry.address}/other:1")
        assert ["repository:other:pull,push", "repository:app:pull"] in tokens.asked


def test_too_many_requests(registry: Registry, tmp_path: Path) -> None:
    numbered_image(tmp_path / "image", 1)
    with Front(registry, Once(429, "HEAD", "/blobs/"), retry_after=2) as front:
        begun = time.monotonic()
        plan = Publisher(tmp_path / "patient", retries=1).plan(tmp_path / "image", f"{front.address}/app", "1")
        assert "failed" not in plan and time.monotonic() - begun >= 2
    with Front(registry, Once(429, "HEAD", "/blobs/"), retry_after=2) as front:
        plan = Publisher(tmp_path / "hasty").plan(tmp_path / "image", f"{front.address}/app", "1")
        assert "status 429" in plan["failed"]


def test_a_large_blob_is_sent_in_pieces(registry: Registry, tmp_path: Path) -> None:
    content = os.urandom(250_000)
    (tmp_path / "blob").write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    client = Client(Access(registry.address, tls_verify=False), "app")
    client.connect()
    blobs.upload(client, "app", digest, str(tmp_path / "blob"), len(content), piece=100_000)
    assert sum(request.method == "PATCH" for request in registry.requests()) == 3
    assert blobs.exists(client, "app", digest, len(content))
    with pytest.raises(RegistryError):
        blobs.upload(client, "app", f"sha256:{'0' * 64}", str(tmp_path / "blob"), len(content), piece=100_000)
    client.close()
