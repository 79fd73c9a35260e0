"""Runtime images on bases that others made: an empty one, one of a registry, one without a shell, and another distribution's."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from tests.e2e.conftest import Unpacked, tool, unpack
from tests.e2e.registry import Registry
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout
from tests.support.small_images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, write_blob, write_json_blob

HEAD = 'opam-version: "2.0"\nmaintainer: "nobody"\nsynopsis: "a part of a test"\n'
BIN = "/home/opam/.opam/default/bin"
C = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
# The real text of Alpine's /etc/os-release: all that this test needs of Alpine is its name.
ALPINE = (
    'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n'
    'HOME_URL="https://alpinelinux.org/"\nBUG_REPORT_URL="https://gitlab.alpinelinux.org/alpine/aports/-/issues"\n'
)
Files = Dict[str, Tuple[bytes, int]]


def made_tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), mode, 1
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def made_layout(layout: Path, *layers: Files) -> str:
    """A layout of one image for two platforms, of layers compressed with zstd; the digest of its index."""
    tars = [made_tar(files) for files in layers]
    packed = [
        subprocess.run(["zstd", "-q", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout for tar in tars
    ]
    entries = []
    for architecture in ("riscv64", "amd64"):
        config = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(tar)}" for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": write_json_blob(layout, config, CONFIG_TYPE),
            "layers": [write_blob(layout, one, LAYER_TYPE.replace("gzip", "zstd")) for one in packed],
        }
        entry = write_json_blob(layout, manifest, MANIFEST_TYPE)
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    index_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": index_type, "manifests": entries}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    described = write_json_blob(layout, index, index_type)
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return str(described["digest"])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


BUILD = """opam_packages(name="r", resolve="bases")
opam_requirement(name="q", resolve="bases", requirements=["still", "loads"])
oci_base_image(name="empty", image="scratch")
oci_package_image(name="on-debian", packages=[":r#loads"], runtime=True, runtime_base="//3rdparty/debian:trixie-slim")
oci_package_image(name="on-empty", packages=[":r#still"], runtime=True, runtime_base=":empty", cmd=["still"])
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Pants]:
    top = Path(tempfile.mkdtemp(prefix="bases-", dir="/var/tmp"))
    root = make_clone(top / "main")
    for name, option in (("still", "-static"), ("loads", "-O1")):
        directory = root / f"bases/repo/packages/{name}/{name}.1"
        (directory / "files").mkdir(parents=True)
        (directory / "files/hello.c").write_text(C)
        (directory / "opam").write_text(
            f'{HEAD}build: ["gcc" "{option}" "-o" "{name}" "hello.c"]\n'
            f'install: [["mkdir" "-p" bin] ["cp" "{name}" "%{{bin}}%"]]\n'
            f'extra-files: [["hello.c" "sha256={sha256(C.encode())}"]]\n'
        )
    (root / "bases/repo/repo").write_text('opam-version: "2.0"\n')
    (root / "bases/BUILD").write_text(BUILD)
    options = [
        "--no-pantsd",
        "--opam-resolves=+{'bases': 'bases/bases.lock'}",
        "--opam-resolves-to-base=+{'bases': '//3rdparty/debian:trixie'}",
        "--opam-repositories={'own': 'bases/repo'}",
    ]
    pants = Pants(root, options=options)
    pants.run("generate-lockfiles", "--resolve=bases")
    pants.run("package", "bases:on-debian", "bases:on-empty")
    yield pants
    shutil.rmtree(top)


def add(project: Pants, text: str) -> None:
    (project.root / "bases/BUILD").write_text(BUILD + text)


def image_on(name: str, package: str, base: str, more: str = "") -> str:
    return (
        f'oci_package_image(name="{name}", packages=[":r#{package}"], runtime=True, runtime_base=":{base}", '
        f'cmd=["{package}"]{more})\n'
    )


def run(layout: Layout, bundle: Path, *command: str) -> str:
    image: Unpacked = unpack(layout, bundle)
    return image.run(*command).stdout


def layers(layout: Path) -> List[str]:
    manifest = json.loads((layout / "index.json").read_text())["manifests"][0]
    blob = layout / "blobs/sha256" / str(manifest["digest"])[len("sha256:") :]
    return [layer["digest"] for layer in json.loads(blob.read_text())["layers"]]


