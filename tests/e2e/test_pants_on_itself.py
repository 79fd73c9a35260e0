"""What Pants does with this project's own Python code, and the file that it makes for servers without Pants."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest

from tests.support.checkout import ROOT, Pants, tool
from tests.support.small_images import numbered_image


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["test", "tests/unit::"], True),
        (["check", "::"], True),
        (["lint", "src/opam_sandbox/errors.py"], True),
        (["fmt", "pants-plugins:"], True),
        (["package", "//:wheel"], True),
        (["package", ":wheel"], True),
        (["package", "//src/opam_sandbox"], True),
        (["list", "3rdparty/python"], True),
        (["--changed-since=HEAD~1", "test"], True),
        (["package", "//images:hello"], False),
        (["package", "images::"], False),
        (["list", "3rdparty/opam:"], False),
        (["generate-lockfiles", "--resolve=system"], False),
        (["run", "//images:hello", "--", "ls", "src", "::"], False),
        (["--version"], False),
    ],
)
def test_the_python_configuration_joins_where_python_code_is_named(arguments: List[str], expected: bool) -> None:
    [function] = re.findall(r"^names_python_code\(\) \{\n.*?^\}\n", (ROOT / "pants").read_text(), re.M | re.S)
    done = subprocess.run(["bash", "-euc", f'{function}\nnames_python_code "$@"', "pants", *arguments])
    assert (done.returncode == 0) == expected


def test_images_are_the_same_targets_either_way(pants: Pants) -> None:
    alone = pants.run("list", "images::", "3rdparty/debian::").stdout.splitlines()
    everything = pants.run("list", "::").stdout.splitlines()
    assert "images:hello" in alone and not any(line.startswith("src") for line in alone)
    assert set(alone) <= set(everything)
    assert {"//:wheel", "//:opam-oci-layouts", "src/opam_sandbox/errors.py"} <= set(everything)


def test_unit_tests_run_and_types_are_checked(pants: Pants) -> None:
    done = pants.run("test", "check", "tests/unit/test_toml_writer.py")
    assert "✓ tests/unit/test_toml_writer.py:tests succeeded" in done.stderr
    assert "✓ mypy succeeded" in done.stderr


def test_lint_and_fmt_are_the_style_of_build_support_check(clone: Pants) -> None:
    bad = clone.root / "src/opam_sandbox/bad.py"
    bad.write_text("import os\nx = [ 1,2 ]\n")
    done = clone.run("lint", "src/opam_sandbox/bad.py", "src/opam_sandbox/errors.py", check=False)
    assert done.returncode != 0
    assert "F401" in done.stdout + done.stderr and "ruff format failed" in done.stderr
    clone.run("fix", "src/opam_sandbox/bad.py")
    assert bad.read_text() == "x = [1, 2]\n"
    changed = tool("git", "-C", str(clone.root), "status", "--porcelain", "src").stdout.splitlines()
    assert [line for line in changed if "errors.py" in line] == []


@pytest.fixture(scope="module")
def layouts(pants: Pants, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, alone in a directory of a server."""
    pants.run("package", "//:opam-oci-layouts")
    return Path(shutil.copy2(ROOT / "dist/opam-oci-layouts", tmp_path_factory.mktemp("server")))


def run_file(file: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """On the system's Python, with nothing in its environment but where pex unpacks."""
    return subprocess.run(
        ["/usr/bin/env", "-i", f"PEX_ROOT={file.parent}/unpacked", "/usr/bin/python3", str(file), *map(str, arguments)],
        cwd=file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_layout_directories_are_kept_without_pants(layouts: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for number in (1, 2):
        numbered_image(tmp_path / f"image{number}", number)
        done = run_file(layouts, "add", shared, "--image", tmp_path / f"image{number}", "--name", f"image:{number}")
        assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in run_file(layouts, "list", shared).stdout.splitlines()] == ["image:1", "image:2"]
    assert run_file(layouts, "check", shared).returncode == 0
    tool("skopeo", "inspect", f"oci:{shared}:image:2")

    before = blobs(shared)
    assert run_file(layouts, "remove", shared, "image:1").returncode == 0
    assert run_file(layouts, "collect", shared).returncode == 0
    assert blobs(shared) < before
    assert [line.split()[1] for line in run_file(layouts, "list", shared).stdout.splitlines()] == ["image:2"]
    assert run_file(layouts, "check", shared).returncode == 0

    manifest = json.loads((shared / "index.json").read_text())["manifests"][0]["digest"]
    (shared / "blobs" / manifest.replace(":", "/")).write_text("{}")
    done = run_file(layouts, "check", shared)
    assert done.returncode != 0 and manifest.partition(":")[2][:12] in done.stdout + done.stderr


def blobs(layout: Path) -> "set[str]":
    return set(os.listdir(layout / "blobs/sha256"))
