"""Runtime images on bases that others made. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
from typing import Dict, List

import pytest
from pants.engine.addresses import Address
from pants.testutil.rule_runner import RuleRunner

from opam_oci.subsystems.oci_publish import Registry, registry_of, tls_of
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project
from tests.backend.test_images import blob_of, build, config, failure, manifest, names

pytestmark = pytest.mark.usefixtures("fake_tool")

DIGEST = "sha256:" + "1" * 64
PLACE = "registry.example.org/team/base"


def base(name: str, **fields: str) -> str:
    return f"oci_base_image(name={name!r}, {', '.join(f'{key}={value!r}' for key, value in fields.items())})\n"


def on(target: str, name: str = "image", more: str = "") -> str:
    return image("a", name=name, more=f'runtime=True, runtime_base=":{target}", {more}')


def write(runner: RuleRunner, text: str) -> None:
    runner.write_files(project(Pkg("a"), image=text))


def media_types(files: Dict[str, bytes]) -> List[str]:
    return [str(layer["mediaType"]).rpartition("+")[2] for layer in manifest(files)["layers"]]


def test_layers_are_kept_as_they_are(rule_runner: RuleRunner) -> None:
    write(rule_runner, base("b", image=PLACE, digest=DIGEST) + on("b", more='compression="zstd"'))
    files = build(rule_runner)
    assert names(files) == ["b", "b", "runtime"]
    assert media_types(files)[:2] == ["gzip", "zstd"]
    layers = manifest(files)["layers"]
    fetched = [blob_of(files, layer) for layer in layers[:2]]
    assert [one["layer"] for one in fetched] == [0, 1]
    assert fetched[0]["request"] == {
        "source": "registry",
        "place": PLACE,
        "digest": DIGEST,
        "architecture": "amd64",
        "name": "b",
        "tls_verify": True,
        "cert_dir": "",
        "handover": "",
    }
    history = config(files)["history"]
    assert [one["created_by"] for one in history] == ["oci_base_image b"] * 2 + ["runtime files of a"]
    assert history[0]["comment"] == f"a layer of {PLACE}@{DIGEST}"
    spdx = json.loads(files["images/image.spdx.json"])
    [part] = [one for one in spdx["packages"] if one["SPDXID"] == "SPDXRef-base-image"]
    assert (part["name"], part["versionInfo"]) == ("base", "sha256:" + "a" * 64)
    purl = f"pkg:oci/base@sha256:{'a' * 64}?repository_url=registry.example.org%2Fteam%2Fbase"
    assert part["externalRefs"][0]["referenceLocator"] == purl
    predicate = json.loads(files["images/image.provenance.json"])["predicate"]["buildDefinition"]
    [made_of] = [one for one in predicate["resolvedDependencies"] if one["name"] == "base image"]
    assert made_of == {"name": "base image", "digest": {"sha256": "a" * 64}, "uri": purl}


def test_the_runtime_layer_is_made_over_all_of_them(rule_runner: RuleRunner) -> None:
    write(rule_runner, base("b", image="oci:images/here", digest=DIGEST) + on("b"))
    files = build(rule_runner)
    request = blob_of(files, manifest(files)["layers"][2])["request"]
    assert request["foreign_base"] is True and request["slim"] == "in/0"
    fetched = blob_of(files, manifest(files)["layers"][0])["request"]
    assert (fetched["source"], fetched["place"]) == ("layout", f"{rule_runner.build_root}/images/here")


def test_from_scratch(rule_runner: RuleRunner) -> None:
    write(rule_runner, base("b", image="scratch") + on("b"))
    files = build(rule_runner)
    assert names(files) == ["runtime"]
    assert len(config(files)["rootfs"]["diff_ids"]) == len(config(files)["history"]) == 1
    assert b"SPDXRef-base-image" not in files["images/image.spdx.json"]
    assert b"base image" not in files["images/image.provenance.json"]


def test_flat_and_for_docker(rule_runner: RuleRunner) -> None:
    """Where no layer may be another's, one that has all of the base is in the place of them."""
    text = base("b", image="oci:/here", digest=DIGEST)
    write(rule_runner, text + on("b", more='layers="flat"') + on("b", "docker", 'format="docker-archive"'))
    [flat] = manifest(build(rule_runner))["layers"]
    request = blob_of(build(rule_runner), flat)["request"]
    assert request["layers"] == ["in/0", "in/1"] and request["packer"] == "in/2"
    archive = json.loads(build(rule_runner, "docker")["images/docker.tar"])
    assert [layer["name"] for layer in archive["layers"][0]] == ["b", "runtime"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"image": PLACE}, "`digest` field in target images:b is not set, but required"),
        ({"image": "scratch", "digest": DIGEST}, 'its `image` is "scratch", which has none'),
        ({"image": f"{PLACE}:tag", "digest": DIGEST}, "without a tag or a digest"),
        ({"image": f"{PLACE}@{DIGEST}", "digest": DIGEST}, "without a tag or a digest"),
        ({"image": "debian", "digest": DIGEST}, "a repository with its host"),
        ({"image": "user:password@registry.example.org/x", "digest": DIGEST}, "Credentials do not belong there"),
        ({"image": "oci:", "digest": DIGEST}, "a layout, such as"),
        ({"image": PLACE, "digest": "sha256:12"}, '"sha256:" and 64 hex digits'),
        ({"digest": DIGEST}, "image"),
    ],
)
def test_wrong_fields(rule_runner: RuleRunner, fields: Dict[str, str], says: str) -> None:
    write(rule_runner, base("b", **fields) + on("b"))
    with pytest.raises(Exception) as raised:
        rule_runner.get_target(Address("images", target_name="b"))
    assert says in str(raised.value) and "images:b" in str(raised.value) and "password@" not in str(raised.value)


