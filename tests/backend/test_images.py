"""Images of several roots and resolves, their kinds, layouts and indexes. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List

import pytest
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.package_image_index import OciImageIndexFieldSet
from opam_oci.goals.package_image_layout import OciImageLayoutFieldSet
from opam_oci.images.oci_layout import LayoutError, image_of_index
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, opam_lock, project

pytestmark = pytest.mark.usefixtures("fake_tool")

_SAME_BASE = [
    option.replace("//3rdparty/debian:second", "//3rdparty/debian:trixie") if "resolves-to-base" in option else option
    for option in OPTIONS
]


def build(runner: RuleRunner, name: str = "image", kind: Any = OciPackageImageFieldSet) -> Dict[str, bytes]:
    """The files that packaging the target gives."""
    built = runner.request(BuiltPackage, [kind.create(runner.get_target(Address("images", target_name=name)))])
    return {file.path: file.content for file in runner.request(DigestContents, [built.digest])}


def failure(runner: RuleRunner, name: str = "image", kind: Any = OciPackageImageFieldSet) -> str:
    with pytest.raises(ExecutionError) as raised:
        build(runner, name, kind)
    return str(raised.value.wrapped_exceptions[0])


def blob_of(files: Dict[str, bytes], descriptor: Any, path: str = "images/image") -> Any:
    return json.loads(files[f"{path}/blobs/{descriptor['digest'].replace(':', '/')}"])


def manifest(files: Dict[str, bytes], path: str = "images/image", tag: str = "latest") -> Any:
    for entry in json.loads(files[f"{path}/index.json"])["manifests"]:
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
            return blob_of(files, entry, path)
    raise AssertionError(f"no {tag} in {path}")


def titles(manifest: Any) -> List[str]:
    return [entry.get("annotations", {}).get("org.opencontainers.image.title", "") for entry in manifest["layers"]]


def config(files: Dict[str, bytes], path: str = "images/image") -> Any:
    return blob_of(files, manifest(files, path)["config"], path)


def names(files: Dict[str, bytes], path: str = "images/image") -> List[str]:
    """Of the layers, as the fake tool calls them."""
    return [blob_of(files, layer, path)["name"] for layer in manifest(files, path)["layers"]]


def two_resolves(one: Iterable[Pkg], two: Iterable[Pkg], packages: Iterable[str]) -> Dict[str, str]:
    files = project(*one)
    files["3rdparty/opam/BUILD"] += 'opam_packages(name="other", resolve="other")\n'
    files["3rdparty/opam/other.lock"] = opam_lock(*two, resolve="other")
    addresses = [f"3rdparty/opam:{package}" for package in packages]
    files["images/BUILD"] = f'oci_package_image(name="image", packages={addresses!r})\n'
    return files


SHARED = (Pkg("b", depends=["c"]), Pkg("c"))


def test_roots_of_two_resolves(rule_runner: RuleRunner) -> None:
    """What both need is there once; the order is the union's; the state layer knows all roots."""
    rule_runner.set_options(_SAME_BASE)
    rule_runner.write_files(
        two_resolves([Pkg("a", depends=["b"]), *SHARED], [Pkg("d", depends=["c"]), *SHARED], ["default#a", "other#d"])
    )
    files = build(rule_runner)
    assert titles(manifest(files)) == ["", "", "c.1", "b.1", "a.1", "d.1", ""]
    history = config(files)["history"]
    assert history[2]["comment"] == "opam resolve default, other"
    assert history[5]["comment"] == "opam resolve other"


def test_what_both_resolves_need_is_built_once(rule_runner: RuleRunner, tmp_path: Path) -> None:
    """Both are asked for at once: were the processes not the same, neither would find the other's result in the cache."""
    notes = tmp_path / "notes"
    shared = [Pkg("a", opam=f"note_in={notes}"), Pkg("b", depends=["a"], opam=f"note_in={notes}")]
    rule_runner.set_options(_SAME_BASE)
    rule_runner.write_files(two_resolves(shared, [*shared, Pkg("c", depends=["b"])], ["default#b", "other#b"]))
    build(rule_runner)
    assert sorted(notes.read_text().split()) == ["a.1", "b.1"]


