"""prepare_opam: opam finds the real opam files, its archives by any checksum, and a solver with one answer."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any, Dict

from opam_sandbox.building import prepare_opam
from opam_sandbox.opam.package import OpamPackage, metadata, read_package

# What opam 2.3 writes for a package asked for, an installed one, and one that only has to be known.
CUDF = """preamble:
property: opam-query: int = [0], installed-root: bool = [false], opam-name: string

package: %3dopam-invariant
version: 1
installed: true
was-installed: true

package: later
version: 1
conflicts: later
opam-name: later

package: dep
version: 3
installed: true
depends: later

package: tool
version: 2
depends: dep
opam-query: 1

request: opam
install: tool
"""


def test_the_solver_has_one_answer(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(CUDF)
    (tmp_path / "script").write_text(prepare_opam._SOLVER_SCRIPT)
    subprocess.run(["/bin/sh", "script", "in", "out"], cwd=tmp_path, check=True)
    answer = [part.split("\n") for part in (tmp_path / "out").read_text().strip().split("\n\n")]
    assert answer == [
        ["package: %3dopam-invariant", "version: 1", "installed: true"],
        ["package: dep", "version: 3", "installed: true"],
        ["package: tool", "version: 2", "installed: true"],
    ]


def test_downloads_by_every_checksum(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"content")
    sums = {kind: hashlib.new(kind, b"content").hexdigest() for kind in ("md5", "sha256", "sha512")}
    opam = (
        f'url {{ src: "https://h/a" checksum: ["sha512={sums["sha512"]}" "{sums["md5"].upper()}"] }}\n'
        f'extra-source "b" {{ src: "https://h/b" checksum: "md5={sums["md5"]}" }}\n'
    )
    source: Dict[str, Any] = {
        "sha256": sums["sha256"],
        "size": 7,
        "file": str(tmp_path / "archive"),
    }
    package = OpamPackage("a", "1", opam, ())
    sources: Any = [{**source, "name": ""}, {**source, "name": "b"}]
    prepare_opam._write_downloads(tmp_path / "downloads", package, sources)
    found = {
        path.relative_to(tmp_path / "downloads").as_posix()
        for path in (tmp_path / "downloads").rglob("*")
        if path.is_file()
    }
    assert found == {f"{kind}/{value[:2]}/{value}" for kind, value in sums.items()}


def test_modes_of_files() -> None:
    fields: Any = {
        **{"name": "a", "version": "1", "opam": "x"},
        "files": [{"path": "gen.sh", "content": "eA==", "executable": True}, {"path": "d/p", "content": "eQ=="}],
    }
    assert metadata(read_package(fields), "p", "o") == [
        ("p/opam", b"o", 0o644),
        ("p/files/gen.sh", b"x", 0o755),
        ("p/files/d/p", b"y", 0o644),
    ]
