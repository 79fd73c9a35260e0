"""Depexts that are installed twice to find what is random in them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Optional, Sequence

import pytest

from opam_sandbox.beside import machine_files
from opam_sandbox.beside.machine_files import DATED, DROP, EMPTY, ORDERED, RULES, UNLISTED
from opam_sandbox.building import build
from opam_sandbox.layer.description import read_layer
from opam_sandbox.layer.store import Store
from tests.unit.conftest import REPOSITORY, Namespaces, add_programs, build_request, make_base_layer, make_opam_root

UUID = "/proc/sys/kernel/random/uuid"
# Times, shared state and caches may differ; so may what a rule leaves out.
STEADY = f"""
mkdir -p /usr/lib /etc /var/log /var/cache /var/lib/dpkg
cat {UUID} > /etc/hostid
cat {UUID} > /var/log/x.log
cat {UUID} > /var/cache/x
cat {UUID} > /var/lib/dpkg/status
echo same > /usr/lib/file
touch /usr/lib/dated
"""


def run(tmp_path: Path, tiny_root: Path, dpkg: str, twice: bool = True, left_out: Sequence[str] = ()) -> int:
    """Build a package with one .deb, and this script as dpkg, in the current directory."""
    scripts = {"opam": "#!/bin/sh\nexit 0\n", "dpkg": f"#!/bin/sh -e\n{dpkg}\n"}
    root = tmp_path / "programs"
    shutil.copytree(tiny_root, root, symlinks=True)
    add_programs(root, ["mkdir", "chown", "chmod", "ln"])
    layers = [make_base_layer(tmp_path / "base", root, scripts), make_opam_root(tmp_path / "opam-root")]
    request: Any = build_request(tmp_path / "store", layers)
    (tmp_path / "x.deb").write_bytes(b"of no dpkg")
    digest = hashlib.sha256(b"of no dpkg").hexdigest()
    deb = {"name": "x", "version": "1", "architecture": "all", "sha256": digest, "size": 10}
    request["package"]["debs"] = [{**deb, "file": str(tmp_path / "x.deb")}]
    if twice:
        request["twice"] = True
    if left_out:
        request["left_out"] = list(left_out)
    return build.run(request, 1)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: Namespaces) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_what_is_the_same_is_built(tmp_path: Path, tiny_root: Path) -> None:
    assert run(tmp_path, tiny_root, STEADY) == 0
    layer = Store(tmp_path / "store", False).get(read_layer(Path(".")))
    assert (layer / "usr/lib/file").read_text() == "same\n"
    assert not (layer / "etc/hostid").exists()


def test_each_difference_is_named(tmp_path: Path, tiny_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = f"""{STEADY}
        cat {UUID} > /usr/lib/random
        name=$(cat {UUID}); echo > /usr/lib/$name
        ln -s $(cat {UUID}) /usr/lib/link
        touch /usr/lib/t; stat -c %Y /usr/lib/t > /usr/lib/second
    """
    assert run(tmp_path, tiny_root, script) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("error: t.1: its depexts, installed twice, are not the same")
    named = {line.strip() for line in lines if line.startswith("  /")}
    expected = {f"/usr/lib/{name} (content)" for name in ("random", "link", "second")}
    assert expected < named and len(named) == 5
    assert all(line in expected or line.endswith("(it is there only once)") for line in named)
    assert "[opam].depext_files_left_out" in lines[-1]
    assert not Path("layer.json").exists()


def test_what_the_options_name_is_left_out(tmp_path: Path, tiny_root: Path) -> None:
    key = "echo '-----BEGIN RSA PRIVATE KEY-----' > /etc/own/tls/key"
    script = f"{STEADY}\ncat {UUID} > /usr/lib/random; mkdir -p /etc/own/tls; {key}; echo kept > /etc/own/other"
    assert run(tmp_path, tiny_root, script, left_out=["/usr/lib/ran*", "etc/**/tls"]) == 0
    layer = Store(tmp_path / "store", False).get(read_layer(Path(".")))
    assert (layer / "etc/own/other").exists()
    assert not (layer / "usr/lib/random").exists() and not (layer / "etc/own/tls").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("etc/machine-id", EMPTY),
        ("etc/machine-id2", None),
        ("x/etc/machine-id", None),
        ("etc/ssh/ssh_host_ed25519_key", DROP),
        ("etc/ssh/ssh_host_/x", None),
        ("etc/ssh/sshd_config", None),
        ("usr/share/fonts/.uuid", DROP),
        ("usr/share/fonts/truetype/a/.uuid", DROP),
        ("usr/share/fonts/truetype/a.uuid", None),
        ("var/lib/postgresql/17/main", DROP),
        ("var/lib/postgresql/17", None),
        ("etc/passwd-", DROP),
        ("etc/passwd", None),
        ("var/backups/dpkg\nstatus", DROP),
        ("var/log/journal", UNLISTED),
        ("var/lib/texmf/ls-R", ORDERED),
        ("var/lib/texmf/ls-R-TEXMFMAIN", None),
        ("var/lib/texmf/web2c/tex", DROP),
        ("var/log/journal/remote", UNLISTED),
        ("var/log/other", None),
        ("etc/ssl/certs/java/cacerts", DATED),
    ],
)
def test_rules(path: str, expected: Optional[str]) -> None:
    assert machine_files.action(path.encode()) == expected


def test_each_rule_says_why() -> None:
    assert len({rule.pattern for rule in RULES}) == len(RULES)
    assert all(
        rule.why and rule.action in (DROP, EMPTY, DATED, ORDERED, UNLISTED) and not rule.pattern.startswith("/")
        for rule in RULES
    )


def test_the_page_has_each_rule() -> None:
    text = (REPOSITORY / "docs/maintainer-scripts.md").read_text()
    rows = [f"| `/{rule.pattern}` | {rule.action} | {rule.why} |" for rule in RULES]
    assert [line for line in text.splitlines() if line.startswith("| `/")] == rows


@pytest.mark.parametrize(
    ("content", "is_key"),
    [
        (b"-----BEGIN RSA PRIVATE KEY-----\nMIIE", True),
        (b"x: |\n  -----BEGIN PRIVATE KEY-----\r\n", True),
        (b'{"key": "-----BEGIN PRIVATE KEY-----\\nMIIE"}', True),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----", True),
        (b">0=\x00\x1f-----BEGIN RSA PRIVATE KEY-----\n[50:", False),
        (b"\x00-----BEGIN PGP PRIVATE KEY BLOCK-----\x00", False),
        (b"-----BEGIN PUBLIC KEY-----\n", False),
    ],
)
def test_what_is_a_private_key(content: bytes, is_key: bool) -> None:
    """The shared MIME database has the first lines of keys as patterns."""
    assert bool(machine_files.KEY.search(content)) == is_key
