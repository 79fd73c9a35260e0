"""Runtime images on bases that others made: an empty one, those of a registry and of layouts, and another distribution's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.e2e.conftest import tool, unpack
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.small_images import make_image

HEAD = 'opam-version: "2.0"\nmaintainer: "nobody"\nsynopsis: "a part of a test"\n'
BIN = "/home/opam/.opam/default/bin"
C = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
# All that this test needs of Alpine is its name.
ALPINE = b'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n'
# What a program in C needs of Debian, a shell, and what tells the dynamic linker of libraries.
SMALL = [
    *("bin", "lib", "lib64", "sbin", "etc/os-release", "usr/lib/os-release", "etc/ld.so.conf", "etc/ld.so.conf.d"),
    *("usr/bin/sh", "usr/bin/dash", "usr/sbin/ldconfig", "usr/lib64", "usr/lib/*/libc.so.6", "usr/lib/*/ld-linux*"),
]
# What bytecode would load, of a program that is statically linked.
NO_STUBS = ', runtime_keep=["!/home/opam/.opam/default/lib/stublibs/*"]'
BUILD = """opam_packages(name="r", resolve="bases")
opam_requirement(name="q", resolve="bases", requirements=["still", "loads"])
oci_base_image(name="empty", image="scratch")
"""


def on(name: str, package: str, base: str, more: str = "") -> str:
    return (
        f'oci_package_image(name="{name}", packages=[":r#{package}"], runtime=True, runtime_base="{base}", '
        f'cmd=["{package}"]{more})\n'
    )


def base(name: str, image: str, digest: str) -> str:
    return f'oci_base_image(name="{name}", image="{image}", digest="{digest}")\n'


@pytest.fixture(scope="module")
def project() -> Iterator[Pants]:
    top = Path(tempfile.mkdtemp(prefix="bases-", dir="/var/tmp"))
    root = make_clone(top / "main")
    for name, option in (("still", "-static"), ("loads", "-O1")):
        directory = root / f"bases/repo/packages/{name}/{name}.1"
        (directory / "files").mkdir(parents=True)
        (directory / "files/hello.c").write_text(C)
        (directory / "opam").write_text(
            f'{HEAD}build: [["gcc" "{option}" "-o" "{name}" "hello.c"] ["gcc" "-shared" "-fPIC" "-o" "dll{name}.so" "hello.c"]]\n'
            f'install: [["mkdir" "-p" bin stublibs] ["cp" "{name}" bin] ["cp" "dll{name}.so" stublibs]]\n'
            f'extra-files: [["hello.c" "sha256={hashlib.sha256(C.encode()).hexdigest()}"]]\n'
        )
    (root / "bases/repo/repo").write_text('opam-version: "2.0"\n')
    (root / "bases/BUILD").write_text(
        BUILD + on("on-debian", "loads", "//3rdparty/debian:trixie-slim") + on("on-empty", "still", ":empty", NO_STUBS)
    )
    options = [
        "--opam-resolves=+{'bases': 'bases/bases.lock'}",
        "--opam-resolves-to-base=+{'bases': '//3rdparty/debian:trixie'}",
        "--opam-repositories={'own': 'bases/repo'}",
    ]
    pants = Pants(root, options=options)
    try:
        pants.run("generate-lockfiles", "--resolve=bases")
        pants.run("package", "bases:on-debian", "bases:on-empty")
        yield pants
    finally:
        pants.stop()
        shutil.rmtree(top)


@pytest.fixture(scope="module")
def small(project: Pants) -> Path:
    """A layout, made by umoci out of a few files of Debian: `debian` has a shell and ldconfig, `distroless` neither."""
    layout = project.root / "bases/small"
    slim = Layout(project.root / "dist/bases/on-debian")
    tool("umoci", "init", f"--layout={layout}")
    tool("umoci", "new", f"--image={layout}:debian")
    bundle = project.root.parent / "bundle"
    tool("umoci", "unpack", f"--image={layout}:debian", str(bundle))
    archive = str(slim.blob(slim.layers[0]["digest"]))
    tool("tar", "-xzf", archive, "-C", str(bundle / "rootfs"), "--wildcards", *SMALL)
    tool("umoci", "repack", f"--image={layout}:debian", str(bundle))
    source = f"{layout}:debian"
    for path in ("/usr/sbin/ldconfig", "/usr/bin/dash"):
        tool("umoci", "insert", f"--image={source}", "--tag=distroless", "--whiteout", path)
        source = f"{layout}:distroless"
    return layout


def digest_of(layout: Path, tag: str = "latest") -> str:
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    names = {one.get("annotations", {}).get("org.opencontainers.image.ref.name"): one["digest"] for one in entries}
    return str(names[tag])


def layers(layout: Path, digest: str = "") -> List[str]:
    return [str(one["digest"]) for one in Layout(layout).json(digest or digest_of(layout))["layers"]]


def run(layout: Path, bundle: Path, *command: str) -> str:
    return unpack(Layout(layout), bundle).run(*command).stdout


def test_from_scratch(project: Pants, tmp_path: Path) -> None:
    """There is nothing but the program, and what says who runs it."""
    layout = project.root / "dist/bases/on-empty"
    assert len(layers(layout)) == 1
    assert run(layout, tmp_path / "bundle", f"{BIN}/still") == "hello\n"
    rootfs = tmp_path / "bundle/rootfs"
    assert (rootfs / "etc/passwd").read_text() == "opam:x:1000:1000:opam:/home/opam:/bin/bash\n"
    assert os.listdir(rootfs / BIN[1:]) == ["still"]
    assert not (rootfs / "bin").exists() and not (rootfs / "usr").exists()
    # As its user opam, found in PATH.
    assert project.run("run", "bases:on-empty").stdout == "hello\n"


def test_of_a_registry_and_of_layouts(
    project: Pants, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base's layers are the image's, byte for byte, and what was fetched once is at hand: the registry may go."""
    dist, auth = project.root / "dist/bases", tmp_path / "auth.json"
    debian, distroless = digest_of(small, "debian"), digest_of(small, "distroless")
    # Other people's zstd.
    packed = tmp_path / "packed"
    tool("skopeo", "copy", "-q", "--dest-compress-format=zstd", f"oci:{small}:distroless", f"oci:{packed}:distroless")
    zstd = digest_of(packed, "distroless")
    assert all(one["mediaType"].endswith("+zstd") for one in Layout(packed).json(zstd)["layers"])
    alpine = make_image(tmp_path / "alpine", [{"etc/os-release": ALPINE}])
    with Registry(tmp_path / "registry", auth=True) as registry:
        monkeypatch.setenv(
            "REGISTRY_AUTH_FILE", str(auth)
        )  # not before: the registry takes REGISTRY_... for its own options
        place = f"{registry.address}/team/base"
        tool("skopeo", "login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, registry.address)
        tool("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{small}:debian", f"docker://{place}:1")
        (project.root / "bases/BUILD").write_text(
            BUILD
            + base("debian", place, debian)
            + on("on-registry", "loads", ":debian")
            + base("distroless", "oci:bases/small", distroless)
            + on("on-layout", "loads", ":distroless")
            + base("packed", f"oci:{packed}", zstd)
            + on("flat", "loads", ":packed", ', layers="flat"')
            + on("for-docker", "loads", ":packed", ', format="docker-archive"')
            + base("alpine", f"oci:{tmp_path}/alpine", alpine)
            + on("on-alpine", "still", ":alpine", NO_STUBS)
            + on("not-on-alpine", "loads", ":alpine")
        )
        auth.rename(tmp_path / "later")
        done = project.run("package", "bases:on-registry", check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"{place}@{debian} cannot be fetched: " in done.stderr and "Log in first" in done.stderr
        (tmp_path / "later").rename(auth)
        registry.requests()
        others = ("bases:flat", "bases:for-docker")
        done = project.run("package", "bases:on-registry", "bases:on-layout", "bases:on-alpine", *others)
        assert PASSWORD not in done.stderr
        assert [one for one in registry.requests() if "/blobs/" in one.path]
    shutil.rmtree(dist / "on-registry")
    project.run("--no-pantsd", "package", "bases:on-registry")  # a daemon knows by itself
    for name, tag in (("on-registry", "debian"), ("on-layout", "distroless")):
        below = layers(small, digest_of(small, tag))
        assert layers(dist / name)[:-1] == below
        image = unpack(Layout(dist / name), tmp_path / name)
        assert image.run(f"{BIN}/loads").stdout == "hello\n"
        # The base's own shell, and the user that was entered into its accounts.
        if name == "on-registry":
            assert image.run("/bin/sh", "-c", f"cd ~opam && {BIN}/loads").stdout == "hello\n"
    assert run(dist / "flat", tmp_path / "flat", f"{BIN}/loads") == "hello\n"
    [archive] = dist.glob("for-docker*")
    tool("skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{tmp_path}/docker:latest")
    assert len(layers(tmp_path / "docker")) == 2
    assert run(tmp_path / "docker", tmp_path / "of-docker", f"{BIN}/loads") == "hello\n"
    assert run(dist / "on-alpine", tmp_path / "on-alpine", f"{BIN}/still") == "hello\n"
    assert not (tmp_path / "on-layout/rootfs/usr/bin/dash").exists()
    done = project.run("package", "bases:not-on-alpine", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    text = f"{BIN}/loads loads shared libraries, and was linked in debian 13; the slim base is alpine 3.20.3. Link it statically"
    assert text in " ".join(done.stderr.split())
    assert not (dist / "not-on-alpine").exists()
