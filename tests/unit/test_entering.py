"""enter: a person's command over the layers of an image, as root and as a user, with directories of the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import filelock as filelock  # by now: the user of these tests cannot read this Python's files
import pytest

from opam_sandbox.entering import cli, id_mapped
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import streams as streams  # as filelock
from opam_sandbox.sandbox import syscalls
from tests.support.child import start_child
from tests.unit.conftest import (
    add_programs,
    directory_for_all,
    make_base_layer,
    make_layer,
    make_tar,
    member,
    need_namespaces,
)

USER = 47010
ENV = ["HOME=/home/opam", "PATH=/home/opam/.opam/default/bin:/bin", "OPAM_SWITCH_PREFIX=/home/opam/.opam/default"]


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("entering-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    copy = top / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    add_programs(copy, ["mkdir", "mv", "chmod"])
    opam = {"uid": 1000, "gid": 1000}
    directory = b"5"
    names = [f"home/opam{name}" for name in ("", "/.opam", "/.opam/default", "/.opam/default/bin")]
    home = [
        member("home", directory),
        *(member(name, directory, **opam) for name in names),
        member("root", directory, mode=0o700),
        member("srv", directory),
        member("srv/full", directory),
        member("srv/full/file"),
    ]
    tool = member("home/opam/.opam/default/bin/tool", content=b'#!/bin/sh\necho "$0 $*"\n', mode=0o755, **opam)
    state = make_layer(top / "state", make_tar([member("state-was-here")]), "state", "")
    description = json.loads((top / "state/layer.json").read_text())
    (top / "state/layer.json").write_text(json.dumps({**description, "opam": {"env": ENV}}))
    return [
        make_base_layer(top / "base", copy, {}),
        make_layer(top / "opam", make_tar(home), "opam-root", ""),
        make_layer(top / "package", make_tar([*home[: len(names) + 1], tool])),
        state._replace(opam={"env": ENV}),
    ]


@pytest.fixture(params=["root", "user"])
def here(request: Any, top: Path) -> Iterator[Path]:
    """Where a process starts, which is its user's, with the user's `project`."""
    path = top / f"{request.param}-{os.urandom(4).hex()}"
    (path / "project").mkdir(parents=True)
    (path / "project/given").write_text("given\n")
    if request.param == "user":
        for one in (path, path / "project", path / "project/given"):
            os.chown(one, USER, USER)
    yield path
    shutil.rmtree(path)


def request_of(here: Path, layers: Sequence[Layer], command: Sequence[str], **fields: Any) -> Dict[str, Any]:
    store = here.parent / f"store-{here.name[:4]}"
    store.mkdir(mode=0o700, exist_ok=True)
    if here.name.startswith("user"):
        os.chown(store, USER, USER)
    return {
        "store": str(store),
        "layers": [str(layer.directory) for layer in layers],
        "command": list(command),
        "mounts": [],
        "cwd": "/home/opam",
        "env": [],
        "network": False,
        **fields,
    }


def start(
    here: Path,
    layers: Sequence[Layer],
    command: Sequence[str],
    given: bytes = b"",
    words: Sequence[str] = (),
    **fields: Any,
) -> Tuple[int, List[int]]:
    """The process that runs the command, as the user of `here`, and its standard streams."""
    (here / "request.json").write_text(json.dumps(request_of(here, layers, command, **fields)))
    files = []
    for name in ("in", "out", "err"):
        (here / name).write_bytes(given if name == "in" else b"")
        files.append(os.open(here / name, os.O_RDWR))
    argv = ["enter", str(here / "request.json"), *(["--", *words] if words else [])]
    return start_child(lambda: cli.main(argv), Path("/"), files, USER if here.name.startswith("user") else None), files


def finish(here: Path, child: int, files: Sequence[int]) -> Tuple[int, str, str]:
    """Exit status, standard output and errors of that process; nothing is left of it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for descriptor in files:
        os.close(descriptor)
    check_nothing_is_left(here)
    return code, (here / "out").read_text(), (here / "err").read_text()


def run(here: Path, layers: Sequence[Layer], *command: str, **fields: Any) -> Tuple[int, str, str]:
    """Exit status, standard output and errors of a command. fields: as `start` takes them."""
    return finish(here, *start(here, layers, command, **fields))


