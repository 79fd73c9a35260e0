"""The same backend under another Pants than the one that this repository pins.

`OPAM_OCI_OTHER_PANTS` is the path of its launcher, a program that takes Pants' arguments. With `--print-python` alone, a
launcher may print the Python that it runs Pants on; then the backend's own tests run there, too (pytest and hypothesis
have to be installed with it). Set whatever else that Pants needs, such as `PANTS_PEX_CLI_*`, in the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.checkout import ROOT, CommandFailed, Pants, make_clone, tool
from tests.support.layouts import Layout

LAUNCHER = os.environ.get("OPAM_OCI_OTHER_PANTS", "")

pytestmark = pytest.mark.skipif(
    not LAUNCHER, reason="set OPAM_OCI_OTHER_PANTS to the launcher of another Pants, 2.30 or newer"
)


class OtherPants:
    """The other Pants in a clone, with caches of its own: nothing that 2.17 made is there."""

    def __init__(self, root: Path, caches: Path) -> None:
        self.root = root
        self.env = {
            **os.environ,
            "PANTS_DYNAMIC_UI": "false",
            "PANTS_SUBPROCESSDIR": str(caches / "pids"),
            "PANTS_LOCAL_STORE_DIR": str(caches / "lmdb_store"),
            "PANTS_NAMED_CACHES_DIR": str(caches / "named_caches"),
        }

    def run(self, *args: str) -> str:
        """What a command prints. Raises CommandFailed."""
        done = subprocess.run(
            [LAUNCHER, "--no-pantsd", *args],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            raise CommandFailed(
                f"{LAUNCHER} {' '.join(args)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherPants]:
    top = tmp_path_factory.mktemp("other")
    yield OtherPants(make_clone(top / "clone"), top / "caches")
    shutil.rmtree(top, ignore_errors=True)


def test_targets_are_found(other: OtherPants) -> None:
    listed = other.run("list", "::").splitlines()
    assert {"images:hello", "images:0install", "3rdparty/opam:system#react", "3rdparty/opam:hello"} <= set(listed)
    assert '"package": "react"' in other.run("peek", "3rdparty/opam:system#react")
    below = other.run("dependencies", "--transitive", "3rdparty/opam:system#react").splitlines()
    assert "3rdparty/opam:system#ocamlfind" in below


def test_the_same_image_from_nothing(other: OtherPants, pants: Pants) -> None:
    other.run("package", "images:hello", "images/kinds:docker-archive")
    pants.run("package", "images:hello", "images/kinds:docker-archive")
    for name in ("images/hello/index.json", "images.kinds/docker-archive.tar"):
        mine, its = ROOT / "dist" / name, other.root / "dist" / name
        assert mine.read_bytes() == its.read_bytes(), name
    assert Layout(other.root / "dist/images/hello").manifest["layers"]


def test_a_container_runs(other: OtherPants) -> None:
    assert "react" in other.run("run", "images:hello", "--", "ocamlfind", "list")


def test_publishing_and_taking_back(other: OtherPants, tmp_path: Path) -> None:
    directory = tmp_path / "layouts"
    option = f"--oci-publish-registries={{'local': {{'address': 'oci:{directory}', 'default': True}}}}"
    other.run(option, "publish", "images:hello")
    assert "hello" in (directory / "index.json").read_text()
    other.run(option, "unpublish", "images:hello")
    assert "hello" not in (directory / "index.json").read_text()


def test_lockfiles_are_those_that_are_committed(other: OtherPants) -> None:
    other.run("generate-lockfiles", "--resolve=system")
    changed = tool("git", "-C", str(other.root), "diff", "--stat", "--", "3rdparty/opam").stdout
    assert changed == "", "the mirror has other files than when the lockfile was made, or another Pants locks otherwise"


def _its_python() -> "List[str]":
    done = subprocess.run([LAUNCHER, "--print-python"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    path = done.stdout.strip()
    return [path] if done.returncode == 0 and os.path.isabs(path) and os.access(path, os.X_OK) else []


def test_the_backend_s_tests() -> None:
    python = _its_python()
    if not python:
        pytest.skip("the launcher prints no Python")
    # These look at the environment of this repository's own Pants, or at texts of its help.
    left_out = ["test_bootstrap.py", "test_reference_docs.py", "test_overlay.py", "test_timeline.py"]
    done = subprocess.run(
        [
            *python,
            "-m",
            "pytest",
            "-q",
            "-x",
            "tests/backend",
            *(f"--ignore=tests/backend/{name}" for name in left_out),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
