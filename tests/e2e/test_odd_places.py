"""Surroundings that a run may find itself in have no say in an image, and neither have other runs and kills."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

import pytest

from tests.e2e.conftest import USER_ID, as_user, show_python
from tests.faults import kills, processes, together
from tests.faults.place import IMAGE, Place, copy_store
from tests.faults.small_project import SmallProject
from tests.support.sandbox_tool import copy_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and processes of others: needs root")


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="opam-oci-odd-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Ground:
    """A Pants store with the base of the images and one image, and that image's digest."""

    store: Path
    image: str


class Odd:
    """A place in which one image is built again and again, all of it but the base."""

    def __init__(self, top: Path, ground: Ground) -> None:
        self._place = Place(top / "place")
        copy_store(ground.store, self._place.lmdb_store)
        self._saved = ground.store / "cache"
        self.right = self.build()
        assert self.right != ground.image  # it was built, and not taken from somewhere

    def build(self, prefix: Sequence[str] = (), project: Optional[SmallProject] = None) -> str:
        """The image's digest. `prefix`: the command that starts Pants; `project`: another clone."""
        project = project or self._place.project
        shutil.rmtree(self._place.lmdb_store / "cache")
        shutil.copytree(self._saved, self._place.lmdb_store / "cache")
        shutil.rmtree(project.root / "dist", ignore_errors=True)
        project.change("odd")
        done = replace(self._place.pants(False), root=project.root, prefix=prefix).run("package", IMAGE)
        assert "Completed: Build opam package small0.1" in done.stderr
        assert processes.left_in_store(self._place.layers) == []
        self._place.empty_sandboxes()
        return project.digest()

    def end(self) -> None:
        self._place.end()


@pytest.fixture(scope="module")
def ground(top: Path) -> Ground:
    """For copies. The user's own store may be large, and others may be writing to it."""
    place = Place(top / "ground")
    place.pants(False).run("package", IMAGE)
    place.empty_sandboxes()
    shutil.rmtree(place.layers)
    return Ground(place.lmdb_store, place.image())


@pytest.fixture(scope="module")
def store(ground: Ground) -> Path:
    return ground.store


@pytest.fixture(scope="module")
def odd(ground: Ground, top: Path) -> Iterator[Odd]:
    place = Odd(top, ground)
    yield place
    place.end()


def test_what_a_caller_has_set(odd: Odd, top: Path) -> None:
    """All at once: signals, umask, priority, cores, network, standard input, locale, time zone, directories for all uses."""
    directories = {
        "TMPDIR": top / "tmp, with: odd\\names" / ("long" * 30),
        "PANTS_LOCAL_EXECUTION_ROOT_DIR": top / "exec:a,b=c\\054'\"%(d)s",
        "PANTS_NAMED_CACHES_DIR": top / "caches,lowerdir=x:y 'Käse' $HOME",
    }
    for path in directories.values():
        path.mkdir(parents=True)
    # Not the lowest priority: beside others' work it would get nothing done.
    prefix = ["sh", "-c", 'umask 0077; exec "$@" <&-', "sh", "nice", "-n", "3", "taskset", "--cpu-list", "0"]
    prefix += [
        "unshare",
        "--net",
        "env",
        "--ignore-signal=HUP,INT,QUIT,CHLD,PIPE,TERM",
        "LC_ALL=xx_YY.none",
        "TZ=No/Where",
    ]
    assert odd.build([*prefix, *(f"{name}={path}" for name, path in directories.items())]) == odd.right


def test_where_temporary_files_may_not_go_of_a_clone_at_an_odd_path(odd: Odd, top: Path) -> None:
    """A /tmp whose programs do not run, a TMPDIR that is not there, and no home; a clone whose files are of the future."""
    mounts = 'mount -t tmpfs -o noexec,nosuid,nodev none /tmp; umask 0; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mounts, "sh", "env", "--unset=HOME", "TMPDIR=/nonexistent/tmp"]
    project = SmallProject.make(top / "a,b:c=d" / 'say "Käse"; 100% $HOME `id`' / ("p" * 100) / ("q" * 100))
    future = time.time() + 365 * 86400
    for directory, _, names in os.walk(project.root):
        for name in ("", *names):
            os.utime(os.path.join(directory, name), (future, future), follow_symlinks=False)
    assert odd.build(prefix, project) == odd.right


def read_only(*paths: str) -> List[str]:
    """The prefix of a command to which these directories are read-only."""
    script = "".join(f'mount --bind "{path}" "{path}" && mount -o remount,ro,bind "{path}" && ' for path in paths)
    return ["unshare", "--mount", "sh", "-c", f'{script}exec "$@"', "sh"]