def check_nothing_is_left(here: Path) -> None:
    assert not (here / "scratch").exists()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            assert str(here) not in path.read_text(), path
        except OSError:
            pass


def shown(source: Path, target: str = "", writable: bool = True) -> List[Dict[str, Any]]:
    return [{"source": str(source), "target": target or str(source), "writable": writable}]


def owner(path: Path) -> Tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_a_command(here: Path, layers: List[Layer]) -> None:
    """User, directory, opam's variables, both outputs, the input and the exit status."""
    script = 'id -u; cat; echo "$HOME $OPAM_SWITCH_PREFIX $USER $MORE"; ls /state-was-here; echo bad >&2; cat p; exit 7'
    status, out, err = run(here, layers, "sh", "-c", script, given=b"given\n", env=["MORE=a=b"])
    assert out == "1000\ngiven\n/home/opam /home/opam/.opam/default opam a=b\n/state-was-here\n", err
    assert status == 7 and err.startswith("bad\n")


def test_words_come_behind_the_command(here: Path, layers: List[Layer]) -> None:
    program = "/home/opam/.opam/default/bin/tool"
    assert run(here, layers, "tool", words=["--", "-x", "a b"])[1] == f"{program} -- -x a b\n"
    assert run(here, layers, "sh", "-c", "exit 3", words=["more"])[0] == 3


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137)])
def test_exit_statuses(here: Path, layers: List[Layer], script: str, status: int) -> None:
    assert run(here, layers, "sh", "-c", script)[0] == status


def test_a_command_that_is_not_there(here: Path, layers: List[Layer]) -> None:
    assert run(here, layers, "nosuch") == (127, "", "nosuch: No such file or directory\n")


def test_what_is_written_is_gone(here: Path, layers: List[Layer]) -> None:
    script = "echo x > /home/opam/new; echo y > /tmp/new; rm /home/opam/.opam/default/bin/tool"
    assert run(here, layers, "sh", "-c", script)[0] == 0
    assert run(here, layers, "sh", "-c", "ls -a /home/opam /tmp; tool")[1].split() == (
        "/home/opam: . .. .opam /tmp: . .. /home/opam/.opam/default/bin/tool".split()
    )


def test_what_it_writes_into_a_directory_is_the_callers(here: Path, layers: List[Layer]) -> None:
    """Files, directories and links; files that were there stay whose they were, and can be changed."""
    project = here / "project"
    script = (
        "pwd; cat given; echo more >> given; echo x > new; mkdir -p d/e; echo y > d/e/f; touch g; mv g d/g; chmod 700 new;"
        " stat -c '%u:%g' . given new d/e/f; cat ../in"
    )
    status, out, err = run(here, layers, "sh", "-c", script, mounts=shown(project), cwd=str(project))
    assert out == f"{project}\ngiven\n" + "1000:1000\n" * 4
    assert status == 1 and err == "cat: ../in: No such file or directory\n", "nothing else of the machine is there"
    mine = (USER, USER) if here.name.startswith("user") else (0, 0)
    for name in ("given", "new", "d", "d/e", "d/e/f", "d/g", "."):
        assert owner(project / name) == mine, name
    assert (project / "given").read_text() == "given\nmore\n" and (project / "new").stat().st_mode & 0o777 == 0o700


def test_a_directory_for_its_owner_alone(here: Path, layers: List[Layer]) -> None:
    """As are those of a careful user, with what is in there."""
    project = here / "project"
    project.chmod(0o700)
    (project / "given").chmod(0o600)
    assert run(here, layers, "cat", f"{project}/given", mounts=shown(project))[1] == "given\n"


def test_roots_command_in_the_directory_of_another(top: Path, layers: List[Layer]) -> None:
    """What it makes belongs to the directory's owner. What is root's in there can be read."""
    here = top / f"root-{os.urandom(4).hex()}"
    project = here / "project"
    project.mkdir(parents=True)
    (project / "of-root").write_text("of root\n")
    for number, ids in enumerate(((1234, 4321), (1000, 1000), (1000, 0))):
        os.chown(project, *ids)
        script = f"cat of-root; echo x > new{number}; echo y >> of-root"
        status, out, err = run(here, layers, "sh", "-c", script, mounts=shown(project), cwd=str(project))
        assert (status, out) == (2, "of root\n") and "of-root: Permission denied" in err
        assert owner(project / f"new{number}") == ids and owner(project / "of-root") == (0, 0)
    shutil.rmtree(here)