def first(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


def test_from_scratch(project: Pants, tmp_path: Path) -> None:
    """There is nothing but the program, and what says who runs it."""
    layout = project.root / "dist/bases/on-empty"
    assert len(layers(layout)) == 1
    assert run(Layout(layout), tmp_path / "bundle", f"{BIN}/still") == "hello\n"
    rootfs = tmp_path / "bundle/rootfs"
    assert (rootfs / "etc/passwd").read_text() == "opam:x:1000:1000:opam:/home/opam:/bin/bash\n"
    assert sorted(os.listdir(rootfs / BIN[1:])) == ["still"]
    assert not (rootfs / "bin").exists() and not (rootfs / "usr").exists()
    # By an engine, from the layout, as its user opam.
    done = project.run("run", "bases:on-empty")
    assert done.stdout == "hello\n"


def test_of_a_registry(project: Pants, tmp_path: Path) -> None:
    """An image that was pushed is a base by its digest: its layers are the same, and it is fetched once."""
    pushed = project.root / "dist/bases/on-debian"
    digest = first(pushed)
    with Registry(tmp_path / "registry") as registry:
        place = f"{registry.address}/team/base"
        tool("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{pushed}:latest", f"docker://{place}:1")
        add(
            project,
            f'oci_base_image(name="pushed", image="{place}", digest="{digest}")\n'
            + image_on("on-pushed", "loads", "pushed")
            + f'oci_base_image(name="absent", image="{place}", digest="sha256:{"0" * 64}")\n'
            + image_on("on-absent", "loads", "absent"),
        )
        registry.requests()
        project.run("package", "bases:on-pushed")
        assert [one.method for one in registry.requests() if "/blobs/" in one.path]
        done = project.run("package", "bases:on-absent", check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"{place}@sha256:{'0' * 64} cannot be fetched: " in done.stderr
    # The registry is gone.
    shutil.rmtree(project.root / "dist/bases/on-pushed")
    project.run("package", "bases:on-pushed")
    layout = project.root / "dist/bases/on-pushed"
    assert layers(layout)[: len(layers(pushed))] == layers(pushed)
    assert run(Layout(layout), tmp_path / "bundle", f"{BIN}/loads") == "hello\n"


def debian_files(rootfs: Path) -> Files:
    """What a program in C needs of Debian."""
    names: List[Tuple[str, str]] = [("etc/os-release", "usr/lib/os-release")]
    names += [(name, name) for name in ("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2")]
    return {name: ((rootfs / path).resolve().read_bytes(), 0o755) for name, path in names}


def test_without_a_shell(project: Pants, tmp_path: Path) -> None:
    """Debian's libc and nothing else: no ldconfig, no accounts; in a layout of the build root, for two platforms."""
    rootfs = unpack(Layout(project.root / "dist/bases/on-debian"), tmp_path / "debian").rootfs
    files = debian_files(rootfs)
    assert b"trixie" in files["etc/os-release"][0]
    digest = made_layout(
        project.root / "bases/libc",
        {**files, "etc/secret": (b"gone", 0o600)},
        {"etc/.wh.secret": (b"", 0o600)},
    )
    add(
        project,
        f'oci_base_image(name="libc", image="oci:bases/libc", digest="{digest}")\n'
        + image_on("on-libc", "loads", "libc")
        + image_on("for-docker", "loads", "libc", ', format="docker-archive"')
        + image_on("flat", "loads", "libc", ', layers="flat"'),
    )
    project.run("package", "bases:on-libc", "bases:for-docker", "bases:flat")
    layout = project.root / "dist/bases/on-libc"
    assert len(layers(layout)) == 3
    assert all(
        (project.root / "bases/libc/blobs/sha256" / one[len("sha256:") :]).exists() for one in layers(layout)[:2]
    )
    assert run(Layout(layout), tmp_path / "bundle", f"{BIN}/loads") == "hello\n"
    assert not (tmp_path / "bundle/rootfs/etc/secret").exists()
    assert len(layers(project.root / "dist/bases/flat")) == 1
    assert run(Layout(project.root / "dist/bases/flat"), tmp_path / "flat", f"{BIN}/loads") == "hello\n"
    [archive] = (project.root / "dist/bases").glob("for-docker*")
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None and len(json.load(manifest)[0]["Layers"]) == 2
    # A blob that was changed is no part of any image.
    shutil.copytree(project.root / "bases/libc", project.root / "bases/damaged")
    blob = project.root / "bases/damaged/blobs/sha256" / layers(layout)[0][len("sha256:") :]
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    add(
        project,
        f'oci_base_image(name="damaged", image="oci:bases/damaged", digest="{digest}")\n'
        + image_on("on-damaged", "loads", "damaged"),
    )
    done = project.run("package", "bases:on-damaged", check=False)
    assert done.returncode == 1 and "the blob of layer 0 is damaged" in done.stderr and "Traceback" not in done.stderr
    assert not (project.root / "dist/bases/on-damaged").exists()


def test_another_distribution(project: Pants, tmp_path: Path) -> None:
    """Its libraries are not those that programs were linked with: only what loads none runs there."""
    digest = made_layout(tmp_path / "alpine", {"etc/os-release": (ALPINE.encode(), 0o644)})
    add(
        project,
        f'oci_base_image(name="alpine", image="oci:{tmp_path}/alpine", digest="{digest}")\n'
        + image_on("on-alpine", "still", "alpine")
        + image_on("not-on-alpine", "loads", "alpine"),
    )
    project.run("package", "bases:on-alpine")
    assert run(Layout(project.root / "dist/bases/on-alpine"), tmp_path / "bundle", f"{BIN}/still") == "hello\n"
    done = project.run("package", "bases:not-on-alpine", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    text = f"{BIN}/loads loads shared libraries, and was linked in debian 13; the slim base is alpine 3.20.3. Link it statically"
    assert text in " ".join(done.stderr.split())
    assert not (project.root / "dist/bases/not-on-alpine").exists()
