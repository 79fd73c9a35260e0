"""`publish` and `run`: what processes they ask for. The real ones run in tests/e2e."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from pants.core.goals.package import BuiltPackage
from pants.core.goals.publish import Publish, PublishPackages, PublishProcesses
from pants.core.goals.run import RunRequest
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.publish import PublishOciImageFieldSet, PublishOciImageRequest
from opam_oci.goals.run_image import OciImageRunFieldSet
from opam_sandbox.publishing.requests import PushRequest
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Access, Client
from opam_sandbox.request import check
from opam_sandbox.running import requests as running
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project
from tests.support.registry import Registry

pytestmark = pytest.mark.usefixtures("fake_tool")

SECRET = "hunter2-very-secret"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with programs that say their version."""
    for name, version in (("skopeo", "skopeo version 1.9.3"), ("runc", "runc version 1.1.5"), ("docker", "20.10")):
        program(tmp_path / name, version)
    # Sends skopeo elsewhere, perhaps: so no registry is asked what it has.
    (tmp_path / "registries.conf").write_text('[[registry]]\nprefix = "*.example.org"\nlocation = "127.0.0.1:9"\n')
    return tmp_path


def program(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)


def set_up(runner: RuleRunner, programs: Path, fields: str, *options: str, **env: str) -> Address:
    runner.write_files(project(Pkg("lwt", version="5.6.1"), image=image("lwt", more=fields)))
    env = {"CONTAINERS_REGISTRIES_CONF": str(programs / "registries.conf"), **env}
    runner.set_options([*OPTIONS, *options], env={"PATH": str(programs), **env})
    return Address("images", target_name="image")


def publish(runner: RuleRunner, address: Address) -> list[PublishPackages]:
    target = runner.get_target(address)
    built = runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])
    request = PublishOciImageRequest(PublishOciImageFieldSet.create(target), (built,))
    return list(runner.request(PublishProcesses, [request]))


def request_of(runner: RuleRunner, found: PublishPackages) -> Any:
    assert found.process is not None
    [file] = runner.request(DigestContents, [found.process.process.input_digest])
    values = json.loads(file.content)
    check(values, PushRequest, "the request")  # as the tool does
    return values


def files_of(runner: RuleRunner, found: PublishPackages) -> dict[str, bytes]:
    """The files of the image that a process is given."""
    assert found.process is not None
    image = found.process.process.immutable_input_digests["image"]
    return {file.path: file.content for file in runner.request(DigestContents, [image])}


def layout_files(runner: RuleRunner, address: Address) -> dict[str, bytes]:
    built = runner.request(BuiltPackage, [OciPackageImageFieldSet.create(runner.get_target(address))])
    files = runner.request(DigestContents, [built.digest])
    top = "images/image/"
    return {file.path[len(top) :]: file.content for file in files if file.path.startswith(top)}


def manifest_digest(runner: RuleRunner, address: Address) -> str:
    built = runner.request(BuiltPackage, [OciPackageImageFieldSet.create(runner.get_target(address))])
    files = {file.path: file.content for file in runner.request(DigestContents, [built.digest])}
    digest: str = json.loads(files["images/image/index.json"])["manifests"][0]["digest"]
    return digest


def test_places(rule_runner: RuleRunner, programs: Path) -> None:
    address = set_up(
        rule_runner,
        programs,
        'repositories=["@r", "oci:/srv/images"], image_tags=["{versions.lwt}", "latest"],',
        "--oci-publish-registries={'r': {'address': 'r.example.org', 'cert_dir': '/certs'}}",
        "--oci-publish-retries=2",
        REGISTRY_AUTH_FILE="auth.json",
    )
    first, second, layout = publish(rule_runner, address)
    assert [first.names, second.names] == [("r.example.org/image:5.6.1",), ("r.example.org/image:latest",)]
    digest = manifest_digest(rule_runner, address)
    assert dict(first.get_output_data()) == {
        "names": ("r.example.org/image:5.6.1",),
        "digest": digest,
        "repository": "r.example.org/image",
        "tags": ("5.6.1",),
    }
    assert request_of(rule_runner, first) == {
        "image": "image",
        "reference": "r.example.org/image:5.6.1",
        "tls_verify": True,
        "cert_dir": "/certs",
        "skopeo": str(programs / "skopeo"),
        "retries": 2,
        "known": f"{rule_runner.build_root}/.pants.d/opam-oci/registries",
        "current": False,
        "there": [],
        "requests": 0,
        "unplanned": f"{programs}/registries.conf may lead skopeo elsewhere than to r.example.org (it has an entry with "
        "`prefix`)",
    }
    # So skopeo gets all that there is.
    assert files_of(rule_runner, first) == layout_files(rule_runner, address)
    assert first.process is not None and layout.process is not None
    assert first.process.process.env["REGISTRY_AUTH_FILE"] == f"{rule_runner.build_root}/auth.json"
    assert layout.names == ("oci:/srv/images:image:5.6.1", "oci:/srv/images:image:latest")
    argv = layout.process.process.argv
    assert argv[argv.index("add") :] == (
        "add",
        "/srv/images",
        "--image",
        "image",
        "--name",
        "image:5.6.1",
        "--name",
        "image:latest",
    )


