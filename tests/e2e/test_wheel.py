"""The wheel: what is in it, that it is the same wherever it is made, and a monorepo that has nothing else of this project."""

from __future__ import annotations

import email
import hashlib
import json
import os
import shutil
import subprocess
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from tests.support.checkout import ROOT, CommandFailed, Pants, make_clone, tool
from tests.support.layouts import Layout

NAME = "opam_oci_pants-0.1.0-py3-none-any.whl"


def make_wheel(clone: Path, caches: Path, umask: int) -> Path:
    """Clone this checkout with a umask of its own and make the wheel there, by a store of its own."""
    before = os.umask(umask)
    try:
        pants = Pants(make_clone(clone), caches=caches, options=["--no-pantsd"])
        pants.run("package", "//:wheel")
    finally:
        os.umask(before)
    return clone / "dist" / NAME


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("wheel")
    return make_wheel(top / "one", top / "caches", 0o022)


def test_same_bytes_in_another_clone(wheel: Path, tmp_path: Path) -> None:
    """At another path, at another time, with another umask, nothing of it cached."""
    other = make_wheel(tmp_path / "an" / "other place", tmp_path / "caches", 0o077)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, other)]
    print(digests)
    assert digests[0] == digests[1]


def tracked(directory: str, *, code: bool) -> List[str]:
    """The files of a package in this checkout, as they are called in a wheel; code, or data."""
    names = tool("git", "-C", str(ROOT / directory), "ls-files", "--cached", "--others", "--exclude-standard").stdout
    return [
        f"{Path(directory).name}/{name}"
        for name in names.splitlines()
        if name.endswith(".py") == code and not Path(name).name.startswith("BUILD")
    ]


def test_has_code_and_data_and_nothing_else(wheel: Path) -> None:
    expected = [
        name
        for directory in ("pants-plugins/opam_oci", "src/opam_sandbox")
        for code in (True, False)
        for name in tracked(directory, code=code)
    ]
    for data in ("opam_oci/py.typed", "opam_sandbox/py.typed", "opam_oci/requirements.txt"):
        assert data in expected
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(expected)


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [info] = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Name"] == "opam-oci-pants"
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License"] == "ISC"
    assert metadata.get_all("Requires-Dist") == ["filelock", 'tomli ; python_version < "3.11"']
    assert "opam packages as OCI image layers" in str(metadata.get_payload())
    lines = [line.replace(" ", "") for line in entry_points.splitlines() if line]
    assert lines == [
        "[pantsbuild.plugin]",
        "rules=opam_oci.register:rules",
        "target_types=opam_oci.register:target_types",
    ]


def test_requirements_file_says_what_the_wheel_says(wheel: Path) -> None:
    """Users of [GLOBAL].pythonpath get it from requirements.txt."""
    lines = (ROOT / "pants-plugins/opam_oci/requirements.txt").read_text().splitlines()
    with zipfile.ZipFile(wheel) as archive:
        [path] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        wanted = email.message_from_bytes(archive.read(path)).get_all("Requires-Dist") or []
    assert [line.replace(" ", "") for line in lines if line and not line.startswith("#")] == [
        requirement.replace(" ", "") for requirement in wanted
    ]


