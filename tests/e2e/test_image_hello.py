"""Small packages on Debian's OCaml: what holds for every image, checked fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import pytest

from conftest import Layout, Pants, Unpacked, tool


def test_podman_runs_it(hello: Layout, tmp_path: Path) -> None:
    storage = ["--root", f"{tmp_path}/root", "--runroot", f"{tmp_path}/run", "--cgroup-manager=cgroupfs"]
    try:
        pulled = tool("podman", *storage, "pull", "--quiet", f"oci:{hello.path}").stdout.strip()
        history = json.loads(tool("podman", *storage, "history", "--format", "json", pulled).stdout)
        assert len(history) == len(hello.layers)
        inspected = json.loads(tool("podman", *storage, "image", "inspect", pulled).stdout)[0]
        assert inspected["Config"]["User"] == "opam" and inspected["Config"]["WorkingDir"] == "/home/opam"
    finally:
        tool("podman", *storage, "system", "reset", "--force", check=False)


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


@pytest.mark.slow
def test_another_checkout_gives_the_same_bytes(hello: Layout, clone: Pants) -> None:
    """Empty caches, another path, another number of jobs, no pantsd: the same image, to the last byte."""
    clone.options = [*clone.options, "--process-execution-local-parallelism=1"]
    clone.run("package", "//images:hello")
    other = Layout(clone.root / "dist" / "images" / "hello")
    assert layer_digests(other) == layer_digests(hello)
    assert (other.path / "index.json").read_bytes() == (hello.path / "index.json").read_bytes()
