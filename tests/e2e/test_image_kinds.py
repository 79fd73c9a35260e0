"""One image of each kind: other people's tools take it, and unpacked it is the merged view that packages were built in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple
from urllib.parse import unquote

import pytest
import tomli

from tests.e2e.conftest import ROOT, Layout, Pants, Unpacked, tool, unpack
from tests.e2e.engines import docker_engine, podman_storage
from tests.e2e.trees import fingerprint, overlay
from tests.support.image_spec import violations
from tests.support.oci_schema import problems
from tests.support.registry import Registry

KINDS = ROOT / "dist" / "images.kinds"
OCI = ("grouped", "flat", "zstd", "uncompressed")
JOINED = ("grouped", "flat", "layout")
CHUNKED = "io.github.containers.zstd-chunked"
ALL = (*OCI, "oci-archive", "docker-archive", "index", "layout")
STORE = Path.home() / ".cache/pants/named_caches/opam_oci_layers/v4/root/layers"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares owners: needs root")


@pytest.fixture(scope="module")
def kinds(pants: Pants) -> Path:
    pants.run("package", "images/kinds::")
    return KINDS


def source(kinds: Path, kind: str) -> str:
    """The image as skopeo and podman name it."""
    return {
        "docker-archive": f"docker-archive:{kinds}/docker-archive.tar",
        "oci-archive": f"oci-archive:{kinds}/oci-archive.tar:latest",
        "index": f"oci:{kinds}/index:latest",
        "layout": f"oci:{kinds}/layout:hello",
    }.get(kind, f"oci:{kinds}/{kind}:latest")


@pytest.fixture(scope="module")
def merged_view(hello: Layout, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Tuple[object, ...]]:
    """What the kernel makes of the layers that the packages were built with."""
    layers = [STORE / diff_id.partition(":")[2] / "root" for diff_id in hello.config["rootfs"]["diff_ids"]]
    if not all(layer.is_dir() for layer in layers):
        pytest.skip("not all layers of the image lie unpacked in the store: they came out of a remote cache")
    with overlay(layers, tmp_path_factory.mktemp("view")) as root:
        return fingerprint(root)


def copy_as_gzip(source: str, layout: str) -> None:
    options = ["--dest-compress-format", "gzip", "--dest-compress-level", "1"]
    tool("skopeo", "copy", "--quiet", *options, source, f"oci:{layout}:latest")


@pytest.mark.parametrize("kind", ["grouped", "flat", "docker-archive", "zstd"])
def test_unpacked_it_is_the_merged_view(
    kinds: Path, merged_view: Dict[str, Tuple[object, ...]], kind: str, tmp_path: Path
) -> None:
    """Every path, mode, owner, time, content and hard link."""
    layout = f"{kinds}/{kind}"
    if kind in ("docker-archive", "zstd"):  # umoci reads neither
        layout = f"{tmp_path}/copy"
        copy_as_gzip(source(kinds, kind), layout)
    tool("umoci", "unpack", "--image", f"{layout}:latest", f"{tmp_path}/bundle")
    found = fingerprint(tmp_path / "bundle" / "rootfs")
    shutil.rmtree(tmp_path, ignore_errors=True)
    differences = [path for path in {*found, *merged_view} if found.get(path) != merged_view.get(path)]
    assert differences == []


@pytest.mark.parametrize("kind", ALL)
def test_skopeo_takes_it(kinds: Path, kind: str, tmp_path: Path) -> None:
    """It reads every blob and compares it with its digest."""
    tool("skopeo", "copy", "--quiet", source(kinds, kind), f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    if kind != "docker-archive":
        suffix = {"zstd": "+zstd", "uncompressed": ""}.get(kind, "+gzip")
        expected = f"application/vnd.oci.image.layer.v1.tar{suffix}"
        assert {layer["mediaType"] for layer in manifest["layers"]} == {expected}
    shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("kind", [*OCI, "index", "layout"])
def test_json_is_what_the_specification_says(kinds: Path, kind: str) -> None:
    assert problems(kinds / kind) == []
    assert violations(kinds / kind) == []


def test_the_specification_s_schemas_find_mistakes(kinds: Path, tmp_path: Path) -> None:
    shutil.copytree(kinds / "zstd", tmp_path / "layout")
    layout = Layout(tmp_path / "layout")
    config = layout.blob(layout.manifest["config"]["digest"])
    wrong = {**layout.config, "created": "yesterday", "history": [{"created": 1}]}
    config.write_text(json.dumps(wrong))
    index = json.loads((tmp_path / "layout/index.json").read_text())
    del index["manifests"][0]["size"]
    (tmp_path / "layout/index.json").write_text(json.dumps(index))
    found = "\n".join(violations(tmp_path / "layout"))
    for part in ("$.created: 'yesterday'", "$.history[0].created", "'size' is a required property"):
        assert part in found


def config_of(kinds: Path, kind: str) -> Dict[str, Any]:
    return Layout(kinds / kind).config


def image_id(layout: Layout) -> str:
    digest: str = layout.manifest["config"]["digest"]
    return digest.partition(":")[2]


def test_compression_changes_no_content(kinds: Path, hello: Layout) -> None:
    """The config, and with it the image's id, is the same for every compression."""
    assert config_of(kinds, "zstd") == config_of(kinds, "uncompressed") == hello.config
    with tempfile.TemporaryDirectory() as directory:
        tool("tar", "-C", directory, "-xf", f"{kinds}/docker-archive.tar", "manifest.json")
        [entry] = json.loads((Path(directory) / "manifest.json").read_text())
    assert entry["Config"] == f"{image_id(hello)}.json"