def test_credentials_are_passed_on_and_not_shown(rule_runner: RuleRunner, programs: Path) -> None:
    address = set_up(rule_runner, programs, 'repositories=["ghcr.io/x"],', "--oci-publish-env-vars=TOKEN", TOKEN=SECRET)
    [found] = publish(rule_runner, address)
    assert found.process is not None
    assert found.process.process.env["TOKEN"] == SECRET
    # What Pants logs at the level debug, and writes for --publish-output.
    assert SECRET not in f"{found.process}{found}{found.get_output_data()}"
    assert SECRET not in json.dumps(request_of(rule_runner, found)) + " ".join(found.process.process.argv)


def send(client: Client, files: dict[str, bytes], work: Path, digest: str) -> None:
    """A blob of a layout, into the repository `image`."""
    path = f"blobs/sha256/{digest.partition(':')[2]}"
    (work / "blob").write_bytes(files[path])
    blobs.upload(client, "image", digest, str(work / "blob"), len(files[path]))


@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed")
def test_only_what_a_registry_lacks_is_fetched(rule_runner: RuleRunner, programs: Path, tmp_path: Path) -> None:
    with Registry(tmp_path / "registry") as registry:
        fields = f'repositories=["{registry.address}/image"], image_tags=["1", "2"],'

        def again() -> list[PublishPackages]:
            # In another session: within one, a registry is asked once.
            return publish(
                rule_runner, set_up(rule_runner, programs, fields, CONTAINERS_REGISTRIES_CONF="/nonexistent")
            )

        address = set_up(rule_runner, programs, fields)
        files = layout_files(rule_runner, address)
        image, *referrers = json.loads(files["index.json"])["manifests"]
        manifest = json.loads(files[f"blobs/sha256/{image['digest'][7:]}"])
        layers = [layer["digest"] for layer in manifest["layers"]]

        first, second = again()
        values = request_of(rule_runner, first)
        assert (values["unplanned"], values["there"], values["current"]) == ("", [], False)
        assert files_of(rule_runner, first) == files_of(rule_runner, second) == files

        client = Client(Access(registry.address, tls_verify=False), "image")
        client.connect()
        for digest in layers[1:]:
            send(client, files, tmp_path, digest)
        first, second = again()
        values = request_of(rule_runner, first)
        assert (values["unplanned"], values["there"], values["current"]) == ("", sorted(layers[1:]), False)
        left = {f"blobs/sha256/{digest[7:]}" for digest in layers[1:]}
        assert files_of(rule_runner, first) == {path: text for path, text in files.items() if path not in left}

        # All of it at the first tag, but not yet what is about it.
        for digest in (layers[0], manifest["config"]["digest"]):
            send(client, files, tmp_path, digest)
        manifests.put(client, "image", "1", image["mediaType"], files[f"blobs/sha256/{image['digest'][7:]}"])
        first, second = again()
        assert not request_of(rule_runner, first)["current"]
        for referrer in referrers:
            text = files[f"blobs/sha256/{referrer['digest'][7:]}"]
            for one in (json.loads(text)["config"], *json.loads(text)["layers"]):
                send(client, files, tmp_path, one["digest"])
            manifests.put(client, "image", referrer["digest"], referrer["mediaType"], text)
        manifests.list_by_tag(client, "image", image["digest"], referrers)
        client.close()
        first, second = again()
        assert request_of(rule_runner, first)["current"] and not request_of(rule_runner, second)["current"]
        left = {f"blobs/sha256/{digest[7:]}" for digest in layers}
        documents = {path: text for path, text in files.items() if path not in left}
        assert files_of(rule_runner, first) == files_of(rule_runner, second) == documents

        # A registry that has lost a blob of an image that it has a tag of.
        [lost] = (registry.storage / "docker/registry/v2").glob(f"repositories/image/_layers/sha256/{layers[0][7:]}")
        shutil.rmtree(lost)
        first, _ = again()
        assert not request_of(rule_runner, first)["current"]
        assert files_of(rule_runner, first).keys() - documents == {f"blobs/sha256/{layers[0][7:]}"}


