"""Images that `pants publish` has signed, and who takes them: skopeo by a policy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import pytest

from opam_sandbox.oci.spec import MANIFEST_TYPE
from opam_sandbox.registry.client import Access, Client
from tests.e2e.conftest import ROOT, Layout, Pants, tool
from tests.e2e.test_push import auth_file, push, pushed
from tests.support.registry import Registry, Tls
from tests.support.signing_skopeo import put_skopeo
from tests.support.sigstore_keys import KeyPair, make_keys
from tests.support.small_images import make_image

PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH with a skopeo that signs."""
    top = tmp_path_factory.mktemp("signing")
    yield f"{put_skopeo(top)}:{os.environ['PATH']}"
    shutil.rmtree(top, ignore_errors=True)


@dataclass
class Place:
    """A registry, and repositories of `//images:hello` in it."""

    registry: Registry
    digest: str

    def repository(self, name: str) -> str:
        return f"{self.registry.address}/{name}/hello"

    def options(self, name: str) -> List[str]:
        registries = {"r": {"address": f"{self.registry.address}/{name}", "default": True}}
        return [f"--oci-publish-registries={registries!r}"]

    def signatures(self, name: str) -> List[Any]:
        """Those of the image, as sigstore keeps them."""
        client = Client(Access(self.registry.address, tls_verify=False), f"{name}/hello")
        client.connect()
        address = f"/v2/{name}/hello/manifests/{self.digest.replace(':', '-')}.sig"
        answer = client.trying(lambda: client.send("GET", address, (), {"Accept": MANIFEST_TYPE}))
        client.close()
        return list(json.loads(answer.content)["layers"]) if answer.status == 200 else []