def test_read_only_directories_and_few_descriptors(odd: Odd, top: Path) -> None:
    """A TMPDIR and a home that nothing can be written to, and as few open files as `./pants` lets be."""
    temporary = top / "read-only"
    temporary.mkdir()
    home = os.path.expanduser("~")
    prefix = [*read_only(str(temporary), home), "prlimit", "--nofile=64:512", "env", f"TMPDIR={temporary}"]
    assert odd.build(prefix) == odd.right


def test_too_few_descriptors(odd: Odd) -> None:
    """An error of two lines, and nothing is begun."""
    project = odd._place.project
    shutil.rmtree(project.root / "dist", ignore_errors=True)
    pants = replace(odd._place.pants(False), prefix=["prlimit", "--nofile=64:64"])
    done = pants.run("package", IMAGE, check=False)
    assert done.returncode == 1 and done.stderr.startswith("pants: Pants needs 512 open files"), done.stderr
    assert len(done.stderr.splitlines()) == 2 and not (project.root / "dist").exists()


def test_a_user_without_subordinate_ids(odd: Odd, store: Path, top: Path) -> None:
    """Is told what is missing before work starts; who turns that check off gets the right image over a base from a cache."""
    home = top / "without/home"
    home.mkdir(parents=True)
    place = Place(top / "without/place")
    copy_store(store, place.lmdb_store)
    place.project.change("odd")
    python, show = show_python(top / "without/python")
    top.chmod(0o755)
    subprocess.run(["chown", "-R", f"{USER_ID}:{USER_ID}", str(home), str(place.top)], check=True)
    prefix = as_user(home, show, sub_ids=False)
    pants = replace(place.pants(False), home=home, python=python, prefix=prefix)
    refused = pants.run("package", IMAGE, check=False)
    assert refused.returncode == 1 and "/etc/subuid" in refused.stderr and "usermod --add-subuids" in refused.stderr
    assert "Traceback" not in refused.stderr and not (place.project.root / "dist").exists()
    unchecked = replace(pants, options=[*pants.options, "--no-opam-check-host"])
    done = unchecked.run("package", IMAGE)
    assert "Completed: Build opam package small0.1" in done.stderr
    assert place.image() == odd.right
    place.end()


KILLED = """
import os, signal, sys
from pathlib import Path
from opam_sandbox.sandbox.scratch import scratch
from opam_sandbox.sandbox.user_namespace import foreign_ids, unshare_user
with scratch(Path(sys.argv[1]), Path(sys.argv[2]), mode=0o777) as directory:
    unshare_user(*foreign_ids(os.geteuid()))
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    for name, owner in (("root", 0), ("other", 65535)):
        (directory / name).mkdir(mode=0o700)
        (directory / name / "file").write_text("")
        os.chown(directory / name, owner, owner)
    os.kill(os.getpid(), signal.SIGKILL)
"""
NEXT = "import sys; from pathlib import Path; from opam_sandbox.sandbox.scratch import sweep; sweep(Path(sys.argv[1]))"


def test_what_a_killed_base_of_a_user_leaves(top: Path) -> None:
    """Files of subordinate ids, which the user can remove in a user namespace only."""
    home = top / "home"
    home.mkdir()
    copy_tool(top / "tool")
    for path in (top, *(top / "tool").rglob("*")):
        os.chmod(path, 0o755)
    os.chown(home, USER_ID, USER_ID)
    run = [*as_user(home, "true"), "env", f"PYTHONPATH={top}/tool", "python3", "-sB", "-c"]
    killed = subprocess.run([*run, KILLED, str(home / "records"), str(home / "scratch")], stderr=-1, text=True)
    assert killed.returncode in (-9, 137), killed.stderr
    assert sorted(os.listdir(home / "scratch")) == ["other", "root"]
    assert (home / "scratch/other").stat().st_uid not in (0, USER_ID)
    swept = subprocess.run([*run, NEXT, str(home / "records")], stderr=-1, text=True)
    assert swept.returncode == 0, swept.stderr
    assert os.listdir(home) == ["records"] and os.listdir(home / "records") == []


def test_several_at_once(store: Path, top: Path) -> None:
    """On the same caches, from an empty store; one of three is killed."""
    assert together.run(top / "together", store, 1, seed=1, daemons=[True]) == []


def test_kills(store: Path, top: Path) -> None:
    """The short form of `python3 -m tests.faults.kills`."""
    outcomes = kills.run(top / "kills", store, 12, seed=1)
    assert [outcome for outcome in outcomes if outcome.problems] == []
    assert sum(outcome.hit > 0 for outcome in outcomes) > 6
