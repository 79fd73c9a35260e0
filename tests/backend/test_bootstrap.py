"""The script `pants`: finds a Python, makes the environment once, starts the native client; and the script that makes a
Python of Debian's packages.

Python, pip and apt are stand-ins here that leave marks, so that nothing is downloaded; the real thing starts every
end-to-end test.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Its environment's Python is the same script, whose `-m pip` puts the native client in place; as an old pip does, it refuses
# `--python` if OLD_PIP is set. PYTHON_IS: its version.
PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c "*) [[ $2 = *"'${PYTHON_IS:-3.9}'"* ]] ;;
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

    def start(self, *args: str, prefix: tuple[str, ...] = (), **env: str) -> "subprocess.CompletedProcess[str]":
        base = {"PATH": os.defpath, "HOME": str(self.home), "MARKS": str(self.home / "marks")}
        if "PATH" not in env:
            base["PANTS_PYTHON"] = str(self.python)
        return subprocess.run(
            [*prefix, str(self.root / "pants"), *args],
            env={**base, **env},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def debian_python(self, text: str) -> None:
        """Put a script in the place of the one that makes a Python of Debian's packages."""
        executable(self.root / "build-support/debian-python", f"#!/bin/bash\necho debian >>$MARKS\n{text}\n")

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


def test_debian_comes_last(checkout: Checkout) -> None:
    checkout.debian_python(f'[ "$*" = "$HOME/.cache/opam-oci-pants 3.9" ] && echo {checkout.python}')
    assert checkout.start().returncode == 0
    assert checkout.marks() == ["venv", "pip"]
    shutil.rmtree(checkout.home / ".cache")
    # Neither the Python that is asked for nor another one on PATH has the version.
    done = checkout.start(PYTHON_IS="3.11", PANTS_PYTHON=str(checkout.python))
    assert done.returncode == 0, done.stderr
    assert checkout.marks()[2:] == ["debian", "venv", "pip"]
    assert checkout.start(PYTHON_IS="3.11").stderr == ""


def test_no_python(checkout: Checkout) -> None:
    checkout.debian_python('echo "nor has Debian one" >&2; exit 1')
    result = checkout.start(PYTHON_IS="3.11")
    assert result.returncode == 1
    assert "nor has Debian one\npants: no Python 3.9 found" in result.stderr and "PANTS_PYTHON" in result.stderr
    assert checkout.marks() == ["debian"]
    assert not list((checkout.home / ".cache/opam-oci-pants").rglob(".complete"))


def test_other_requirements_name_the_versions_that_they_run_on(checkout: Checkout) -> None:
    checkout.debian_python('[ "$2 $3" != "3.12 3.13" ] && echo "other versions"; exit 1')
    (checkout.root / "more.txt").write_text("pytest\n")
    env = {"PANTS_REQUIREMENTS": "more.txt", "PANTS_PYTHON_VERSION": "3.12 3.13"}
    assert checkout.start("--print-python", PYTHON_IS="3.13", **env).returncode == 0
    shutil.rmtree(checkout.home / ".cache")
    result = checkout.start("--print-python", PYTHON_IS="3.11", **env)
    assert result.returncode == 1 and "no Python 3.12 or 3.13 found, which more.txt is for" in result.stderr
    assert checkout.marks() == ["venv", "pip", "debian"]


def test_pyenv_where_the_version_is_not_active(checkout: Checkout, tmp_path: Path) -> None:
    executable(tmp_path / "pyenv/shims/python3.9", "#!/bin/sh\nexit 127\n")
    executable(tmp_path / "pyenv/versions/3.9.7/bin/python", PYTHON)
    executable(tmp_path / "pyenv/versions/3.9.18/bin/python", PYTHON)
    result = checkout.start(PATH=f"{tmp_path}/pyenv/shims:{os.defpath}")
    assert result.returncode == 0, result.stderr
    assert "versions/3.9.18/bin/python" in result.stderr


def move(checkout: Checkout, name: str) -> Checkout:
    root = checkout.root.parent / name
    checkout.root.rename(root)
    return Checkout(root, checkout.home, checkout.python)


