"""check-image: each kind of check passes where the image is as it should be, and fails where it is not."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from opam_sandbox.checking import check_image
from opam_sandbox.checking.requests import CheckImageRequest
from opam_sandbox.checking.tree import Tree
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.request import check
from opam_sandbox.running.image_config import read_image
from tests.support.small_images import image_of_tars
from tests.unit.conftest import REPOSITORY, make_tar, member

USER = 47010
PASSWD = (
    b"root:x:0:0::/root:/bin/sh\nopam:x:1000:1000::/home/opam:/bin/sh\nwww:x:33:33::/srv:/bin/false\nopam:x:7:7::/:/x\n"
)
GROUP = b"root:x:0:\nopam:x:1000:\nwww:x:33:\nstaff:x:50:opam,www\n"
CONFIG: Dict[str, Any] = {
    "Entrypoint": ["sh", "-c"],
    "Cmd": ["echo as $0 in $(pwd)"],
    "Env": ["PATH=/old", "PATH=/bin:/usr/bin", "HOME=/home/opam", "EMPTY="],
    "User": "opam",
    "WorkingDir": "/home/opam",
    "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
    "Volumes": {"/srv/data": {}},
    "StopSignal": "SIGINT",
    "Labels": {"version": "1.2.3", "maintainer": "us"},
}


def base_tar(root: Path) -> bytes:
    """The tiny root as a layer, with accounts and a few files of each kind."""
    members = [
        member("etc/passwd", content=PASSWD),
        member("etc/group", content=GROUP),
        member("srv", tarfile.DIRTYPE, mode=0o2755, uid=33, gid=50),
        member("srv/page", content=b"first\nsecond=\xff\n", mode=0o4640, uid=33, gid=33),
        member("srv/same", tarfile.LNKTYPE, linkname="srv/page"),
        member("srv/link", tarfile.SYMTYPE, linkname="../etc/passwd"),
        member("srv/loop", tarfile.SYMTYPE, linkname="loop"),
        member("srv/gone", content=b"x" * 1000),
        member("srv/old/a", content=b"a"),
        member("srv/old/b", content=b"b"),
        member("srv/root-only", content=b"#!/bin/sh\n", mode=0o700),
        member("srv/no-program", content=b"what?\n", mode=0o755),
        member("srv/pipe", tarfile.FIFOTYPE),
        member("bin/bad", content=b"#!/no/such/interpreter\n", mode=0o755),
        member("home/opam", tarfile.DIRTYPE, uid=1000, gid=1000),
    ]
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found.append(member(name, tarfile.SYMTYPE, linkname=os.readlink(path)))
        elif path.is_dir():
            found.append(member(name, tarfile.DIRTYPE))
        else:
            found.append(member(name, content=path.read_bytes(), mode=0o755))
    return make_tar([*found, *members])


@pytest.fixture(scope="module")
def image(tiny_root: Path) -> Iterator[Tuple[Path, str]]:
    """A layout that every user may read, and its manifest's digest."""
    top = Path(tempfile.mkdtemp(prefix="checking-", dir="/var/tmp"))
    top.chmod(0o755)
    above = make_tar(
        [
            member("srv/.wh.gone"),
            member("srv/old/.wh..wh..opq"),
            member("srv/old/c", content=b"c"),
            member("opt/made/here", content=b"", mode=0o600, uid=1000, gid=1000),
        ]
    )
    manifest = image_of_tars(top / "image", [base_tar(tiny_root), above], **CONFIG)
    yield top / "image", manifest
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def tree(image: Tuple[Path, str]) -> Tree:
    return Tree(read_image(image[0]).layers)


def request(image: Tuple[Path, str], store: Path, **checks: Any) -> Any:
    values = {"image": str(image[0]), "manifest": image[1], "store": str(store)}
    nothing: Dict[str, Any] = {"config": {}, "limits": {}, "files": [], "users": [], "commands": []}
    made = {**values, **nothing, **checks}
    check(made, CheckImageRequest, "request")
    return made


