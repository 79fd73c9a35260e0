"""Small packages on Debian's OCaml: what holds for every image, checked fast."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict

from opam_sandbox.files import file_sha256
from tests.e2e.conftest import Cold, Layout, Pants, Unpacked, tool, unpack
from tests.e2e.engines import podman_storage

BASE = "//3rdparty/debian:trixie-ocaml"


def test_podman_takes_it(hello: Layout) -> None:
    """podman unpacks every layer, and reads the same history and config out of it."""
    with podman_storage() as podman:
        pulled = tool(*podman, "pull", "--quiet", f"oci:{hello.path}:latest").stdout.strip()
        history = json.loads(tool(*podman, "history", "--format", "json", pulled).stdout)
        assert len(history) == len(hello.layers)
        inspected = json.loads(tool(*podman, "image", "inspect", pulled).stdout)[0]
        assert inspected["Config"]["User"] == "opam" and inspected["Config"]["WorkingDir"] == "/home/opam"
        assert len(inspected["RootFS"]["Layers"]) == len(hello.layers)


def test_packages_work(hello_unpacked: Unpacked) -> None:
    listed = hello_unpacked.run("ocamlfind", "list").stdout
    assert "react" in listed
    program = "let s, set = React.S.create 1 let twice = React.S.map (( * ) 2) s let () = set 21; print_int (React.S.value twice)"
    script = f"cd /tmp && echo '{program}' > t.ml && ocamlfind ocamlopt -package react -linkpkg t.ml -o t && ./t"
    assert hello_unpacked.run("sh", "-c", script).stdout == "42"


def test_opam_state(hello_unpacked: Unpacked) -> None:
    listed = hello_unpacked.run("opam", "list", "--installed", "--short")
    assert {"ocamlfind", "react", "ocaml-system"} <= set(listed.stdout.split())
    assert listed.stderr.strip() == ""
    again = hello_unpacked.run("opam", "install", "--dry-run", "--yes", "react")
    assert "already installed" in again.stdout + again.stderr
    assert hello_unpacked.run("dpkg", "--audit", user=0).stdout == ""


def test_modes_and_owners_survive(hello_unpacked: Unpacked) -> None:
    status = (hello_unpacked.rootfs / "home/opam/.opam/default/bin/ocamlfind").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1000, 0o755)
    mount = hello_unpacked.rootfs / "usr/bin/mount"
    assert not mount.exists() or mount.stat().st_mode & 0o4000
    assert (hello_unpacked.rootfs / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_no_trace_of_the_machine(hello_unpacked: Unpacked) -> None:
    root = hello_unpacked.rootfs
    assert (root / "etc/hostname").read_text() == "localhost\n"
    assert not (root / "etc/resolv.conf").exists() or (root / "etc/resolv.conf").read_text() == ""
    sources = (root / "etc/apt/sources.list").read_text()
    assert all(line.startswith("#") for line in sources.splitlines())


def layer_digests(layout: Layout) -> Dict[str, str]:
    history = [entry["created_by"] for entry in layout.config["history"]]
    return dict(zip(history, (layer["digest"] for layer in layout.layers)))


def test_another_user_elsewhere_gives_the_same_bytes(hello: Layout, cold: Cold) -> None:
    """Without root, with empty caches, another home and path, one core and one job, no pantsd: the same image."""
    assert layer_digests(cold.layout) == layer_digests(hello)
    assert (cold.layout.path / "index.json").read_bytes() == (hello.path / "index.json").read_bytes()


def test_a_failed_package_fails_the_command(hello: Layout, clone: Pants) -> None:
    """Its log is shown, what needs it is named, no image is written; mended, the next run builds it."""
    lock = clone.root / "3rdparty/opam/system.lock"
    text = lock.read_text()
    head, mark, rest = text.partition('name = "ocamlbuild"\n')
    opam, build, tail = rest.partition("\nbuild: [")
    assert mark and build
    lock.write_text(f'{head}{mark}{opam}\nbuild: [["sh" "-c" "echo no luck today; exit 3"] {tail}')
    failed = clone.run("package", "//images:hello", check=False)
    assert failed.returncode == 1
    assert "ocamlbuild.0.16.1 failed to build" in failed.stderr and "no luck today" in failed.stderr
    for blocked in ("topkg.1.0.7", "react.1.2.2"):
        assert blocked in failed.stderr.partition("no luck today")[2]
    assert "Traceback" not in failed.stderr
    assert not (clone.root / "dist").exists()
    lock.write_text(text)
    clone.run("package", "//images:hello")
    assert Layout(clone.root / "dist/images/hello").manifest == hello.manifest


def test_a_damaged_store_gives_no_image(pants: Pants, hello: Layout) -> None:
    """A bit of a blob that is another one in Pants' store, under a daemon that lives: Pants itself sees nothing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    stored = cache / "pants/lmdb_store/immutable/files"
    large = [layer for layer in hello.manifest["layers"] if layer["size"] > 1 << 20]
    digest = min(large, key=lambda layer: layer["size"])["digest"].partition(":")[2]
    path = stored / digest[:2] / digest
    pants.run("package", "//images:hello")  # others may have touched what dist/ has
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    with open(path, "r+b") as blob:
        blob.seek(before.st_size // 2)
        byte = blob.read(1)
        blob.seek(before.st_size // 2)
        blob.write(bytes([byte[0] ^ 4]))
        blob.flush()
        try:
            # What dist/ has needs nothing of the store.
            kept = pants.run("package", "//images:hello")
            (hello.path / "index.json").unlink()
            failed = pants.run("package", "//images:hello", check=False)
        finally:
            blob.seek(before.st_size // 2)
            blob.write(byte)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "Kept dist/images/hello\n" in kept.stderr, kept.stderr
    assert failed.returncode == 1, failed.stderr
    assert "image images:hello is not written" in failed.stderr and f"sha256:{digest} is damaged" in failed.stderr
    assert "delete [GLOBAL].local_store_dir" in failed.stderr and "Traceback" not in failed.stderr
    pants.run("package", "//images:hello")
    assert Layout(hello.path).manifest == hello.manifest


def test_images_share_their_files_below_dist(hello: Layout, clone: Pants) -> None:
    """Packaged one after the other, equal blobs are one file, and only what is new takes up room."""
    (clone.root / "BUILD").write_text(
        "oci_package_image(\n"
        '    name="labelled",\n'
        '    packages=["3rdparty/opam:system#ocamlfind", "3rdparty/opam:system#react"],\n'
        '    labels={"org.example.second": "yes"},\n'
        ")\n"
    )
    clone.run("package", "//images:hello")
    clone.run("package", "//:labelled")
    first, second = Layout(clone.root / "dist/images/hello"), Layout(clone.root / "dist/labelled")
    assert first.manifest != second.manifest and layer_digests(first) == layer_digests(second)
    for descriptor in first.layers:
        one, two = first.blob(descriptor["digest"]), second.blob(descriptor["digest"])
        assert one.samefile(two) and f"sha256:{file_sha256(one)[0]}" == descriptor["digest"]
    assert first.manifest == hello.manifest


def test_packages_of_two_resolves(hello: Layout, clone: Pants, tmp_path: Path) -> None:
    """What two lockfiles over one base have in common is one layer, and the state is that of all packages."""
    options = clone.root / "pants.toml"
    text = options.read_text()
    for section, value in (("opam.resolves", "3rdparty/opam/more.lock"), ("opam.resolves_to_base", BASE)):
        text = text.replace(f"[{section}]\n", f'[{section}]\nmore = "{value}"\n')
    options.write_text(text)
    lock = (clone.root / "3rdparty/opam/system.lock").read_text()
    (clone.root / "3rdparty/opam/more.lock").write_text(lock.replace('resolve = "system"', 'resolve = "more"'))
    with open(clone.root / "3rdparty/opam/BUILD", "a") as build:
        build.write('opam_packages(name="more", resolve="more")\n')
        requirements = '["ocaml-system", "ocamlfind", "react"]'
        build.write(
            f'opam_requirement(name="again", resolve="more", requirements={requirements}, constraints=["topkg=1.0.7"])\n'
        )
    (clone.root / "BUILD").write_text(
        'oci_package_image(name="both", packages=["3rdparty/opam:system#ocamlfind", "3rdparty/opam:more#react"])\n'
    )
    clone.run("package", "//:both")
    both = Layout(clone.root / "dist/both")
    assert layer_digests(both) == layer_digests(hello)
    resolves = {entry["created_by"]: entry.get("comment", "") for entry in both.config["history"]}
    assert resolves["opam install react.1.2.2"].startswith("opam resolve more;")
    assert resolves["opam install ocamlfind.1.9.8"].startswith("opam resolve ")
    listed = unpack(both, tmp_path / "bundle").run("opam", "list", "--installed", "--roots", "--short")
    assert listed.stdout.split() == ["ocamlfind", "react"]