@pytest.mark.parametrize(
    "name", ["it's", "back\\slash", "%(buildroot)s", "two\nlines", "a\rreturn", os.fsdecode(b"latin-1 \xe4")]
)
def test_a_path_that_pants_does_not_take(checkout: Checkout, name: str) -> None:
    result = move(checkout, name).start()
    assert (result.returncode, result.stdout, checkout.marks()) == (1, "", [])
    assert (
        "Pants does not work in a directory whose path" in result.stderr
        and "clone it, to another path" in result.stderr
    )


@pytest.mark.parametrize("name", ["a,b:c", 'say "x"', "100% $HOME `id`", "Käse ☃", "-x", "a=b;c&d*[e]"])
def test_a_path_that_pants_takes(checkout: Checkout, name: str) -> None:
    moved = move(checkout, name)
    result = moved.start("list")
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, str(moved.root)), result.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_YY.nothing", ""])
def test_a_locale_has_no_say_in_what_is_utf8(checkout: Checkout, locale: str) -> None:
    result = move(checkout, "Käse").start(LC_ALL=locale)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("home", ["/dev/null", "/proc"])
def test_a_home_that_nothing_can_be_written_to(checkout: Checkout, home: str) -> None:
    result = checkout.start(HOME=home)
    assert (result.returncode, result.stdout, checkout.marks()) == (1, "", [])
    assert f"cannot be installed in {home}/.cache/opam-oci-pants" in result.stderr and "XDG_CACHE_HOME" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts: needs root")
def test_caches_that_nothing_can_be_written_to(checkout: Checkout) -> None:
    checkout.start()
    (checkout.home / ".cache/pants").mkdir()
    script = 'mount --bind "$HOME" "$HOME" && mount -o remount,bind,ro "$HOME" && exec "$0" list'
    argv = ["unshare", "--mount", "sh", "-c", script, str(checkout.root / "pants")]
    env = {"PATH": os.defpath, "HOME": str(checkout.home)}
    result = subprocess.run(argv, env=env, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0 and f"{checkout.home}/.cache/pants: set XDG_CACHE_HOME" in result.stderr
    elsewhere = subprocess.run(argv, env={**env, "PANTS_LOCAL_STORE_DIR": "/x"}, stderr=subprocess.PIPE, text=True)
    assert elsewhere.stderr == ""


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit")
@pytest.mark.parametrize("soft, hard, expected", [(64, 64, 1), (64, 511, 1), (64, 2048, 0), (2048, 2048, 0)])
def test_open_files(checkout: Checkout, soft: int, hard: int, expected: int) -> None:
    """A soft limit that is too low is raised as far as it needs; a hard one is an error that names the way out."""
    client = "#!/bin/bash\nulimit -Sn\n"
    assert checkout.start().returncode == 0
    [path] = checkout.home.glob(".cache/opam-oci-pants/*/bin/native_client")
    path.write_text(client)
    done = checkout.start(prefix=("prlimit", f"--nofile={soft}:{hard}"))
    assert done.returncode == expected, done.stderr
    if expected:
        assert done.stderr.startswith(f"pants: Pants needs 512 open files, and this shell may have {hard} at most")
        assert "prlimit --pid" in done.stderr and done.stdout == ""
    else:
        assert done.stdout == f"{max(soft, 512)}\n"


def test_a_home_that_is_no_absolute_path(checkout: Checkout) -> None:
    result = checkout.start(HOME="home")
    assert result.returncode == 1 and "no absolute path: home" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user without an account: needs root")
def test_a_user_without_account_and_home(checkout: Checkout) -> None:
    for path in (checkout.root.parent, *checkout.root.parent.parents):
        if "pytest-of-" in str(path):
            path.chmod(0o755)
    checkout.root.chmod(0o777)
    argv = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", str(checkout.root / "pants")]
    result = subprocess.run(argv, env={"PATH": os.defpath}, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and "user 54321 has no home directory" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts: needs root")
def test_a_checkout_that_is_read_only(checkout: Checkout) -> None:
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$1/pants" list'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(checkout.root)]
    result = subprocess.run(
        argv, env={"PATH": os.defpath, "HOME": str(checkout.home)}, stderr=subprocess.PIPE, text=True
    )
    assert result.returncode == 1 and "Pants cannot write into this checkout" in result.stderr
    assert str(checkout.root) in result.stderr


def test_a_path_variable_without_the_usual_programs(checkout: Checkout) -> None:
    for name in ("bash", "env"):
        (checkout.root / "bin").mkdir(exist_ok=True)
        (checkout.root / "bin" / name).symlink_to(str(shutil.which(name)))
    result = checkout.start(PATH=str(checkout.root / "bin"), PANTS_PYTHON=str(checkout.python))
    assert result.returncode == 0, result.stderr


def test_line_ends_are_nobodys_to_change(tmp_path: Path) -> None:
    """Digests are of bytes: a clone has the same ones whatever git is told about line ends."""
    clone = tmp_path / "clone"
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run(["git", *settings, "clone", "--quiet", "--no-local", str(ROOT), str(clone)], check=True)
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], stdout=subprocess.PIPE, check=True).stdout
    assert b"pants" in listed.split(b"\0")
    changed = [name for name in listed.decode().split("\0")[:-1] if b"\r\n" in (clone / name).read_bytes()]
    assert changed == []