def test_versions_that_conflict(rule_runner: RuleRunner) -> None:
    rule_runner.set_options(_SAME_BASE)
    rule_runner.write_files(
        two_resolves(
            [Pkg("a", depends=["b"]), *SHARED],
            [Pkg("d", depends=["e"]), Pkg("e", depends=["c"]), Pkg("c", version="2")],
            ["default#a", "other#d"],
        )
    )
    message = failure(rule_runner)
    assert "images:image" in message
    assert (
        "c.1 and c.2: a.1 -> b.1 -> c.1 in the resolve `default`; d.1 -> e.1 -> c.2 in the resolve `other`" in message
    )


def test_one_version_built_over_others(rule_runner: RuleRunner) -> None:
    rule_runner.set_options(_SAME_BASE)
    rule_runner.write_files(
        two_resolves([Pkg("a", depends=["c"]), Pkg("c")], [Pkg("a", depends=[]), Pkg("c")], ["default#a", "other#a"])
    )
    assert "a.1 is not locked the same (it depends on c in one of them only)" in failure(rule_runner)


MANY = tuple(Pkg(f"p{number}", depends=[f"p{number - 1}"] if number else []) for number in range(8))


def test_max_layers(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(*MANY, image=image("p7", more="max_layers=6")))
    files = build(rule_runner)
    found = manifest(files)
    assert len(found["layers"]) == 6
    packages = [title.split() for title in titles(found)[2:-1]]
    assert [name for one in packages for name in one] == [f"p{number}.1" for number in range(8)]
    assert any(len(one) > 1 for one in packages)
    assert config(files)["history"][2]["created_by"].startswith("opam install p0.1")


def test_per_package_does_not_join(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(*MANY, image=image("p7", more='max_layers=6, layers="per_package"')))
    message = failure(rule_runner)
    assert "images:image has 11 layers" in message and '"grouped"' in message


def test_flat(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(*MANY, image=image("p1", more='layers="flat"')))
    files = build(rule_runner)
    assert names(files) == ["merge"]
    [entry] = config(files)["history"]
    assert "debian_rootfs trixie" in entry["created_by"] and "opam install p1.1" in entry["created_by"]


def test_compression(rule_runner: RuleRunner) -> None:
    """Every layer is made anew, base and state too; with the default nothing is."""
    both = image("p0", name="image", more='compression="zstd", compression_level=7') + image("p0", name="plain")
    rule_runner.write_files(project(*MANY, image=both))
    files = build(rule_runner)
    for layer in manifest(files)["layers"]:
        blob = blob_of(files, layer)
        assert (blob["command"], blob["request"]["compression"], blob["request"]["level"]) == ("repack", "zstd", 7)
    plain = build(rule_runner, "plain")
    assert not any(b'"repack"' in content for content in plain.values())


@pytest.mark.parametrize("layers", ["per_package", "flat"])
def test_annotations_of_chunked_layers(rule_runner: RuleRunner, layers: str) -> None:
    """What a layer's description says of the blob stands in the manifest, beside what the manifest has of its own."""
    chunked = image("p1", name="image", more=f'compression="zstd:chunked", compression_level=19, layers="{layers}"')
    rule_runner.write_files(project(*MANY, image=chunked + image("p1", name="plain", more=f'layers="{layers}"')))
    files, plain = build(rule_runner), build(rule_runner, "plain")
    for layer, as_made in zip(manifest(files)["layers"], manifest(plain, "images/plain")["layers"]):
        blob = blob_of(files, layer)
        assert (blob["request"]["compression"], blob["request"]["level"]) == ("zstd:chunked", 19)
        assert layer["annotations"] == {**as_made.get("annotations", {}), "chunked": blob["name"] or blob["kind"]}
        assert "chunked" not in as_made.get("annotations", {})
    assert len(manifest(files)["layers"]) == (1 if layers == "flat" else 5)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('compression="zstd", compression_level=20', "zstd takes 1 to 19"),
        ('compression="zstd:chunked", compression_level=20', "zstd:chunked takes 1 to 19"),
        ('compression="none", compression_level=1', "none has no levels"),
        ("max_layers=3", "at least 4"),
        ('exposed_ports=["http"]', "exposed_ports"),
        ('volumes=["data"]', "volumes"),
        ('stop_signal="int"', "stop_signal"),
        ('layers="many"', "layers"),
        ('overlapping_files=["etc/x"]', "overlapping_files"),
        ("runtime=True", "`runtime_base` field in target images:image is not set"),
        ('shared_with=["3rdparty/debian:trixie"]', "which is a `debian_rootfs`"),
    ],
)
def test_wrong_fields(rule_runner: RuleRunner, more: str, says: str) -> None:
    rule_runner.write_files(project(*MANY, image=image("p0", more=more)))
    with pytest.raises(Exception) as raised:
        build(rule_runner)
    assert says in str(raised.value) and "images:image" in str(raised.value)


