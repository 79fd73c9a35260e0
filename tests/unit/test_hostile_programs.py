"""Programs of the host that say something else than they should: skopeo, engines, apt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.locking import apt_lists
from opam_sandbox.publishing import skopeo
from opam_sandbox.running import engine
from tests.support.small_images import make_image

PLACE = skopeo.Destination("example.org/x:y", True, "")


def program(directory: Path, text: str) -> str:
    path = directory / "program"
    path.write_bytes(b"#!/bin/sh\n" + text.encode("latin-1"))
    path.chmod(0o755)
    return str(path)


def test_words_that_are_no_utf8(tmp_path: Path) -> None:
    assert engine._output([program(tmp_path, "printf 'caf\\351\\n'")]) == "caf\ufffd\n"
    with pytest.raises(ToolError, match="failed:\ncaf\ufffd$"):
        engine._output([program(tmp_path, "printf 'caf\\351\\n' >&2; exit 1")])
    done = apt_lists.run(tmp_path, [program(tmp_path, "printf 'caf\\351' >&2; exit 1")], "amd64", {})
    assert apt_lists.complaint(done) == "caf\ufffd"


def test_skopeo_that_names_no_digest(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^skopeo does not say what it pushed to example\.org/x:y: No such file"):
        skopeo.push(program(tmp_path, "exit 0"), tmp_path, "sha256:00", PLACE, 0)


def test_skopeo_that_names_something_else(tmp_path: Path) -> None:
    script = "for one; do case $one in --digestfile=*) printf 'caf\\351' >\"${one#*=}\" ;; esac; done"
    with pytest.raises(ToolError, match=r"^example\.org/x:y was pushed as caf\ufffd, but the image is sha256:00$"):
        skopeo.push(program(tmp_path, script), tmp_path, "sha256:00", PLACE, 0)


def test_skopeo_that_fails_without_sense(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="its tag is as it was: caf\ufffd$"):
        skopeo.push(
            program(tmp_path, "printf 'denied\\n\\ncaf\\351\\n\\n' >&2; exit 1"), tmp_path, "sha256:00", PLACE, 0
        )


def test_an_engine_that_names_no_image(tmp_path: Path) -> None:
    make_image(tmp_path / "layout", [{"f": b""}])
    request: Any = {"kind": "podman", "runtime": program(tmp_path, "exit 0"), "engine_args": [], "names": ["a:b"]}
    with pytest.raises(ToolError, match="/program does not say which image it pulled$"):
        engine.load(request, tmp_path / "layout")