def test_nothing_is_built_for_skip_push(rule_runner: RuleRunner, programs: Path, tmp_path: Path) -> None:
    fields = 'repositories=["ghcr.io/x"], skip_push=True,'
    rule_runner.write_files(project(Pkg("broken", opam="fail"), image=image("broken", more=fields)))
    output = tmp_path / "out.json"
    done = rule_runner.run_goal_rule(
        Publish, global_args=OPTIONS, args=[f"--output={output}", "images:image"], env={"PATH": str(programs)}
    )
    assert done.exit_code == 0
    assert "skipped (by `skip_push` on images:image)" in done.stderr
    [entry] = json.loads(output.read_text())
    assert (entry["published"], entry["target"]) == (False, "images:image")


def test_skipped_registry_and_nowhere(rule_runner: RuleRunner, programs: Path) -> None:
    skip = "--oci-publish-registries={'r': {'address': 'r.example.org', 'skip_push': True}}"
    [found] = publish(rule_runner, set_up(rule_runner, programs, 'repositories=["@r"],', skip))
    assert found.process is None and found.description == "(by `skip_push` on registry @r)"
    [found] = publish(rule_runner, set_up(rule_runner, programs, ""))
    assert found.process is None and "sets no `repositories`" in str(found.description)


def test_tags_build_nothing(rule_runner: RuleRunner, programs: Path) -> None:
    before = manifest_digest(rule_runner, set_up(rule_runner, programs, 'image_tags=["a"],'))
    assert manifest_digest(rule_runner, set_up(rule_runner, programs, 'image_tags=["b"], repositories=[],')) == before


def failure(runner: RuleRunner, address: Address) -> str:
    with pytest.raises(ExecutionError) as raised:
        publish(runner, address)
    return str(raised.value.wrapped_exceptions[0])


def test_skopeo_is_missing_or_old(rule_runner: RuleRunner, programs: Path) -> None:
    address = set_up(rule_runner, programs, 'repositories=["ghcr.io/x"],')
    program(programs / "skopeo", "skopeo version 1.4.1")
    assert "1.4.1, but 1.9 is needed" in failure(rule_runner, address)
    (programs / "skopeo").unlink()
    message = failure(rule_runner, address)
    assert "needs `skopeo`, which is not on PATH" in message and "apt-get install skopeo" in message
    # Installed in between: the same daemon finds it.
    program(programs / "skopeo", "skopeo version 1.14.0-dev")
    assert publish(rule_runner, address)


def run(runner: RuleRunner, address: Address) -> tuple[RunRequest, Any]:
    target = runner.get_target(address)
    request = runner.request(RunRequest, [OciImageRunFieldSet.create(target)])
    [file] = runner.request(DigestContents, [request.digest])
    values = json.loads(file.content)
    check(values, running.RunRequest, "the request")  # as the tool does
    return request, values


def test_run(rule_runner: RuleRunner, programs: Path) -> None:
    program(programs / "crun", "crun 1.8")
    os.makedirs(f"{rule_runner.build_root}/data")
    address = set_up(
        rule_runner, programs, "", "--oci-run-volumes=data:/srv/data", "--oci-run-env-vars=['A=1', 'B']", B="2"
    )
    request, values = run(rule_runner, address)
    assert (values["kind"], values["runtime"], values["names"]) == ("crun", str(programs / "crun"), [])
    # Their values may be secrets: they are not in the request, which lies in Pants' store, and do not show in logs.
    assert (values["env"], values["network"]) == (["A", "B"], "host")
    assert dict(request.extra_env) == {"OPAM_OCI_RUN_A": "1", "OPAM_OCI_RUN_B": "2"}
    assert "'2'" not in repr(request)
    assert values["volumes"] == [{"source": f"{rule_runner.build_root}/data", "target": "/srv/data"}]
    assert request.args[-3:] == ("run", "{chroot}/request.json", "--")
    assert dict(request.append_only_caches or {}) == {"opam_oci_layers": "store"}


def test_run_in_docker(rule_runner: RuleRunner, programs: Path) -> None:
    address = set_up(rule_runner, programs, 'image_tags=["a", "b"],', "--oci-run-runtime=docker")
    _, values = run(rule_runner, address)
    assert values["names"] == ["image:a", "image:b"] and values["skopeo"] == str(programs / "skopeo")
    address = set_up(rule_runner, programs, "", "--oci-run-runtime=docker", "--oci-run-load-only")
    request, _ = run(rule_runner, address)
    assert request.args[-2:] == ("load", "{chroot}/request.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--oci-run-runtime=runc", "--oci-run-load-only"], "`[oci-run].load_only` needs"),
        (["--oci-run-volumes=/x"], "`[oci-run].volumes` has '/x'; it takes"),
        (["--oci-run-volumes=/no/such:/x"], "there is no /no/such"),
    ],
)
def test_bad_run_options(rule_runner: RuleRunner, programs: Path, options: list[str], message: str) -> None:
    with pytest.raises(ExecutionError) as raised:
        run(rule_runner, set_up(rule_runner, programs, "", *options))
    assert message in str(raised.value.wrapped_exceptions[0])