def test_read_only(here: Path, layers: List[Layer]) -> None:
    project = here / "project"
    script = "cat given; echo x > new; rm -f given; chmod 777 given; touch given"
    status, out, err = run(here, layers, "sh", "-c", script, mounts=shown(project, writable=False), cwd=str(project))
    assert out == "given\n" and err.count("Read-only file system") == 4 and status == 1
    assert [path.name for path in project.iterdir()] == ["given"]


@pytest.mark.parametrize(
    "target",
    [
        "/root/project",
        "/srv/new/project",
        "/tmp/a/b",
        "/var/tmp/a",
        "/run/lock/a",
        "/dev/shm/a/b",
        "/home/opam/src",
        "/a",
    ],
)
def test_where_it_can_be_shown(here: Path, layers: List[Layer], target: str) -> None:
    """Also below directories that are root's alone, and below those for scratch files."""
    project = here / "project"
    fields: Dict[str, Any] = {"mounts": shown(project, target), "cwd": target}
    status, out, err = run(here, layers, "sh", "-c", "pwd; cat given; echo x > new", **fields)
    assert (status, out, err) == (0, f"{target}\ngiven\n", "")
    assert (project / "new").read_text() == "x\n"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/", "where a command has something of its own"),
        ("/tmp", "where a command has something of its own"),
        ("/proc/project", "where a command has something of its own"),
        ("/dev/project", "where a command has something of its own"),
        ("/home/opam", "the packages' own files there would be hidden"),
        ("/home", "the packages' own files there would be hidden"),
        ("/bin", "the packages' own files there would be hidden"),
        ("/srv/full", "the packages' own files there would be hidden"),
        ("/usr/bin/project", "/usr/bin is a symlink"),
        ("/srv/full/file/project", "/srv/full/file"),
    ],
)
def test_where_it_cannot_be_shown(here: Path, layers: List[Layer], target: str, problem: str) -> None:
    status, out, err = run(here, layers, "true", mounts=shown(here / "project", target), cwd="/")
    assert status == 1 and err.startswith("error: ") and problem in err and "Traceback" not in err
    assert (here / "project/given").read_text() == "given\n"


def test_directories_that_are_not_there(here: Path, layers: List[Layer]) -> None:
    project = here / "project"
    for fields, problem in (
        ({"mounts": shown(here / "nosuch")}, "nosuch cannot be shown to the command: No such file or directory"),
        ({"mounts": shown(project / "given")}, "given cannot be shown to the command: it is no directory"),
        ({"mounts": shown(project), "cwd": f"{project}/sub"}, f"there is no directory {project}/sub for the command"),
    ):
        status, _, err = run(here, layers, "true", **fields)
        assert status == 1 and err.startswith("error: ") and problem in err


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"env": ["NAME"]}, "env: 'NAME' is no variable"),
        ({"env": [3]}, "'env'[0] should be a string"),
        ({"cwd": "home"}, "cwd: 'home' is no absolute path"),
        ({"mounts": [{"source": "a", "target": "/a", "writable": True}]}, "mounts: 'a' is no absolute path"),
        (
            {"mounts": [{"source": "/a", "target": "/a/../b", "writable": True}]},
            "mounts: '/a/../b' is no absolute path",
        ),
        ({"more": 1}, "the field 'more' is unknown"),
    ],
)
def test_requests_that_make_no_sense(here: Path, layers: List[Layer], fields: Dict[str, Any], problem: str) -> None:
    status, _, err = run(here, layers, "true", **fields)
    assert status == 2 and err.startswith("error: ") and problem in err


def test_network(here: Path, layers: List[Layer]) -> None:
    def names(network: bool) -> List[str]:
        lines = run(here, layers, "cat", "/proc/net/dev", network=network)[1].splitlines()[2:]
        return [line.split(":")[0].strip() for line in lines]

    assert len(Path("/proc/net/dev").read_text().splitlines()) > 3, "this machine has no network"
    assert names(False) == ["lo"] and len(names(True)) > 1


