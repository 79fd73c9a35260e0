"""The script `pants`: finds a Python, makes the environment once, starts the native client.

Python and pip are stand-ins here that leave marks, so that nothing is downloaded; the real thing starts every
end-to-end test.
"""

from __future__ import annotations

import ast
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Its environment's Python is the same script, whose `-m pip` puts the native client in place; as an old pip does, it refuses
# `--python` if OLD_PIP is set.
PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c "*) exit "${PYTHON_IS_WRONG:-0}" ;;
  "-m venv") echo venv >>"$MARKS"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m ensurepip") echo ensurepip >>"$MARKS" ;;
  "-m pip")
    python=$0
    if [ "$3" = --python ]; then
      [ -z "${OLD_PIP:-}" ] || { echo "no such option: --python"; exit 2; }
      python=$4
    fi
    [ "$5" != --version ] || exit 0
    echo pip >>"$MARKS"
    [ -z "${PIP_FAILS:-}" ] || { echo "pip has no network"; exit 1; }
    client=$(dirname "$python")/../lib/python3.9/site-packages/pants/bin
    mkdir -p "$client"
    printf '#!/bin/bash\\npwd; echo "server $_PANTS_SERVER_EXE"; printf "[%%s]" "$@"\\n' >"$client/native_client" ;;
esac
"""


@dataclass
class Checkout:
    """A copy of the script in a project, and a home directory."""

    root: Path
    home: Path
    python: Path

    def start(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        base = {"PATH": os.defpath, "HOME": str(self.home), "MARKS": str(self.home / "marks")}
        if "PATH" not in env:
            base["PANTS_PYTHON"] = str(self.python)
        return subprocess.run(
            [str(self.root / "pants"), *args],
            env={**base, **env},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def marks(self) -> list[str]:
        path = self.home / "marks"
        return path.read_text().split() if path.exists() else []

    def environments(self) -> list[Path]:
        return [path for path in (self.home / ".cache/opam-oci-pants").iterdir() if path.is_dir()]


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a checkout"
    (root / "3rdparty/python").mkdir(parents=True)
    shutil.copy2(ROOT / "pants", root)
    (root / "3rdparty/python/requirements.txt").write_text("pantsbuild.pants==1\n")
    home = tmp_path / "home"
    home.mkdir()
    return Checkout(root, home, executable(tmp_path / "python3.9", PYTHON))


def test_installs_once_and_passes_arguments_on(checkout: Checkout) -> None:
    first = checkout.start("list", "a b::")
    assert first.returncode == 0, first.stderr
    [environment] = checkout.environments()
    assert first.stdout.splitlines() == [str(checkout.root), f"server {environment}/bin/pants", "[list][a b::]"]
    assert "installing requirements.txt" in first.stderr
    again = checkout.start("list", "a b::")
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert checkout.marks() == ["venv", "pip"]


def test_an_old_pip_is_replaced_in_the_environment(checkout: Checkout) -> None:
    result = checkout.start("list", OLD_PIP="1")
    assert result.returncode == 0, result.stderr
    assert checkout.marks() == ["venv", "ensurepip", "pip"]


def test_two_at_once_install_once(checkout: Checkout) -> None:
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: checkout.start(), range(4)))
    assert [result.returncode for result in results] == [0] * 4
    assert checkout.marks() == ["venv", "pip"]


def test_a_failed_installation_is_told_and_tried_again(checkout: Checkout) -> None:
    failed = checkout.start(PIP_FAILS="1")
    assert failed.returncode == 1
    assert "pip has no network" in failed.stderr and "installing requirements.txt failed" in failed.stderr
    assert checkout.start().returncode == 0
    assert checkout.marks() == ["venv", "pip", "venv", "pip"]


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Checkout) -> None:
    checkout.start()
    [environment] = checkout.environments()
    (environment / "bin/python").unlink()
    assert checkout.start().returncode == 0
    assert checkout.marks() == ["venv", "pip"] * 2


def test_other_requirements_make_another_environment(checkout: Checkout) -> None:
    (checkout.root / "more.txt").write_text("pytest\n")
    checkout.start()
    printed = checkout.start("--print-python", PANTS_REQUIREMENTS="more.txt")
    assert len(checkout.environments()) == 2
    assert Path(printed.stdout.strip()).exists()
    missing = checkout.start(PANTS_REQUIREMENTS="nothing.txt")
    assert missing.returncode == 1 and "nothing.txt" in missing.stderr


def test_no_python(checkout: Checkout) -> None:
    result = checkout.start(PYTHON_IS_WRONG="1")
    assert result.returncode == 1
    assert "no Python 3.9 found" in result.stderr and "PANTS_PYTHON" in result.stderr
    assert checkout.marks() == []


def test_pyenv_where_the_version_is_not_active(checkout: Checkout, tmp_path: Path) -> None:
    executable(tmp_path / "pyenv/shims/python3.9", "#!/bin/sh\nexit 127\n")
    executable(tmp_path / "pyenv/versions/3.9.7/bin/python", PYTHON)
    executable(tmp_path / "pyenv/versions/3.9.18/bin/python", PYTHON)
    result = checkout.start(PATH=f"{tmp_path}/pyenv/shims:{os.defpath}")
    assert result.returncode == 0, result.stderr
    assert "versions/3.9.18/bin/python" in result.stderr


def test_the_official_launcher_gets_the_same_plugins() -> None:
    script = '. ./.pants.bootstrap; printf %s "$PANTS_PLUGINS"'
    plugins = subprocess.run(["bash", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = [plugin.partition("==") for plugin in ast.literal_eval(plugins)]
    assert [(name, bool(version)) for name, _, version in names] == [("filelock", True), ("tomli", True)]
    lines = (ROOT / "3rdparty/python/requirements.txt").read_text().splitlines()
    for name, _, version in names:
        assert any(line.startswith(f"{name}=={version} ") for line in lines)