def pulled(work: Path, reference: str, public_key: Path, access: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """What an administrator's skopeo says who takes only images that a key has signed."""
    target = work / "pulled"
    shutil.rmtree(target, ignore_errors=True)
    wanted = {"type": "sigstoreSigned", "keyPath": str(public_key), "signedIdentity": {"type": "matchRepository"}}
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {reference.partition("/")[0]: [wanted]}}}
    (work / "policy.json").write_text(json.dumps(policy))
    (work / "registries.d").mkdir(exist_ok=True)
    (work / "registries.d/all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    options = [f"--policy={work}/policy.json", f"--registries.d={work}/registries.d"]
    copy = ["copy", "--quiet", "--remove-signatures", *(access or ["--src-tls-verify=false"])]
    return tool("skopeo", *options, *copy, f"docker://{reference}", f"oci:{target}:x", check=False)


def accepted(work: Path, reference: str, keys: KeyPair, *access: str) -> None:
    done = pulled(work, reference, keys.public, access)
    assert done.returncode == 0, done.stderr


def rejected(work: Path, reference: str, keys: KeyPair, why: str, *access: str) -> None:
    done = pulled(work, reference, keys.public, access)
    assert done.returncode == 1 and "Source image rejected" in done.stderr and why in done.stderr, done.stderr
    assert not (work / "pulled/index.json").exists()


def test_signed_by_skopeo(
    pants: Pants, hello: Layout, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = json.loads((hello.path / "index.json").read_text())["manifests"][0]["digest"]
    keys, others = make_keys(tmp_path, PASSWORD, "a"), make_keys(tmp_path, PASSWORD, "b")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    said = []
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry, digest)

        def publish(name: str, *options: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
            output = f"--publish-output={tmp_path}/output.json"
            command = [*place.options(name), *options, output, "-ldebug", "publish", "//images:hello"]
            done = pants.run(*command, check=check)
            said.append(done.stdout + done.stderr + (tmp_path / "output.json").read_text())
            return done

        # Without a signature.
        reference = f"{place.repository('plain')}:latest"
        pushed(push(tmp_path, hello.path, reference))
        rejected(tmp_path, reference, keys, "no signature exists")
        assert place.signatures("plain") == []

        # Once.
        signing = ["--oci-sign-signer=skopeo", f"--oci-sign-key={keys.private}"]
        done = publish("signed", *signing)
        whole = f"{place.repository('signed')}@{digest}"
        assert f"{whole}: signed by skopeo; the signature of {keys.public} is valid" in done.stderr
        image, signature = json.loads((tmp_path / "output.json").read_text())
        assert (image["digest"], image["published"], signature["published"]) == (digest, True, True)
        assert (signature["names"], signature["signer"]) == ([whole], "skopeo")
        for reference in (whole, f"{place.repository('signed')}:latest"):
            accepted(tmp_path, reference, keys)
            rejected(tmp_path, reference, others, "cryptographic signature verification failed")
        assert len(place.signatures("signed")) == 1

        # Not twice.
        registry.requests()
        done = publish("signed", *signing)
        assert f"{whole}: has a valid signature of {keys.public} already, and is not signed again" in done.stderr
        assert {request.method for request in registry.requests()} <= {"GET", "HEAD"}
        assert len(place.signatures("signed")) == 1

        # Not with another password.
        monkeypatch.setenv("COSIGN_PASSWORD", f"not {PASSWORD}")
        done = publish("failing", *signing, check=False)
        whole = f"{place.repository('failing')}@{digest}"
        assert done.returncode == 1
        assert f"error: {whole} was pushed, and is NOT signed: skopeo ended with exit status 1: " in done.stderr
        assert "pants publish images:hello` signs it, and sends nothing again" in done.stderr
        image, signature = json.loads((tmp_path / "output.json").read_text())
        assert (image["published"], signature["published"]) == (True, False)
        rejected(tmp_path, whole, keys, "no signature exists")

        # What that said mends it. What is about the image is signed as well.
        monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
        done = publish("failing", *signing, "--oci-sign-sign-attached")
        assert "the registry has it already" in done.stderr and done.stderr.count(": signed by skopeo;") == 4
        accepted(tmp_path, whole, keys)
        attached = [tag for tag in registry.tags("failing/hello") if tag.endswith(".sig")]
        assert len(attached) == 4

    assert not any(PASSWORD in text for text in said)
    found = tool("grep", "-rlaF", PASSWORD, str(ROOT / ".pants.d"), str(ROOT / ".pids"), check=False)
    assert (found.returncode, found.stdout) == (1, "")


def test_tls_and_login(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool's `sign`, in a registry with TLS and a login."""
    tls, keys = Tls.make(tmp_path / "tls"), make_keys(tmp_path, PASSWORD, "a")
    others = make_keys(tmp_path, PASSWORD, "b")
    digest = make_image(tmp_path / "image", [{"a": b"1"}], referrers=1)
    monkeypatch.setenv("PATH", path)
    with Registry(tmp_path / "registry", tls=tls, auth=True) as registry:
        repository = f"{registry.address}/t/image"
        reference = f"{repository}@{digest}"
        env = {"PATH": path, "HOME": str(tmp_path), **auth_file(tmp_path / "auth.json", registry.address)}
        access: Dict[str, Any] = {"tls_verify": True, "cert_dir": str(tls.for_clients)}
        pushed(push(tmp_path, tmp_path / "image", f"{repository}:1", env=env, **access))

        def sign(**values: Any) -> "subprocess.CompletedProcess[str]":
            request = {
                "image": str(tmp_path / "image"),
                "digest": digest,
                "repository": repository,
                "signer": "skopeo",
                "sign": ["skopeo"],
                "verify": ["skopeo"],
                "retries": 0,
                "key": str(keys.private),
                "public_key": str(keys.public),
                "password": "COSIGN_PASSWORD",
                **access,
                **values,
            }
            (tmp_path / "sign.json").write_text(json.dumps(request))
            command = [sys.executable, "-sB", "-m", "opam_sandbox.publishing", "sign", "sign.json"]
            more = {"PYTHONPATH": str(ROOT / "src"), "COSIGN_PASSWORD": PASSWORD}
            done = tool(*command, check=False, cwd=tmp_path, env={**env, **more})
            assert PASSWORD not in done.stdout + done.stderr
            return done

        done = sign()
        assert done.returncode == 0 and f"{reference}: signed by skopeo; the signature of " in done.stderr, done.stderr
        done = sign(attached=True)
        assert done.returncode == 0 and done.stderr.count(": signed by skopeo") == 1, done.stderr
        assert sign(attached=True).stderr.count("has a valid signature") == 2
        wrong = sign(public_key=str(others.public))
        assert wrong.returncode == 1 and "Are the two keys a pair?" in wrong.stderr
        missing = sign(repository=f"{registry.address}/t/nothing")
        assert missing.returncode == 1
        assert f"/t/nothing@{digest} is not in the registry, and so it is not signed" in missing.stderr

        options = [f"--src-cert-dir={tls.for_clients}", f"--authfile={tmp_path}/auth.json"]
        for place in (reference, f"{repository}:1"):
            accepted(tmp_path, place, keys, *options)
        make_image(tmp_path / "other", [{"a": b"2"}])
        pushed(push(tmp_path, tmp_path / "other", f"{repository}:2", env=env, **access))
        rejected(tmp_path, f"{repository}:2", keys, "no signature exists", *options)