def problems(
    image: Tuple[Path, str], directory: Path, monkeypatch: pytest.MonkeyPatch, **checks: Any
) -> List[List[str]]:
    """Those of each check, as results.json has them."""
    monkeypatch.chdir(directory)
    status = check_image.run(request(image, directory / "store", **checks), 1)
    found = json.loads((directory / "results.json").read_text())["checks"]
    assert status == (1 if any(one["problems"] for one in found) else 0)
    return [one["problems"] for one in found]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"entrypoint": ["sh", "-c"]}, ""),
        ({"entrypoint": []}, "it is ['sh', '-c'], but should be []"),
        ({"cmd": ["echo as $0 in $(pwd)"]}, ""),
        ({"cmd": ["echo"]}, "but should be ['echo']"),
        ({"user": "opam"}, ""),
        ({"user": "root"}, "it is 'opam', but should be 'root'"),
        ({"workdir": "/home/opam"}, ""),
        ({"workdir": "/"}, "it is '/home/opam', but should be '/'"),
        ({"stop_signal": "SIGINT"}, ""),
        ({"stop_signal": ""}, "it is 'SIGINT', but should be ''"),
        ({"exposed_ports": ["8080/tcp", "53/udp"]}, ""),
        ({"exposed_ports": ["8080/tcp"]}, "it is ['53/udp', '8080/tcp'], but should be ['8080/tcp']"),
        ({"volumes": ["/srv/data"]}, ""),
        ({"volumes": []}, "it is ['/srv/data'], but should be []"),
        ({"env": [{"name": "PATH", "equals": "/bin:/usr/bin"}]}, ""),
        ({"env": [{"name": "PATH", "equals": "/old"}]}, "it is '/bin:/usr/bin', but should be '/old'"),
        ({"env": [{"name": "HOME", "matches": "^/home/[a-z]+$"}]}, ""),
        ({"env": [{"name": "HOME", "matches": "^/root"}]}, "its value '/home/opam' has nothing like '^/root'"),
        ({"env": [{"name": "EMPTY"}]}, ""),
        ({"env": [{"name": "EMPTY", "absent": True}]}, "it is '', but should not be there"),
        ({"env": [{"name": "SECRET", "absent": True}]}, ""),
        ({"env": [{"name": "SECRET"}]}, "it is not there"),
        ({"labels": [{"name": "version", "matches": r"^1\."}]}, ""),
        ({"labels": [{"name": "version", "equals": "2"}]}, "it is '1.2.3', but should be '2'"),
    ],
)
def test_config(
    image: Tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Dict[str, Any], problem: str
) -> None:
    [found] = problems(image, tmp_path, monkeypatch, config=asked)
    assert problem in "\n".join(found) and bool(problem) == bool(found)


