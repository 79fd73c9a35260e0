"""dpkg: the records of several layers, put together, lose nobody's packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Dict, Sequence

import pytest

from opam_sandbox.dpkg import difference, merge, read, read_status, read_triggers
from opam_sandbox.layer.description import DpkgFacts


def paragraph(name: str, version: str = "1", more: str = "") -> str:
    return (
        f"Package: {name}\nStatus: install ok installed\nMaintainer: x <x@example.org>\nArchitecture: amd64\n"
        f"Version: {version}\nDescription: {name}\n more: than\n .\n one line{more}"
    )


def write(root: Path, packages: Sequence[str], triggers: str = "") -> Path:
    database = root / "var/lib/dpkg"
    (database / "triggers").mkdir(parents=True, exist_ok=True)
    (database / "status").write_text("".join(f"{text}\n\n" for text in packages))
    (database / "triggers/File").write_text(triggers)
    return root


@pytest.fixture
def layers(tmp_path: Path) -> "tuple[Path, list[Dict[str, object]]]":
    """A base, and what two builds over it added, neither of which knows of the other."""
    base = write(tmp_path / "base", [paragraph("libc6"), paragraph("tar")], "/usr/lib libc6\n")
    before = read(base)
    one = write(
        tmp_path / "one", [*before.status.values(), paragraph("libssl-dev")], "/usr/lib libc6\n/usr/share/mime shared\n"
    )
    two = write(
        tmp_path / "two",
        [paragraph("libc6", more="\n changed"), paragraph("tar"), paragraph("zlib1g-dev")],
        "/usr/lib libc6\n",
    )
    return base, [difference(before, one), difference(before, two)]


def test_a_layer_says_what_it_added(layers: "tuple[Path, list[Dict[str, object]]]") -> None:
    _, (one, two) = layers
    assert one == {"status": {"libssl-dev:amd64": paragraph("libssl-dev")}, "triggers": ["/usr/share/mime shared"]}
    status = two["status"]
    assert isinstance(status, dict) and sorted(status) == ["libc6:amd64", "zlib1g-dev:amd64"]
    assert two["triggers"] == []


def test_two_layers_lose_nothing(layers: "tuple[Path, list[Dict[str, object]]]") -> None:
    """Both layers' packages, the base's, and what one of them changed."""
    base, additions = layers
    assert merge(base, additions)
    status = read_status(base)
    assert sorted(status) == ["libc6:amd64", "libssl-dev:amd64", "tar:amd64", "zlib1g-dev:amd64"]
    assert status["libc6:amd64"].endswith("changed")
    assert read_triggers(base) == ["/usr/lib libc6", "/usr/share/mime shared"]


def test_order_and_repetition_do_not_show(layers: "tuple[Path, list[Dict[str, object]]]") -> None:
    base, additions = layers
    merge(base, additions)
    first = (base / "var/lib/dpkg/status").read_bytes()
    merge(base, [*reversed(additions), *additions])
    assert (base / "var/lib/dpkg/status").read_bytes() == first
    assert read_triggers(base) == ["/usr/lib libc6", "/usr/share/mime shared"]


def test_nothing_to_enter(tmp_path: Path) -> None:
    """Layers without .debs, or a base without dpkg, leave everything as it is."""
    owners: DpkgFacts = {"owners": {"etc/shadow": "root:shadow"}, "groups": {"shadow": "42"}}
    assert not merge(tmp_path, [{}, {"status": {}, "triggers": []}, owners])
    assert list(tmp_path.iterdir()) == []
    assert read_status(tmp_path) == {} and read_triggers(tmp_path) == []


def test_odd_bytes_survive(tmp_path: Path) -> None:
    """A maintainer's name in Latin-1 is what it was."""
    root = write(tmp_path, [])
    (root / "var/lib/dpkg/status").write_bytes(b"Package: a\nArchitecture: all\nMaintainer: J\xf6rg\n\n")
    merge(root, [{"status": {"b:all": "Package: b\nArchitecture: all"}}])
    assert b"J\xf6rg\n\nPackage: b\n" in (root / "var/lib/dpkg/status").read_bytes()


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs dpkg-query")
def test_dpkg_reads_the_result(layers: "tuple[Path, list[Dict[str, object]]]") -> None:
    base, additions = layers
    merge(base, additions)
    done = subprocess.run(
        ["dpkg-query", f"--admindir={base / 'var/lib/dpkg'}", "-W", "-f=${Package} ${Version} ${db:Status-Abbrev}\n"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.strip() for line in done.stdout.splitlines()] == [
        f"{n} 1 ii" for n in ("libc6", "libssl-dev", "tar", "zlib1g-dev")
    ]