def test_bases_that_do_not_fit(rule_runner: RuleRunner) -> None:
    text = base("arm", image=PLACE, digest=DIGEST, architecture="arm64") + base(
        "b", image="oci:/nowhere", digest=DIGEST
    )
    text += on("arm") + on("b", "absent") + image("a", name="other", more='runtime=True, runtime_base=":image"')
    text += image("a", name="built", more='base=":b"')
    write(rule_runner, text)
    assert "images:arm (arm64), but the packages are built in 3rdparty/debian:trixie (amd64)" in failure(rule_runner)
    said = failure(rule_runner, "absent")
    assert f"Fetch the base oci:/nowhere@{DIGEST} failed." in said and "it is nowhere" in said
    said = failure(rule_runner, "other")
    assert "is a `oci_package_image`; it must be a `debian_rootfs` or an `oci_base_image`" in said
    assert "Packages run only on the base that they were built in" in failure(rule_runner, "built")


def test_packages_are_not_built_in_one(rule_runner: RuleRunner) -> None:
    """Whatever is in it: a depext's .debs, or apks, or rpms, would have to be locked for it."""
    files = project(Pkg("a"), image=base("b", image=PLACE, digest=DIGEST) + image("a"))
    lock = files["3rdparty/opam/default.lock"]
    assert "//3rdparty/debian:trixie" in lock
    files["3rdparty/opam/default.lock"] = lock.replace("//3rdparty/debian:trixie", "//images:b")
    rule_runner.write_files(files)
    rule_runner.set_options([*OPTIONS, "--opam-resolves-to-base={'default': '//images:b'}"])
    said = failure(rule_runner)
    assert "`[opam].resolves_to_base` names images:b, which is an `oci_base_image`" in said
    assert "their depexts can be locked for a `debian_rootfs` only" in said


def test_how_registries_are_spoken_to() -> None:
    entries = {
        "one": Registry("registry.example.org", tls_verify=False),
        "two": Registry("registry.example.org/team", cert_dir="certs"),
    }

    def access(place: str) -> "tuple[bool, str]":
        return tls_of(registry_of(place, entries), "/root")

    assert access("registry.example.org/other/x") == (False, "")
    assert access("registry.example.org/team/x") == (True, "/root/certs")
    assert access("registry.example.org/teams/x") == (False, "")
    assert access("127.0.0.1:5000/x") == (False, "")
    assert access("example.org/x") == (True, "")