@dataclass
class Monorepo:
    """A repository elsewhere on disk, with a Pants that finds the plugin by its wheel only."""

    root: Path
    home: Path
    pants: Path

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`pants ARGUMENTS` with nothing in its environment that leads to this checkout or its caches."""
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "PANTS_DYNAMIC_UI": "false", "NO_SCIE_WARNING": "1"}
        argv = [str(self.pants), "--no-pantsd", *arguments]
        done = subprocess.run(
            argv,
            cwd=self.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done


def write_files(root: Path, files: "dict[str, str]") -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())


# Pants 2.17 resolves plugins by pex, which it would download from GitHub.
def pex_file(directory: Path, python: str) -> Tuple[str, str]:
    """pex as a file, its url and the line for [pex-cli].known_versions."""
    pex = directory / "pex"
    tool(python, str(ROOT / "build-support/repo_tools/make_pex_file.py"), str(pex))
    digest = hashlib.sha256(pex.read_bytes()).hexdigest()
    return f"file://{pex}", f"v2.1.137|linux_x86_64|{digest}|{pex.stat().st_size}"


@pytest.fixture(scope="module")
def monorepo(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monorepo]:
    top = tmp_path_factory.mktemp("elsewhere")
    python = tool(str(ROOT / "pants"), "--print-python").stdout.strip()
    url, known = pex_file(top, python)
    (top / "wheels").mkdir()
    shutil.copy2(wheel, top / "wheels")
    root = top / "monorepo"
    write_files(
        root,
        {
            "pants.toml": f"""
                [GLOBAL]
                pants_version = "2.17.1"
                plugins = ["opam-oci-pants==0.1.0"]
                backend_packages = ["opam_oci"]

                [python-repos]
                find_links = ["file://{top}/wheels"]

                [pex-cli]
                url_template = "{url}"
                known_versions = ["{known}"]

                [anonymous-telemetry]
                enabled = false

                [opam.resolves]
                default = "3rdparty/opam/default.lock"

                [opam.resolves_to_base]
                default = "//3rdparty/debian:trixie"

                [opam.repositories]
                ours = "3rdparty/opam/repository"

                [debian.resolves]
                trixie = "3rdparty/debian/trixie.lock"
                """,
            "3rdparty/debian/BUILD": 'debian_rootfs(name="trixie", suite="trixie")\n',
            "3rdparty/opam/BUILD": """
                opam_packages(name="default")
                opam_requirement(name="roots", requirements=["greeting"])
                """,
            "3rdparty/opam/repository/repo": 'opam-version: "2.0"\n',
            "3rdparty/opam/repository/packages/greeting/greeting.1.0/opam": """
                opam-version: "2.0"
                synopsis: "A greeting, which needs no compiler"
                maintainer: "nobody@example.org"
                license: "ISC"
                install: ["sh" "-c" "mkdir -p '%{share}%/greeting' && echo hello from opam > '%{share}%/greeting/text'"]
                """,
            "images/BUILD": """
                oci_package_image(
                    name="greeting",
                    packages=["3rdparty/opam:default#greeting"],
                    cmd=["cat", "/home/opam/.opam/default/share/greeting/text"],
                )
                """,
        },
    )
    shutil.copy2(ROOT / "3rdparty/debian/trixie.lock", root / "3rdparty/debian")
    (top / "home").mkdir()
    yield Monorepo(root, top / "home", Path(python).with_name("pants"))
    shutil.rmtree(top, ignore_errors=True)


def test_the_plugin_is_the_wheel_s(monorepo: Monorepo) -> None:
    """Pants knows the targets, and loaded nothing of them from this checkout."""
    assert "oci_package_image" in monorepo.run("help", "targets").stdout
    installed = [path for path in monorepo.home.rglob("opam_oci/register.py")]
    assert installed and all(str(ROOT) not in str(path.resolve()) for path in installed)


def test_locks_builds_and_runs_an_image(monorepo: Monorepo) -> None:
    monorepo.run("generate-lockfiles", "--resolve=default")
    lock = (monorepo.root / "3rdparty/opam/default.lock").read_text()
    assert 'name = "greeting"' in lock
    monorepo.run("package", "images:greeting")
    layout = monorepo.root / "dist/images/greeting"
    inspected = json.loads(tool("skopeo", "inspect", f"oci:{layout}:latest").stdout)
    assert inspected["Layers"] == [layer["digest"] for layer in Layout(layout).layers]
    config = json.loads(tool("skopeo", "inspect", "--config", f"oci:{layout}:latest").stdout)
    assert any("greeting.1.0" in entry.get("created_by", "") for entry in config["history"]), config["history"]
    assert monorepo.run("run", "images:greeting").stdout == "hello from opam\n"