def test_config(rule_runner: RuleRunner) -> None:
    more = 'exposed_ports=["80", "53/udp"], volumes=["/data"], stop_signal="SIGINT", sbom="none"'
    rule_runner.write_files(project(*MANY, image=image("p0", more=more)))
    files = build(rule_runner)
    found = config(files)["config"]
    assert found["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert found["Volumes"] == {"/data": {}} and found["StopSignal"] == "SIGINT"
    assert not any("sbom" in name or "spdx" in name for name in files)


def test_sbom(rule_runner: RuleRunner) -> None:
    both = image("p1", name="image") + image("p1", name="files", more='sbom="files"')
    packages = (Pkg("p0", opam='license: "MIT"\n'), Pkg("p1", depends=["p0"]))
    rule_runner.write_files(project(*packages, image=both))
    files = build(rule_runner)
    spdx = json.loads(files["images/image.spdx.json"])
    assert [(one["name"], one["licenseDeclared"]) for one in spdx["packages"][1:]] == [
        ("p0", "MIT"),
        ("p1", "NOASSERTION"),
    ]
    needs = {
        "spdxElementId": "SPDXRef-opam-p1",
        "relationshipType": "DEPENDS_ON",
        "relatedSpdxElement": "SPDXRef-opam-p0",
    }
    assert needs in spdx["relationships"]
    image_entry, *attached, _ = json.loads(files["images/image/index.json"])["manifests"]
    assert spdx["packages"][0]["versionInfo"] == image_entry["digest"]
    documents = [blob_of(files, blob_of(files, one)["layers"][0]) for one in attached]
    assert documents == [spdx, json.loads(files["images/image.cdx.json"])]
    only = build(rule_runner, "files")
    assert "images/files.cdx.json" in only and len(json.loads(only["images/files/index.json"])["manifests"]) == 1


def test_runtime(rule_runner: RuleRunner) -> None:
    more = (
        'runtime=True, runtime_base="3rdparty/debian:second", runtime_keep=["/usr/bin/gpg", "!/usr/share/x/*"], '
        'env={"PATH": "/opt/bin:$PATH", "X": "y"}'
    )
    rule_runner.write_files(project(*MANY, image=image("p1", more=more)))
    files = build(rule_runner)
    assert names(files) == ["second", "runtime"]
    blob = blob_of(files, manifest(files)["layers"][1])["request"]
    assert [(one["name"], one["root"]) for one in blob["packages"]] == [("p0", False), ("p1", True)]
    assert blob["keep"] == ["/usr/bin/gpg", "!/usr/share/x/*"] and blob["slim"] == "in/0" and len(blob["layers"]) == 5
    # What it looks up is in the image's environment, and in the union that the state has made.
    assert blob["env"] == config(files)["config"]["Env"] and "X=y" in blob["env"]
    assert [one for one in blob["env"] if one.startswith("PATH=/opt/bin:/")]


def test_overlapping_files(rule_runner: RuleRunner) -> None:
    """Images get the field's patterns and the option's, and none where there are none."""
    packages = (Pkg("a"), Pkg("b"), Pkg("c", depends=["a", "b"]))
    field = 'overlapping_files=["/etc/x"]'
    runtime = f'runtime=True, runtime_base="3rdparty/debian:second", {field}'
    images = image("c", more=field) + image("c", name="runtime", more=runtime) + image("c", name="plain")
    rule_runner.write_files(project(*packages, image=images))

    def asked(name: str) -> Dict[str, Any]:
        """The patterns in the request of the image's state or runtime layer."""
        files = build(rule_runner, name)
        found: Dict[str, Any] = {}
        for layer in manifest(files, f"images/{name}")["layers"][1:]:
            blob = blob_of(files, layer, f"images/{name}")
            if blob["name"] in ("state", "runtime"):
                found[blob["name"]] = blob.get("request", blob).get("overlapping_files")
        return found

    # A runtime image's files are those of the full one, whose state has compared them.
    assert (asked("image"), asked("runtime"), asked("plain")) == (
        {"state": ["/etc/x"]},
        {"runtime": None},
        {"state": None},
    )
    rule_runner.set_options((*OPTIONS, "--opam-overlapping-files=['/usr/y']"))
    assert (asked("image"), asked("plain")) == ({"state": ["/etc/x", "/usr/y"]}, {"state": ["/usr/y"]})


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_archives(rule_runner: RuleRunner, kind: str) -> None:
    rule_runner.write_files(project(*MANY, image=image("p1", more=f'format="{kind}", compression="zstd"')))
    files = build(rule_runner)
    archive = json.loads(files["images/image.tar"])
    assert archive["request"]["format"] == kind
    if kind == "docker-archive":
        assert set(files) == {"images/image.tar"}
        [one] = archive["request"]["images"]
        assert one["tags"] == ["image:latest"]
        # Out of the layers as packages make them: they are stored uncompressed anyway.
        assert [layer["name"] for layer in archive["layers"][0]] == ["trixie", "opam-root", "p0", "p1", "state"]
        assert list(archive["files"]) == [f"layout/blobs/{one['config'].replace(':', '/')}"]
    else:
        assert "layout/index.json" in archive["files"]
        beside = {f"images/image.{document}.json" for document in ("cdx", "provenance", "spdx")}
        assert set(files) == {"images/image.tar", *beside}


LAYOUT = """
oci_image_layout(name="layout", images=[":one", ":two"], tags={":two": "second"})
oci_image_layout(name="same", images=[":one", "images/sub:one"])
oci_image_layout(name="wrong", images=[":one"], tags={":two": "second"})
oci_image_layout(name="docker", images=[":one", ":two"], format="docker-archive")
"""


def layout_files(more: str = "") -> Dict[str, str]:
    images = image("p7", name="one", more=more) + image("p3", name="two")
    return {**project(*MANY, image=images + LAYOUT), "images/sub/BUILD": image("p1", name="one")}


def test_layout(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(layout_files())
    files = build(rule_runner, "layout", OciImageLayoutFieldSet)
    one, two = manifest(files, "images/layout", "one"), manifest(files, "images/layout", "second")
    assert titles(two)[2:-1] == titles(one)[2:6] == ["p0.1", "p1.1", "p2.1", "p3.1"]
    # An image is the same in a layout as by itself.
    alone = build(rule_runner, "two")
    assert manifest(alone, "images/two") == two
    blobs = {name.rpartition("/")[2] for name in alone if "/blobs/" in name}
    assert blobs <= {name.rpartition("/")[2] for name in files}


def test_a_layouts_images_are_grouped_together(rule_runner: RuleRunner) -> None:
    """What both hold stays alone, although by itself the image would join some of it."""
    rule_runner.write_files(layout_files("max_layers=9"))
    files = build(rule_runner, "layout", OciImageLayoutFieldSet)
    assert titles(manifest(files, "images/layout", "one"))[2:6] == ["p0.1", "p1.1", "p2.1", "p3.1"]
    assert len(manifest(files, "images/layout", "one")["layers"]) <= 9


def test_shared_with(rule_runner: RuleRunner) -> None:
    """The same by a field: then the image is that way by itself too."""
    rule_runner.write_files(layout_files('max_layers=9, shared_with=[":two"]'))
    alone = manifest(build(rule_runner, "one"), "images/one")
    assert titles(alone)[2:6] == ["p0.1", "p1.1", "p2.1", "p3.1"]
    files = build(rule_runner, "layout", OciImageLayoutFieldSet)
    assert manifest(files, "images/layout", "one") == alone


def test_docker_layout(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(layout_files())
    archive = json.loads(build(rule_runner, "docker", OciImageLayoutFieldSet)["images/docker.tar"])
    assert [one["tags"] for one in archive["request"]["images"]] == [["docker:one"], ["docker:two"]]


def test_wrong_tags(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(layout_files())
    message = failure(rule_runner, "same", OciImageLayoutFieldSet)
    assert "images/sub:one" in message and "the same tag 'one'" in message
    assert "images:two, which is not in its `images`" in failure(rule_runner, "wrong", OciImageLayoutFieldSet)


def index_files(runner: RuleRunner, architecture: str) -> Dict[str, str]:
    """A project with the image's layout as another machine made it."""
    runner.write_files(project(*MANY, image=image("p1")))
    made = build(runner)
    files = {
        f"prebuilt/{path[len('images/image/') :]}": text.decode() for path, text in made.items() if "image/" in path
    }
    index = 'oci_image_index(name="index", images=[":image"], layouts=["prebuilt"], tag="v1")\n'
    bases = f'debian_rootfs(name="trixie", suite="trixie", packages=["opam"], architecture="{architecture}")\n'
    lock = project()["3rdparty/debian/trixie.lock"].replace('"amd64"', f'"{architecture}"')
    return {
        **files,
        "images/BUILD": image("p1") + index,
        "3rdparty/debian/BUILD": bases,
        "3rdparty/debian/trixie.lock": lock,
    }


def test_index(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(index_files(rule_runner, "arm64"))
    files = build(rule_runner, "index", OciImageIndexFieldSet)
    top = json.loads(files["images/index/index.json"])["manifests"]
    assert top[0]["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    index = json.loads(files[f"images/index/blobs/{top[0]['digest'].replace(':', '/')}"])
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    for one in index["manifests"]:
        assert f"images/index/blobs/{one['digest'].replace(':', '/')}" in files
    assert len(top) == 7  # and each image's documents: its SBOM, as two, and its provenance


def test_index_of_one_platform_twice(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(index_files(rule_runner, "amd64"))
    message = failure(rule_runner, "index", OciImageIndexFieldSet)
    assert "two images for linux/amd64" in message and "prebuilt" in message


def test_damaged_layouts(rule_runner: RuleRunner) -> None:
    files = index_files(rule_runner, "arm64")
    missing = next(path for path in sorted(files) if "/blobs/" in path)
    rule_runner.write_files({**files, missing: "damaged"})
    assert "is corrupt" in failure(rule_runner, "index", OciImageIndexFieldSet)
    rule_runner.write_files({"images/BUILD": 'oci_image_index(name="index", layouts=["nowhere"])\n'})
    assert "there is no nowhere/index.json" in failure(rule_runner, "index", OciImageIndexFieldSet)


DIGEST = "sha256:" + "a" * 64
ENTRY = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST, "size": 1}


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("", "index.json is no JSON"),
        ("[]", "should hold a JSON object"),
        ("[" * 100_000, "index.json"),
        ('{"manifests": NaN}', "NaN"),
        ('{"manifests": [], "manifests": []}', "twice"),
        ('{"x": %s}' % ("9" * 100_000), "digits"),
        ("{}", "list `manifests`"),
        ('{"manifests": {}}', "list `manifests`"),
        ('{"manifests": ["x"]}', r"manifests[0] should be a descriptor"),
        ('{"manifests": []}', "it holds 0 images"),
        *(
            (json.dumps({"manifests": [{**ENTRY, key: value}]}), f"`{key}`")
            for key, value in (
                ("digest", "sha256:/"),
                ("digest", "sha256:../../etc/passwd"),
                ("digest", "sha256:*"),
                ("digest", None),
                ("digest", [DIGEST]),
                ("size", "1"),
                ("size", -1),
                ("size", True),
                ("mediaType", 1),
                ("annotations", "x"),
            )
        ),
    ],
)
def test_hostile_index(index: str, says: str) -> None:
    """What another machine wrote: an error that names file and field."""
    with pytest.raises(LayoutError, match=re.escape(says)) as raised:
        image_of_index("The layout x", index.encode())
    assert str(raised.value).startswith("The layout x")


def test_hostile_manifest(rule_runner: RuleRunner) -> None:
    files = index_files(rule_runner, "arm64")
    top = next(path for path in files if path.endswith("/index.json"))
    layout = top.rpartition("/")[0]
    entry = next(one for one in json.loads(files[top])["manifests"] if "artifactType" not in one)
    whole = json.loads(files[f"{layout}/blobs/{entry['digest'].replace(':', '/')}"])
    changes: List[Any] = [
        ({"config": None}, "`config`"),
        ({"config": {**ENTRY, "digest": "sha256:/"}}, "`config`: its `digest`"),
        ({"layers": None}, "list `layers`"),
        ({"layers": [{**ENTRY, "digest": "../x"}]}, "layers[0]: its `digest`"),
        ({"layers": [ENTRY]}, "is missing"),
    ]
    for change, says in changes:
        text = json.dumps({**whole, **change})
        digest = hashlib.sha256(text.encode()).hexdigest()
        changed = {**entry, "digest": f"sha256:{digest}", "size": len(text)}
        blob = {f"{layout}/blobs/sha256/{digest}": text}
        rule_runner.write_files({**files, **blob, top: json.dumps({"manifests": [changed]})})
        message = failure(rule_runner, "index", OciImageIndexFieldSet)
        assert says in message, message
    rule_runner.write_files({**files, top: json.dumps({"manifests": [{**entry, "size": entry["size"] + 1}]})})
    assert "bytes, but should have" in failure(rule_runner, "index", OciImageIndexFieldSet)
