"""Pushing with skopeo to Debian's docker-registry, with and without TLS and passwords, and to one that misbehaves."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Set

import pytest

from tests.e2e.conftest import ROOT, tool
from tests.support.registry import PASSWORD, USER, Fault, Front, Registry, Tls
from tests.support.small_images import make_image, numbered_image

SKOPEO = shutil.which("skopeo") or "skopeo"


def push(
    work: Path,
    image: Path,
    reference: str,
    *,
    tls_verify: bool = False,
    cert_dir: str = "",
    retries: int = 0,
    env: Optional[Dict[str, str]] = None,
) -> "subprocess.CompletedProcess[str]":
    """The tool's `push`, as `pants publish` runs it."""
    request = {
        "image": str(image),
        "reference": reference,
        "tls_verify": tls_verify,
        "cert_dir": cert_dir,
        "skopeo": SKOPEO,
        "retries": retries,
    }
    work.mkdir(exist_ok=True)
    (work / "push.json").write_text(json.dumps(request))
    argv = [sys.executable, "-sB", "-m", "opam_sandbox.publishing", "push", "push.json"]
    return subprocess.run(
        argv,
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(work), "PYTHONPATH": str(ROOT / "src"), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
    )


def pushed(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def pulled_digest(work: Path, reference: str, *options: str) -> str:
    """Of the manifest, after every blob was pulled and compared by skopeo."""
    target = work / "pulled"
    shutil.rmtree(target, ignore_errors=True)
    tool("skopeo", "copy", "--quiet", *options, "--preserve-digests", f"docker://{reference}", f"oci:{target}:x")
    index = json.loads((target / "index.json").read_text())
    digest: str = index["manifests"][0]["digest"]
    return digest


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as registry:
        yield registry


def test_second_image_uploads_its_own_blobs_only(registry: Registry, tmp_path: Path) -> None:
    """Shared layers: skipped in the same repository, mounted from a sibling, never sent."""
    digests = [numbered_image(tmp_path / f"{n}", n, shared=5) for n in (1, 2, 3)]
    first = f"{registry.address}/ocaml/one:1"
    assert pushed(push(tmp_path, tmp_path / "1", first)) == f"{first}@{digests[0]}"
    asked = registry.requests()
    assert sum(r.is_upload for r in asked) == 7  # six layers and the config

    second = f"{registry.address}/ocaml/one:2"
    pushed(push(tmp_path, tmp_path / "2", second))
    asked = registry.requests()
    assert (sum(r.is_upload for r in asked), sum(r.is_mount for r in asked)) == (2, 0)

    sibling = f"{registry.address}/ocaml/other:1"
    pushed(push(tmp_path, tmp_path / "3", sibling))
    asked = registry.requests()
    assert (sum(r.is_upload for r in asked), sum(r.is_mount for r in asked)) == (2, 5)
    assert sum(r.is_manifest for r in asked) == 1

    # Again: nothing is sent but the manifest.
    pushed(push(tmp_path, tmp_path / "3", sibling))
    assert sum(r.is_upload or r.is_mount for r in registry.requests()) == 0
    for reference, digest in zip((first, second, sibling), digests):
        assert pulled_digest(tmp_path, reference, "--src-tls-verify=false") == digest


def test_an_image_with_referrers(registry: Registry, tmp_path: Path) -> None:
    """Bills of materials and the like lie beside an image in its layout; the image is pushed as what it is."""
    digest = make_image(tmp_path / "image", [{"a": b"1"}], referrers=2)
    assert len(json.loads((tmp_path / "image/index.json").read_text())["manifests"]) == 3
    reference = f"{registry.address}/ocaml/one:1"
    assert pushed(push(tmp_path, tmp_path / "image", reference)) == f"{reference}@{digest}"
    assert pulled_digest(tmp_path, reference, "--src-tls-verify=false") == digest


def auth_file(path: Path, address: str, password: str = PASSWORD) -> Dict[str, str]:
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": token}}}))
    return {"REGISTRY_AUTH_FILE": str(path)}


def test_tls_and_password(tmp_path: Path) -> None:
    tls = Tls.make(tmp_path / "tls")
    digest = numbered_image(tmp_path / "image", 1)
    with Registry(tmp_path / "registry", tls=tls, auth=True) as registry:
        reference = f"{registry.address}/one:1"
        env = auth_file(tmp_path / "auth.json", registry.address)
        known: Dict[str, Any] = {"tls_verify": True, "cert_dir": str(tls.for_clients), "retries": 2}

        done = push(tmp_path, tmp_path / "image", reference, tls_verify=True, retries=2, env=env)
        assert done.returncode == 1
        assert "x509" in done.stderr and "`cert_dir`" in done.stderr and "Trying again" not in done.stderr

        for nobody in ({}, auth_file(tmp_path / "wrong.json", registry.address, "wrong")):
            done = push(tmp_path, tmp_path / "image", reference, env=nobody, **known)
            assert done.returncode == 1
            assert f"skopeo login {registry.address}" in done.stderr and "Trying again" not in done.stderr
            assert registry.tags("one") == []

        done = push(tmp_path, tmp_path / "image", reference, env=env, **known)
        assert pushed(done) == f"{reference}@{digest}"
        assert PASSWORD not in done.stdout + done.stderr
        options = ["--src-cert-dir", str(tls.for_clients), "--src-creds", f"{USER}:{PASSWORD}"]
        assert pulled_digest(tmp_path, reference, *options) == digest


def test_plain_http_is_said(registry: Registry, tmp_path: Path) -> None:
    numbered_image(tmp_path / "image", 1)
    done = push(tmp_path, tmp_path / "image", f"{registry.address}/one:1", tls_verify=True, retries=3)
    assert done.returncode == 1 and "tls_verify = false" in done.stderr and "Trying again" not in done.stderr


class Once:
    """A fault for the first request of a kind."""

    def __init__(self, what: "int | str", method: str, path: str, times: int = 1) -> None:
        self.what, self.method, self.path, self.left = what, method, re.compile(path), times

    def __call__(self, method: str, path: str) -> "int | str | None":
        if self.left and method == self.method and self.path.search(path):
            self.left -= 1
            return self.what
        return None


BLOB, MANIFEST = r"/blobs/uploads/.", r"/manifests/"


@pytest.mark.parametrize(
    ("what", "method", "path"),
    [
        (429, "POST", "/blobs/uploads/"),
        (500, "PATCH", BLOB),
        ("cut", "PATCH", BLOB),
        (503, "PUT", BLOB),
        (500, "PUT", MANIFEST),
        ("cut", "PUT", MANIFEST),
    ],
)
def test_passing_faults_are_tried_again(
    registry: Registry, tmp_path: Path, what: "int | str", method: str, path: str
) -> None:
    digest = numbered_image(tmp_path / "image", 1, size=300_000)
    with Front(registry, Once(what, method, path)) as front:
        done = push(tmp_path, tmp_path / "image", f"{front.address}/one:1", retries=2)
        assert any(seen[2] == what for seen in front.seen)
        assert pushed(done).endswith(digest)
    assert pulled_digest(tmp_path, f"{registry.address}/one:1", "--src-tls-verify=false") == digest


@pytest.mark.parametrize(
    ("what", "method", "path"),
    [(401, "POST", "/blobs/uploads/"), (500, "PATCH", BLOB), ("cut", "PATCH", BLOB), (500, "PUT", MANIFEST)],
)
def test_lasting_faults_leave_the_tag(
    registry: Registry, tmp_path: Path, what: "int | str", method: str, path: str
) -> None:
    """A clear message, and the tag is what it was before: the old image, whole."""
    old = numbered_image(tmp_path / "old", 1, size=100_000)
    numbered_image(tmp_path / "new", 2, size=100_000)
    reference = f"{registry.address}/one:latest"
    pushed(push(tmp_path, tmp_path / "old", reference))
    fault: Fault = Once(what, method, path, times=1000)
    with Front(registry, fault) as front:
        done = push(tmp_path, tmp_path / "new", f"{front.address}/one:latest", retries=1)
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].strip()
    assert f"{front.address}/one:latest was not pushed" in done.stderr and "Traceback" not in done.stderr
    assert ("Trying again" in done.stderr) == (what != 401)
    assert pulled_digest(tmp_path, reference, "--src-tls-verify=false") == old


def test_damaged_blob_is_not_pushed(registry: Registry, tmp_path: Path) -> None:
    numbered_image(tmp_path / "image", 1)
    names: Set[Path] = set((tmp_path / "image/blobs/sha256").iterdir())
    largest = max(names, key=lambda path: path.stat().st_size)
    largest.write_bytes(b"x" * largest.stat().st_size)
    done = push(tmp_path, tmp_path / "image", f"{registry.address}/one:1")
    assert done.returncode == 1 and registry.tags("one") == []