def test_limits(image: Tuple[Path, str], tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most that the image has passes, and one less fails."""
    size = sum(blob.blob.stat().st_size for blob in read_image(image[0]).layers)
    most = {"max_layers": 2, "max_size": size, "max_unpacked_size": tree.unpacked}
    assert problems(image, tmp_path, monkeypatch, limits=most) == [[], [], []]
    found = problems(image, tmp_path, monkeypatch, limits={name: value - 1 for name, value in most.items()})
    assert [one[0].partition(", but")[0] for one in found] == [
        "the image has 2 layers",
        f"the image has {size:,} bytes of compressed layers",
        f"the image has {tree.unpacked:,} bytes of files in its layers",
    ]


PAGE = hashlib.sha256(b"first\nsecond=\xff\n").hexdigest()


@pytest.mark.parametrize(
    ("path", "asked", "problem"),
    [
        ("/srv/page", {}, ""),
        ("/srv/nothing", {}, "there is nothing"),
        ("/srv/page/below", {}, "there is nothing"),
        ("/srv/gone", {"absent": True}, ""),
        ("/srv/old/a", {"absent": True}, ""),
        ("/srv/old/c", {"absent": True}, "there is a file, but should be nothing"),
        ("/srv/page", {"type": "file"}, ""),
        ("/srv/same", {"type": "file", "mode": "4640", "owner": "www"}, ""),
        ("/srv/page", {"type": "directory"}, "its type is 'file', but should be 'directory'"),
        ("/srv", {"type": "directory", "mode": "2755", "group": "staff"}, ""),
        ("/srv/pipe", {"type": "pipe"}, ""),
        ("/srv/link", {"type": "link", "target": "../etc/passwd"}, ""),
        ("/srv/link", {"target": "/etc/passwd"}, "its target is '../etc/passwd', but should be '/etc/passwd'"),
        ("/srv/page", {"target": "/etc/passwd"}, "it is no link"),
        ("/srv/link", {"follow": True, "type": "file", "contains": ["^www:"]}, ""),
        ("/srv/link", {"contains": ["^www:"]}, "it has no content to compare, as it is a link"),
        ("/usr/bin/sh", {"type": "file"}, ""),  # usr/bin is a link
        ("/srv/loop", {"follow": True}, "there is nothing"),
        ("/../srv/./page", {}, ""),
        ("/srv/page", {"mode": "4640"}, ""),
        ("/srv/page", {"mode": "0640"}, "its mode is '4640', but should be '0640'"),
        ("/srv/page", {"owner": "www", "group": "33"}, ""),
        ("/srv/page", {"owner": "opam"}, "its owner is 33 (www), but should be opam"),
        ("/srv/page", {"group": "50"}, "its group is 33 (www), but should be 50"),
        ("/srv/page", {"owner": "nobody"}, "should be 'nobody', whom the image's /etc/passwd does not have"),
        ("/srv/page", {"size": 15}, ""),
        ("/srv/page", {"size": 14}, "its size in bytes is 15, but should be 14"),
        ("/srv/page", {"max_size": 15}, ""),
        ("/srv/page", {"max_size": 14}, "it has 15 bytes, but should have at most 14"),
        ("/srv/page", {"contains": ["^second", "t$"], "lacks": ["third"]}, ""),
        ("/srv/page", {"contains": ["^third"]}, "it has nothing like '^third'"),
        ("/srv/page", {"lacks": ["f.*t$"]}, "it has 'first', but should have nothing like 'f.*t$'"),
        ("/srv/same", {"sha256": PAGE}, ""),
        ("/srv/page", {"sha256": "a" * 64}, f"its sha256 is '{PAGE}', but should be"),
        ("/srv", {"sha256": PAGE}, "it has no content to compare, as it is a directory"),
        ("/opt/made/here", {"mode": "0600", "owner": "opam", "size": 0}, ""),
        ("/opt/made", {"type": "directory", "mode": "0755", "owner": "0"}, ""),
    ],
)
def test_files(
    image: Tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    asked: Dict[str, Any],
    problem: str,
) -> None:
    [found] = problems(image, tmp_path, monkeypatch, files=[{"path": path, **asked}])
    assert problem in "\n".join(found) and bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"name": "opam", "uid": 1000, "gid": 1000, "home": "/home/opam", "shell": "/bin/sh"}, ""),
        ({"name": "opam", "uid": 7}, "the uid is '1000', but should be '7'"),
        ({"name": "opam", "gid": 7}, "the gid is '1000', but should be '7'"),
        ({"name": "www", "home": "/"}, "the home directory is '/srv', but should be '/'"),
        ({"name": "www", "shell": "/bin/sh"}, "the shell is '/bin/false', but should be '/bin/sh'"),
        ({"name": "opam", "groups": ["staff", "opam"]}, ""),
        ({"name": "opam", "groups": ["www"]}, "it is in no group 'www', but in ['opam', 'staff']"),
        ({"name": "nobody"}, "there is no such user in /etc/passwd"),
        ({"name": "nobody", "absent": True}, ""),
        ({"name": "www", "absent": True}, "there is such a user"),
    ],
)
def test_users(
    image: Tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Dict[str, Any], problem: str
) -> None:
    [found] = problems(image, tmp_path, monkeypatch, users=[asked])
    assert problem in "\n".join(found) and bool(problem) == bool(found)


# -- commands ----------------------------------------------------------------


def command(*argv: str, exit_code: int = 0, timeout: int = 120, **fields: Any) -> Dict[str, Any]:
    return {
        "name": " ".join(argv) or "itself",
        "argv": list(argv),
        "exit_code": exit_code,
        "timeout": timeout,
        **fields,
    }


def itself(**fields: Any) -> Dict[str, Any]:
    return {key: value for key, value in command(**fields).items() if key != "argv"}


COMMANDS: List[Tuple[Dict[str, Any], str]] = [
    (command("sh", "-c", "echo out; echo err >&2; exit 3", exit_code=3, stdout=["^out$"], stderr=["^err$"]), ""),
    (command("sh", "-c", "exit 3"), "its exit status is 3, but should be 0"),
    (command("sh", "-c", "exit 0", exit_code=1), "its exit status is 0, but should be 1"),
    (command("sh", "-c", "echo out", stdout=["other"]), "standard output has nothing like 'other'"),
    (command("sh", "-c", "echo out", stdout_lacks=["o.t"]), "standard output has 'out', but should have nothing like"),
    (command("sh", "-c", "echo no >&2", stderr=["yes"]), "standard error has nothing like 'yes'"),
    (command("sh", "-c", "echo no >&2", stderr_lacks=["no"]), "standard error has 'no', but should"),
    (command("sh", "-c", "kill -9 $$", exit_code=137), ""),
    (itself(stdout=["^as sh in /home/opam$"]), ""),
    (itself(arguments=["echo $HOME $0", "zero"], stdout=["^/home/opam zero$"]), ""),
    (command("sh", "-c", "echo $A $EMPTY.", env=["A=b c"], stdout=[r"^b c \.$"]), ""),
    (command("sh", "-c", "id -u; id -g", user="www", stdout=["^33\n33$"]), ""),
    (command("sh", "-c", "id -u; : > /bin/x && echo written", user="root", stdout=["^0\nwritten$"]), ""),
    (command("sh", "-c", "test ! -e /bin/x"), ""),  # what the one before wrote
    (command("sh", "-c", ": > /bin/x", exit_code=2), ""),
    (command("nothing", exit_code=127, stderr=["nothing is not found in the image"]), ""),
    (command("/etc/passwd", exit_code=126), ""),
    *(
        (command("bad", exit_code=code), "bad is in the image, but does not start: No such file")
        for code in (0, 1, 126, 127)
    ),
    (command("sh", "-c", "bad", exit_code=127), ""),
    (command("/srv/root-only", exit_code=1), "does not start: Permission denied"),
    (command("/srv/no-program", exit_code=1), "does not start: Exec format error"),
    (command("/srv/root-only", user="root"), ""),
    (command("sh", user="nobody"), "the image's user 'nobody' is not in its /etc/passwd"),
    (command("sh", "-c", "sleep 60 & sleep 60", timeout=1), "it took longer than 1 seconds, and was ended"),
    (command("sh", "-c", "sleep 60 & echo done", stdout=["^done$"]), ""),
    (command("sh", "-c", "cat /proc/net/route", stdout=[r"\A(Iface[^\n]*\n)?\Z"]), ""),  # no network
    (
        command("sh", "-c", "while :; do echo $PATH$PATH$PATH; done"),
        "it printed more than 4,194,304 bytes, and was ended",
    ),
    (command("sh", "-c", "cat", stdout=[r"\A\Z"]), ""),  # nothing to read
]


# A user with sub-ids, in a mount namespace of the process's own.
SUB_IDS = f"""
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
for name, line in (
    ("passwd", "checker:x:{USER}:{USER}::/:/bin/sh"),
    ("subuid", "checker:2100000000:65536"),
    ("subgid", "checker:2100000000:65536"),
):
    open(name, "w").write(open("/etc/passwd").read() + line if name == "passwd" else line)
    open(name, "a").write(chr(10))
    syscalls.mount(os.path.abspath(name), f"/etc/{{name}}", flags=syscalls.MS_BIND)
"""


def run_as(
    user: int, image: Tuple[Path, str], checks: List[Dict[str, Any]], path: str, before: str = ""
) -> List[List[str]]:
    """In a process of its own: problems of commands, run by root or a user; nothing of the containers is left."""
    top = Path(tempfile.mkdtemp(prefix="checked-", dir="/var/tmp"))
    try:
        (top / "request.json").write_text(json.dumps(request(image, top / "store", commands=checks)))
        os.chmod(top, 0o755)
        if user:
            os.chown(top, user, user)
        sha256 = hashlib.sha256((top / "request.json").read_bytes()).hexdigest()
        code = (
            "import os, sys; from opam_sandbox.checking.cli import main\n"
            f"from opam_sandbox.sandbox import syscalls\nos.chdir({str(top)!r})\n{before}"
            f"if {user}: os.setgroups([]); os.setresgid({user}, {user}, {user}); os.setresuid({user}, {user}, {user})\n"
            "syscalls.hide_from_others(False)\n"
            f"sys.exit(main(['check-image', 'request.json', '--sha256', {sha256!r}]))"
        )
        modules = os.pathsep.join([str(REPOSITORY / "src"), *sys.path])
        # All is imported before the user is another one, who may not read this Python's files.
        prelude = "import opam_sandbox.checking.check_image, opam_sandbox.layer.unpack, gzip, filelock\n"
        done = subprocess.run(
            [sys.executable, "-B", "-c", prelude + code],
            env={"PATH": path, "PYTHONPATH": modules},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=500,
        )
        assert (top / "results.json").exists(), done.stdout
        assert list((top / "store/run").glob("*/*")) == []
        found: List[List[str]] = [one["problems"] for one in json.loads((top / "results.json").read_text())["checks"]]
        assert done.returncode == (1 if any(found) else 0), done.stdout
        return found
    finally:
        shutil.rmtree(top, ignore_errors=True)


def only(kind: str, directory: Path) -> str:
    """A PATH with all programs, but of the runtimes this one alone."""
    program = shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"this machine has no {kind}")
    directory.mkdir()
    directory.chmod(0o755)
    for name in ("newuidmap", "newgidmap"):
        there = shutil.which(name)
        if there:
            (directory / name).symlink_to(there)
    (directory / kind).symlink_to(program)
    return str(directory)


@pytest.mark.parametrize("kind", ["crun", "runc"])
def test_commands(root_user: None, image: Tuple[Path, str], kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="programs-", dir="/var/tmp") as top:
        os.chmod(top, 0o755)
        path = only(kind, Path(top, "bin"))
        found = run_as(0, image, [asked for asked, _ in COMMANDS], path)
    for (asked, problem), told in zip(COMMANDS, found):
        assert problem in "\n".join(told) and bool(problem) == bool(told), (asked, told)


def test_commands_of_a_user(root_user: None, image: Tuple[Path, str]) -> None:
    """Without sub-ids there is one id alone: nothing is run as somebody else than was asked for."""
    with tempfile.TemporaryDirectory(prefix="programs-", dir="/var/tmp") as top:
        os.chmod(top, 0o755)
        path = only("crun", Path(top, "bin"))
        asked = [command("sh", "-c", "echo ran", user=user, stdout=["^ran$"]) for user in ("root", "opam")]
        found = run_as(USER, image, asked, path)
    assert found[0] == []
    assert "this machine has no id 1000:1000 to run a command of the image as" in "\n".join(found[1])


def test_commands_of_a_user_with_sub_ids(root_user: None, image: Tuple[Path, str]) -> None:
    """Each runs as who it is asked to run as."""
    if not (shutil.which("newuidmap") and Path("/etc/subuid").exists() and Path("/etc/subgid").exists()):
        pytest.skip("this machine has no newuidmap, or no /etc/subuid")
    asked = [
        command("sh", "-c", "id -u; id -g", stdout=["^1000\n1000$"]),
        command("sh", "-c", "id -u; id -G", user="www", stdout=["^33\n33 50$"]),
        command("sh", "-c", "id -u; : > /bin/x", user="root", stdout=["^0$"]),
        command("bad", exit_code=1),
    ]
    with tempfile.TemporaryDirectory(prefix="programs-", dir="/var/tmp") as top:
        os.chmod(top, 0o755)
        found = run_as(USER, image, asked, only("crun", Path(top, "bin")), SUB_IDS)
    assert found[:3] == [[], [], []]
    assert "bad is in the image, but does not start: No such file" in found[3][0]


def test_no_runtime(image: Tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    [[problem]] = problems(image, tmp_path, monkeypatch, commands=[command("sh")])
    assert "this machine has neither crun nor runc" in problem


def test_a_killed_check_leaves_nothing(root_user: None, image: Tuple[Path, str], tmp_path: Path) -> None:
    """As by Pants' time limit: no process of the container, no directory of it."""
    mark = f"4{os.getpid()}"
    values = request(image, tmp_path / "store", commands=[command("sh", "-c", f"sleep {mark}")])
    (tmp_path / "request.json").write_text(json.dumps(values))
    process = subprocess.Popen(
        [sys.executable, "-m", "opam_sandbox.checking", "check-image", "request.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), *sys.path])},
    )

    def running() -> bool:
        return mark in subprocess.run(["ps", "-e", "-o", "args"], stdout=subprocess.PIPE, encoding="utf-8").stdout

    def wait_for(what: bool) -> None:
        deadline = time.monotonic() + 120
        while running() is not what:
            assert time.monotonic() < deadline and process.poll() in (None, -9)
            time.sleep(0.05)

    wait_for(True)
    process.kill()
    process.wait()
    wait_for(False)
    deadline = time.monotonic() + 60
    while list((tmp_path / "store/run").glob("*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((tmp_path / "store/run").glob("*/*")) == []


# -- what is refused ---------------------------------------------------------


def test_the_report(
    image: Tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems(image, tmp_path, monkeypatch, files=[{"path": "/srv/page"}, {"path": "/srv/\x1b[31mno"}])
    assert capsys.readouterr().out == (
        "ok  file /srv/page\nFAIL  file /srv/?[31mno\n      there is nothing\n1 of 2 checks failed\n"
    )
    problems(image, tmp_path, monkeypatch, config={"user": "opam"})
    assert capsys.readouterr().out.endswith("all 1 checks passed\n")


def test_what_makes_no_sense(image: Tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is nothing to check"):
        check_image.run(request(image, tmp_path), 1)
    with pytest.raises(RequestError, match="is no regular expression"):
        check_image.run(request(image, tmp_path, files=[{"path": "/srv/page", "contains": ["("]}]), 1)
    with pytest.raises(ToolError, match=f"has the image {image[1]}, but should have sha256:a"):
        check_image.run({**request(image, tmp_path, config={"user": "x"}), "manifest": "sha256:" + "a" * 64}, 1)


def test_a_damaged_layer(image: Tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "image"
    shutil.copytree(image[0], copy)
    layer = read_image(copy).layers[1]
    content = bytearray(layer.blob.read_bytes())
    content[len(content) // 2] ^= 1
    layer.blob.write_bytes(content)
    for asked in ({"files": [{"path": "/srv"}]}, {"limits": {"max_unpacked_size": 1}}):
        with pytest.raises(ToolError, match="damaged|cannot be read"):
            check_image.run(request((copy, image[1]), tmp_path, **asked), 1)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_other_compressions(root_user: None, tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read, and what is not in the store yet is unpacked."""
    import tests.support.small_images as small

    if compression == "zstd" and shutil.which("zstd") is None:
        pytest.skip("this machine has no zstd")

    def compress(tar: bytes, *_: int, **__: int) -> bytes:
        return (
            subprocess.run(["zstd", "-q"], input=tar, stdout=subprocess.PIPE, check=True).stdout
            if compression == "zstd"
            else tar
        )

    suffix = "+zstd" if compression == "zstd" else ""
    monkeypatch.setattr(small.gzip, "compress", compress)
    monkeypatch.setattr(small, "LAYER_TYPE", f"application/vnd.oci.image.layer.v1.tar{suffix}")
    made = (tmp_path / "image", image_of_tars(tmp_path / "image", [make_tar([member("a", content=b"text")])]))
    monkeypatch.undo()
    found = problems(
        made,
        tmp_path,
        monkeypatch,
        files=[{"path": "/a", "contains": ["text"]}],
        commands=[command("/a", exit_code=126)],
    )
    assert found == [[], []]
    assert gzip  # the patched module is whole again