def test_what_is_mounted_in_it(here: Path, layers: List[Layer]) -> None:
    """root's command sees the directory without it; a user cannot leave it out, and is told."""
    mounted = here / "project/in it"
    mounted.mkdir()
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("none", mounted, "tmpfs")
            (mounted / "file").write_text("x")
            run(here, layers, "ls", str(mounted), mounts=shown(here / "project"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    out, err = (here / "out").read_text(), (here / "err").read_text()
    if here.name.startswith("user"):
        assert err.startswith(f"error: {here}/project cannot be shown to the command: {mounted} is mounted in it")
    else:
        assert (out, err) == ("", "")


def test_a_directory_below_opams_home(here: Path, layers: List[Layer]) -> None:
    """What was made for it on the way is opam's, too."""
    target = "/home/opam/a/b"
    fields: Dict[str, Any] = {"mounts": shown(here / "project", target), "cwd": target}
    assert run(here, layers, "sh", "-c", "touch ../c ../../d && cat ../../a/b/given", **fields)[:2] == (0, "given\n")
    assert [path.name for path in (here / "project").iterdir()] == ["given"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(here: Path, layers: List[Layer], number: signal.Signals) -> None:
    """With all that it has started; its directory stays."""
    project = here / "project"
    command = ("sh", "-c", "echo x > begun; setsid sleep 4717 & sleep 4717")
    child, files = start(here, layers, command, mounts=shown(project), cwd=str(project))
    until = time.monotonic() + 60
    while not (project / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
    for descriptor in files:
        os.close(descriptor)
    until = time.monotonic() + 60
    while any(b"4717" in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < until
        time.sleep(0.05)
    # What it could not remove goes with the next one's; never what it was shown.
    assert run(here, layers, "id")[0] == 0
    assert sorted(path.name for path in project.iterdir()) == ["begun", "given"]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_ids_are_swapped() -> None:
    assert id_mapped._swapped(0, 1000, "/proc/self/uid_map")[:3] == [(0, 1000, 1), (1, 1, 999), (1000, 0, 1)]
    assert id_mapped._swapped(1000, 1000, "/proc/self/uid_map")[1] == (1000, 1000, 1)


def test_without_id_mapped_mounts(layers: List[Layer], top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written there would be somebody else's: it is not shown writable. It can be read as far as modes go."""

    def refuse(*arguments: object) -> None:
        raise OSError(22, "Invalid argument")

    here = top / f"root-{os.urandom(4).hex()}"
    project = here / "project"
    project.mkdir(parents=True)
    (project / "given").write_text("given\n")
    monkeypatch.setattr(id_mapped, "mount", refuse)
    status, _, err = run(here, layers, "true", mounts=shown(project))
    assert status == 1 and f"{project} cannot be shown so that it can be written to (Invalid argument)" in err
    assert run(here, layers, "cat", f"{project}/given", mounts=shown(project, writable=False))[1] == "given\n"
    monkeypatch.setattr(id_mapped, "namespace", refuse)
    assert run(here, layers, "true", mounts=shown(project))[0] == 1
    assert run(here, layers, "cat", f"{project}/given", mounts=shown(project, writable=False))[1] == "given\n"
    shutil.rmtree(here)


@pytest.mark.parametrize("words", [[], ["enter"], ["build", "request.json"], ["enter", "request.json", "word"]])
def test_command_lines_that_make_no_sense(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "usage: enter" in capsys.readouterr().err


@pytest.mark.parametrize(("request_file", "status"), [("absent/request.json", 1), ("request.json", 2)])
def test_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], request_file: str, status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["enter", request_file]) == status
    err = capfd.readouterr().err
    named = tmp_path / "absent" if status == 1 else "request.json"
    assert err.startswith(f"error: {named}: ") and err.count("\n") == 1


def test_a_layer_that_is_no_state(here: Path, layers: List[Layer]) -> None:
    for some in (layers[:-1], []):
        status, _, err = run(here, some, "true")
        assert status == 2 and "layers: the last should be a state" in err
    assert run(here, layers)[2] == "error: command: it has no words\n"
    assert issubclass(RequestError, ToolError)