def test_the_official_launcher_gets_the_same_plugins() -> None:
    script = '. ./.pants.bootstrap; printf %s "$PANTS_PLUGINS"'
    plugins = subprocess.run(["bash", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = [plugin.partition("==") for plugin in ast.literal_eval(plugins)]
    assert [(name, bool(version)) for name, _, version in names] == [("filelock", True), ("tomli", True)]
    lines = (ROOT / "3rdparty/python/requirements.txt").read_text().splitlines()
    for name, _, version in names:
        assert any(line.startswith(f"{name}=={version} ") for line in lines)


# What `apt-get` and `dpkg-deb` do for build-support/debian-python. The interpreter in the package is a program that any
# machine has, and that takes every argument.
APT_GET = """#!/bin/bash
case "$*" in
  *--print-uris*)
    echo "'http://one.example/debian/dists/trixie/InRelease' one 0"
    echo "'http://one.example/debian/dists/trixie-updates/InRelease' two 0"
    echo "'http://one.example/debian/dists/trixie/main/binary-amd64/Packages.xz' three 0"
    echo "'mirror+file:/etc/apt/m.list/dists/trixie-security/InRelease' four 0"
    echo "'cdrom://Debian/dists/trixie/InRelease' five 0" ;;
  *update)
    cp "$(sed -nE 's/^Dir::Etc::sourcelist "(.*)";/\\1/p' "$2")" "$HOME/sources.list"
    echo "E: no Release file" >&2; exit 100 ;;
  *download*)
    [ -z "${ABSENT:-}" ] || { echo "E: Unable to locate package python3.9" >&2; exit 100; }
    echo download >>"$MARKS"; touch python3.9.deb; sleep "${SECONDS_TO_DOWNLOAD:-0}" ;;
esac
"""
DPKG_DEB = """#!/bin/bash
mkdir -p "$3/usr/bin" "$3/usr/lib/python3.9/ensurepip" "$3/usr/share/python-wheels" "$3/lib/x-linux-gnu" "$3/usr/lib/x-linux-gnu"
cp /bin/true "$3/usr/bin/python3.9"
echo "glob('/usr/share/python-wheels/pip')" >"$3/usr/lib/python3.9/ensurepip/__init__.py"
touch "$3/usr/lib/python3.9/_sysconfigdata__x-linux-gnu.py"
touch "$3/lib/x-linux-gnu/libx.so.1" "$3/usr/lib/x-linux-gnu/liby.so.1"
"""


@dataclass
class Apt:
    """A machine whose apt, and what it gets, are made up."""

    home: Path
    programs: Path

    @property
    def cache(self) -> Path:
        return self.home / "a cache"

    def start(self, *versions: str, **env: str) -> "subprocess.Popen[str]":
        versions = versions or ("3.9",)
        base = {"PATH": f"{self.programs}:{os.defpath}", "HOME": str(self.home), "MARKS": str(self.home / "marks")}
        return subprocess.Popen(
            [str(ROOT / "build-support/debian-python"), str(self.cache), *versions],
            env={**base, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def downloads(self) -> int:
        marks = self.home / "marks"
        return len(marks.read_text().split()) if marks.exists() else 0

    def wait_for_download(self) -> None:
        deadline = time.monotonic() + 30
        while not self.downloads() and time.monotonic() < deadline:
            time.sleep(0.01)


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    executable(tmp_path / "bin/apt-get", APT_GET)
    executable(tmp_path / "bin/dpkg-deb", DPKG_DEB)
    executable(tmp_path / "bin/dpkg", "#!/bin/sh\necho amd64\n")
    return Apt(tmp_path, tmp_path / "bin")


def test_debian_python_is_made_once_whoever_else_makes_it(apt: Apt) -> None:
    started = [apt.start(SECONDS_TO_DOWNLOAD="0.5") for _ in range(4)]
    printed = {process.communicate() for process in started}
    assert {process.returncode for process in started} == {0}, printed
    [path] = {stdout.strip() for stdout, _ in printed}
    assert apt.downloads() == 1 and sum("making" in stderr for _, stderr in printed) == 1
    subprocess.run([path, "-c", "pass"], check=True)
    prefix = Path(path).parents[1]
    wheels = f"{prefix}/share/python-wheels/pip"
    assert (prefix / "lib/python3.9/ensurepip/__init__.py").read_text() == f"glob('{wheels}')\n"
    # A second one needs no apt.
    again = apt.start(PATH=os.defpath)
    assert again.communicate() == (f"{path}\n", "")
    assert apt.downloads() == 1


def test_debian_python_that_was_interrupted_is_made_again(apt: Apt) -> None:
    killed = apt.start(SECONDS_TO_DOWNLOAD="60")
    apt.wait_for_download()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not list(apt.cache.glob("python-3.9-*/bin"))
    again = apt.start()
    stdout, stderr = again.communicate()
    assert again.returncode == 0, stderr
    assert Path(stdout.strip()).exists() and apt.downloads() == 2
    assert not list(apt.cache.glob("*.new"))


def test_debian_python_comes_from_the_mirrors_of_apt(apt: Apt) -> None:
    process = apt.start()
    assert process.wait() == 0
    process.communicate()
    sources = re.sub(r" signed-by=\S+(?=\])", "", (apt.home / "sources.list").read_text())
    assert sources.splitlines() == [
        "deb [arch=amd64 target=Packages] http://one.example/debian bullseye main",
        "deb [arch=amd64 target=Packages] http://one.example/debian bullseye-updates main",
        "deb [arch=amd64 target=Packages] mirror+file:/etc/apt/m.list bullseye-security main",
    ]


def test_debian_python_is_of_a_version_that_a_release_has(apt: Apt) -> None:
    unknown = apt.start("3.12", "3.14")
    assert unknown.communicate() == ("", "") and unknown.returncode == 1
    known = apt.start("3.12", "3.13", ABSENT="1")
    _, stderr = known.communicate()
    assert "cannot make a Python 3.13 of Debian trixie's packages" in stderr


def test_debian_python_that_no_mirror_has(apt: Apt) -> None:
    process = apt.start(ABSENT="1", PANTS_DEBIAN_MIRROR="http://two.example/debian/")
    stdout, stderr = process.communicate()
    assert process.returncode == 1 and stdout == ""
    for part in (
        "E: no Release file",
        "E: Unable to locate",
        "  http://two.example/debian (bullseye)\n",
        "PANTS_DEBIAN_MIRROR",
    ):
        assert part in stderr
    (apt.programs / "dpkg-deb").unlink()
    (apt.programs / "apt-get").unlink()
    without = apt.start(PATH=f"{apt.programs}:{programs_but(apt.home, 'apt-get')}")
    _, stderr = without.communicate()
    assert without.returncode == 1 and "this machine has no apt-get" in stderr


def programs_but(scratch: Path, *absent: str) -> str:
    """A PATH with all programs of this machine but these."""
    directory = scratch / "programs"
    directory.mkdir()
    for place in os.defpath.split(":"):
        for path in Path(place).iterdir():
            if path.name not in absent and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return str(directory)