def test_layers_are_as_few_as_asked(kinds: Path) -> None:
    assert len(Layout(kinds / "grouped").layers) == 8
    assert len(Layout(kinds / "flat").layers) == 1


def test_a_layout_stores_what_is_shared_once(kinds: Path, hello: Layout) -> None:
    entries = json.loads((kinds / "layout" / "index.json").read_text())["manifests"]
    tags = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries if "annotations" in entry]
    assert sorted(tags) == ["flat", "grouped", "hello"]
    blobs = {blob.name for blob in (kinds / "layout/blobs/sha256").iterdir()}
    base = hello.layers[0]["digest"].partition(":")[2]
    assert base in blobs
    named: List[str] = []
    for entry in entries:
        manifest = Layout(kinds / "layout").json(entry["digest"])
        named += [entry["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    assert {digest.partition(":")[2] for digest in named} == blobs


def test_documents_refer_to_the_image(kinds: Path) -> None:
    """OCI 1.1: an entry with artifactType, whose manifest has the image as its subject; its blob is the file in dist/."""
    layout = Layout(kinds / "grouped")
    image, *referrers = json.loads((layout.path / "index.json").read_text())["manifests"]
    assert [entry["artifactType"] for entry in referrers] == [
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.in-toto+json",
    ]
    for entry, suffix in zip(referrers, ("spdx.json", "cdx.json", "provenance.json")):
        manifest = layout.json(entry["digest"])
        assert manifest["subject"] == {key: image[key] for key in ("mediaType", "digest", "size")}
        assert layout.blob(manifest["layers"][0]["digest"]).read_bytes() == (kinds / f"grouped.{suffix}").read_bytes()
    document = json.loads((kinds / "grouped.spdx.json").read_text())
    react = next(package for package in document["packages"] if package["name"] == "react")
    assert react["licenseDeclared"] and react["downloadLocation"].startswith("https://")
    assert react["externalRefs"][0]["referenceLocator"] == "pkg:opam/react@1.2.2"


def debian_packages_of(layout: Layout) -> Set[str]:
    """`name@version` of all that dpkg knows in an image."""
    with tarfile.open(layout.blob(layout.layers[-1]["digest"])) as state:
        status = state.extractfile("var/lib/dpkg/status")
        assert status is not None
        paragraphs = status.read().decode().split("\n\n")
    fields = [dict(re.findall(r"^([A-Z][\w-]*): (.*)$", text, re.M)) for text in paragraphs if text.strip()]
    return {f"{one['Package']}@{one['Version']}" for one in fields}


def test_provenance_names_all_that_the_image_is_made_of(zero_install: Layout) -> None:
    """By what its lockfiles and the image itself say: every opam file and source, every .deb, and nothing more of either."""
    statement = json.loads((ROOT / "dist/images/0install.provenance.json").read_text())
    digest = json.loads((zero_install.path / "index.json").read_text())["manifests"][0]["digest"]
    assert statement["subject"][0]["digest"] == {"sha256": digest.partition(":")[2]}
    found = {one["name"]: one for one in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    locks = {name: (ROOT / f"3rdparty/{name}.lock").read_text() for name in ("opam/default", "debian/trixie")}
    for name, text in locks.items():
        expected = hashlib.sha256(text.encode()).hexdigest()
        assert found[f"lockfile 3rdparty/{name}.lock"]["digest"]["sha256"] == expected
    opam, debian = (tomli.loads(text) for text in locks.values())
    history = [entry["created_by"] for entry in zero_install.config["history"]]
    installed = {name for line in history if line.startswith("opam install ") for name in line.split()[2:]}
    packages = [one for one in opam["package"] if f"{one['name']}.{one['version']}" in installed]
    assert len(packages) == len(installed) > 20
    sources = {(one["sha256"], *one["urls"]) for package in packages for one in package.get("source", ())}
    told = [one for name, one in found.items() if re.match(r"opam \S+ (archive|source )", name)]
    mirrors = [one.get("annotations", {}).get("mirrors", []) for one in told]
    assert {(one["digest"]["sha256"], one["uri"], *more) for one, more in zip(told, mirrors)} == sources
    assert {name for name in found if re.match(r"opam \S+ opam$", name)} == {
        f"opam {one['name']} opam" for one in packages
    }
    depexts = {name for package in packages for name in package["debs"]}
    debs = [*debian["deb"], *(one for one in opam["deb"] if one["name"] in depexts)]
    told = [one for name, one in found.items() if name.startswith("deb ")]
    assert {one["digest"]["sha256"] for one in told} == {one["sha256"] for one in debs}
    purls = [re.match(r"pkg:deb/debian/(.*)\?arch=", unquote(one["uri"])) for one in told]
    assert {purl[1] for purl in purls if purl} == debian_packages_of(zero_install)


@pytest.mark.parametrize("kind", ["uncompressed", "oci-archive", "index", "layout"])
def test_umoci_unpacks_it(kinds: Path, kind: str, tmp_path: Path) -> None:
    """The kinds whose unpacked trees are not looked at as a whole."""
    name, _, tag = source(kinds, kind).partition(":")[2].rpartition(":")
    layout = Path(name)
    if kind == "oci-archive":
        layout = tmp_path / "layout"
        layout.mkdir()
        tool("tar", "-C", str(layout), "-xf", name)
    tool("umoci", "unpack", "--image", f"{layout}:{tag}", str(tmp_path / "bundle"))
    assert "Package: ocaml-nox\n" in (tmp_path / "bundle/rootfs/var/lib/dpkg/status").read_text()
    assert (tmp_path / "bundle/rootfs/home/opam/.opam/default/bin/ocamlfind").exists()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="registry", dir="/var/tmp") as directory:
        with Registry(Path(directory) / "r") as registry:
            yield registry


@pytest.mark.parametrize("kind", ALL)
def test_a_registry_takes_it(kinds: Path, registry: Registry, kind: str) -> None:
    """From skopeo; what it then has is the same image, but for docker's archive, whose layers skopeo compresses."""
    reference = f"docker://{registry.address}/kinds/{kind}:1"
    options = ["--all", "--dest-tls-verify=false"] + ["--preserve-digests"] * (kind != "docker-archive")
    tool("skopeo", "copy", "--quiet", *options, source(kinds, kind), reference)
    raw = tool("skopeo", "inspect", "--raw", "--tls-verify=false", reference).stdout
    if kind not in ("docker-archive", "oci-archive"):
        pushed = hashlib.sha256(raw.encode()).hexdigest()
        entries = json.loads((kinds / kind / "index.json").read_text())["manifests"]
        assert f"sha256:{pushed}" in [entry["digest"] for entry in entries if "artifactType" not in entry]


@pytest.fixture(scope="module")
def podman() -> Iterator[List[str]]:
    with podman_storage() as command:
        yield command


@pytest.mark.parametrize("kind", ALL)
def test_podman_pulls_it(kinds: Path, hello: Layout, podman: List[str], kind: str) -> None:
    """All are one image, with one id, but for those that join layers: in the layout, hello does as its neighbours do."""
    pulled = tool(*podman, "pull", "--quiet", source(kinds, kind)).stdout.split()[-1]
    [inspected] = json.loads(tool(*podman, "image", "inspect", pulled).stdout)
    assert inspected["Config"]["Cmd"] == ["ocamlfind", "list"]
    assert (inspected["Id"] == image_id(hello)) == (kind not in JOINED)


def test_chunked_layers_in_a_registry(kinds: Path, hello: Layout, registry: Registry, tmp_path: Path) -> None:
    """Where each table of contents is stays with the layers; podman 5.4 pulls by it, earlier ones the whole blobs."""
    image, pushed = Layout(kinds / "chunked"), f"{registry.address}/chunked:1"
    to_registry = ["--dest-tls-verify=false", "--preserve-digests", f"oci:{image.path}:latest", f"docker://{pushed}"]
    tool("skopeo", "copy", "--quiet", *to_registry)
    there = json.loads(tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{pushed}").stdout)
    assert there == image.manifest and image.config == hello.config
    for layer in there["layers"]:
        blob = image.blob(layer["digest"]).read_bytes()
        start, size, *_ = layer["annotations"][f"{CHUNKED}.manifest-position"].split(":")
        table = blob[int(start) : int(start) + int(size)]
        assert layer["annotations"][f"{CHUNKED}.manifest-checksum"] == f"sha256:{hashlib.sha256(table).hexdigest()}"
        assert blob[int(start) - 8 : int(start)] == b"\x50\x2a\x4d\x18" + len(table).to_bytes(4, "little")
    with podman_storage() as podman:
        (tmp_path / "conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{podman[2]}"\nrunroot = "{podman[4]}"\n'
            '[storage.options]\npull_options = {enable_partial_images = "true"}\n'
        )
        pull = [*podman, "--log-level=debug", "pull", "--tls-verify=false", pushed]
        log = tool(*pull, env={**os.environ, "CONTAINERS_STORAGE_CONF": f"{tmp_path}/conf"}).stderr
        [inspected] = json.loads(tool(*podman, "image", "inspect", pushed).stdout)
        version = tool(*podman, "version", "--format", "{{.Client.Version}}").stdout.split(".")
    assert inspected["Id"] == image_id(hello) and inspected["RootFS"]["Layers"] == hello.config["rootfs"]["diff_ids"]
    if (int(version[0]), int(version[1])) >= (5, 4):
        assert log.count("Retrieved partial blob") == len(image.layers)


@pytest.mark.parametrize("kind", ALL)
def test_dockers_engine_takes_and_runs_it(
    kinds: Path, hello: Layout, docker: List[str], kind: str, tmp_path: Path
) -> None:
    """By its own `load`, or from skopeo. Before version 23 it knows no zstd."""
    image = source(kinds, kind)
    if kind == "zstd":
        copy_as_gzip(image, f"{tmp_path}/copy")
        image = f"oci:{tmp_path}/copy:latest"
    if kind == "docker-archive":
        tool(*docker, "load", "--quiet", "--input", f"{kinds}/docker-archive.tar")
    else:
        engine = ["--dest-daemon-host", docker[-1]]
        tool("skopeo", "copy", "--quiet", *engine, image, f"docker-daemon:{kind}:latest")
    shutil.rmtree(tmp_path, ignore_errors=True)
    [inspected] = json.loads(tool(*docker, "image", "inspect", f"{kind}:latest").stdout)
    assert (inspected["Id"] == f"sha256:{image_id(hello)}") == (kind not in JOINED)
    assert "react" in tool(*docker, "run", "--rm", "--network=none", f"{kind}:latest").stdout


def test_umoci_without_root(kinds: Path) -> None:
    # Not pytest's directory: whoever starts pytest meanwhile takes it away from other users.
    with tempfile.TemporaryDirectory(prefix="umoci") as name:
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "env", f"HOME={name}"]
        os.chown(name, 12345, 12345)
        shutil.copytree(kinds / "grouped", f"{name}/image")
        tool(*user, "umoci", "unpack", "--rootless", "--image", f"{name}/image:latest", f"{name}/bundle")
        assert Path(name, "bundle/rootfs/home/opam/.opam/default/bin/ocamlfind").exists()


def test_runtime_image(pants: Pants, zero_install: Layout, tmp_path: Path) -> None:
    """0install runs without its compiler, in less than a fifth of the bytes."""
    pants.run("package", "//images:0install-runtime")
    layout = Layout(ROOT / "dist/images/0install-runtime")
    size = sum(layer["size"] for layer in layout.layers)
    assert size * 5 < sum(layer["size"] for layer in zero_install.layers)
    unpacked: Unpacked = unpack(layout, tmp_path / "bundle")
    assert unpacked.run("0install", "--version").stdout.startswith("0install (zero-install) 2.18\n")
    names = {path.name for path in (unpacked.rootfs / "home/opam/.opam/default").rglob("*") if path.is_file()}
    assert not any(name.endswith((".cmi", ".cmx", ".cmxa", ".a", ".ml", ".mli")) for name in names)
    assert not {"ocamlfind", "ocamlopt", "dune", "ocamlrun"} & names
    assert not (unpacked.rootfs / "usr/bin/gcc").exists() and not (unpacked.rootfs / "usr/bin/opam").exists()
    documents = json.loads((ROOT / "dist/images/0install-runtime.spdx.json").read_text())
    assert {"libcurl3t64-gnutls", "0install", "lwt"} <= {package["name"] for package in documents["packages"]}
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("name", ["0install", "0install-runtime"])
def test_every_tool_takes_0install(
    pants: Pants, zero_install: Layout, registry: Registry, podman: List[str], docker: List[str], name: str
) -> None:
    pants.run("package", f"//images:{name}")
    layout, image = Layout(ROOT / "dist/images" / name), f"oci:{ROOT}/dist/images/{name}:latest"
    assert problems(layout.path) == [] and violations(layout.path) == []
    to_registry = ["--dest-tls-verify=false", "--preserve-digests", image, f"docker://{registry.address}/{name}:1"]
    tool("skopeo", "copy", "--quiet", *to_registry)
    pulled = tool(*podman, "pull", "--quiet", image).stdout.split()[-1]
    tool("skopeo", "copy", "--quiet", "--dest-daemon-host", docker[-1], image, f"docker-daemon:{name}:latest")
    taken = ((podman, pulled), (docker, f"{name}:latest"))
    for engine, there in taken:
        [inspected] = json.loads(tool(*engine, "image", "inspect", there).stdout)
        assert inspected["Id"].rpartition(":")[2] == image_id(layout)
        assert len(inspected["RootFS"]["Layers"]) == len(layout.layers)
    ran = tool(*docker, "run", "--rm", "--network=none", f"{name}:latest")
    assert ran.stdout.startswith("0install (zero-install) 2.18\n")
    for engine, there in taken:
        tool(*engine, "image", "rm", "--force", there)  # gigabytes


# 140 packages and more.

MANY = 145


def many(clone: Pants) -> None:
    """A resolve of generated packages, none of which needs a compiler, in the clone."""
    packages = "".join(
        f'[[package]]\nname = "p{number}"\nversion = "1"\n'
        f"depends = {json.dumps([f'p{(number - 1) // 2}'] if number else [])}\n"
        "post_depends = []\ndepexts = []\ndebs = []\n"
        "opam = '''\nopam-version: \"2.0\"\n"
        f'install: [["sh" "-c" "mkdir -p %{{lib}}%/p{number} && echo {number} > %{{lib}}%/p{number}/n"]]\n'
        "'''\n\n"
        for number in range(MANY)
    )
    roots = [f"p{number}" for number in range(MANY)]
    (clone.root / "3rdparty/opam/many.lock").write_text(
        '[metadata]\nlock_version = 1\nkind = "opam"\nresolve = "many"\nbase = "//3rdparty/debian:trixie-ocaml"\n'
        f"requirements = {json.dumps(roots)}\nconstraints = []\n\n{packages}"
    )
    with open(clone.root / "3rdparty/opam/BUILD", "a") as build:
        build.write('\nopam_packages(name="many", resolve="many")\n')
        build.write(f'opam_requirement(name="r", resolve="many", requirements={roots!r})\n')
    (clone.root / "images/BUILD").write_text(
        'oci_package_image(name="many", packages=["3rdparty/opam:many"], cmd=["sh"], format="docker-archive")\n'
    )
    shutil.rmtree(clone.root / "images/kinds")
    text = (clone.root / "pants.toml").read_text()
    text = text.replace("[opam.resolves]\n", '[opam.resolves]\nmany = "3rdparty/opam/many.lock"\n')
    text = text.replace(
        "[opam.resolves_to_base]\n", '[opam.resolves_to_base]\nmany = "//3rdparty/debian:trixie-ocaml"\n'
    )
    (clone.root / "pants.toml").write_text(text)


@pytest.fixture(scope="module")
def docker() -> Iterator[List[str]]:
    with docker_engine() as command:
        yield command


def test_run_in_docker(pants: Pants, hello: Layout, docker: List[str]) -> None:
    """`pants run` with docker: the image is loaded, its command runs there, and the exit status is the command's."""
    engine = " ".join(docker[1:])
    options = ("--oci-run-runtime=docker", f"--oci-run-engine-args={engine}", "--oci-run-network=none")
    script = "id -un; ocamlfind list; exit 6"
    done = pants.run(*options, "run", "//images:hello", "--", "sh", "-c", script, check=False)
    assert done.returncode == 6, done.stderr
    assert done.stdout.startswith("opam\n") and "react" in done.stdout
    assert "hello:latest" in tool(*docker, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.splitlines()


def test_many_packages_load_into_docker(hello: Layout, clone: Pants, docker: List[str]) -> None:
    """145 packages become no more layers than docker's overlay2 takes, and every package is there."""
    many(clone)
    clone.run("package", "images:many")
    tool(*docker, "load", "--quiet", "--input", str(clone.root / "dist/images/many.tar"))
    [image] = json.loads(tool(*docker, "image", "inspect", "many:latest").stdout)
    assert len(image["RootFS"]["Layers"]) == 125
    listed = tool(*docker, "run", "--rm", "--network=none", "many:latest", "sh", "-c", "cat ~/.opam/default/lib/p*/n")
    assert sorted(map(int, listed.stdout.split())) == list(range(MANY))
