"""Owners of files that installs of .debs make: as root and as a user with subordinate ids, in layers and in images of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import filelock as filelock  # by now: the user of these tests cannot read this Python's files
import pytest

from opam_sandbox.building.real_owners import RealOwners
from opam_sandbox.errors import BuildFailed
from opam_sandbox.imaging import image_owners, runtime
from opam_sandbox.layer import merge_accounts, owners
from opam_sandbox.layer.description import Layer, read_layer
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import syscalls
from opam_sandbox.sandbox.namespaces import has_many_ids, is_rootless, run_isolated
from opam_sandbox.sandbox.view import View
from tests.unit import conftest
from tests.unit.conftest import add_programs, directory_for_all, member, need_namespaces

USER = 47010
ENV = {"PATH": "/bin"}
DIRECTORY, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE
ROOT, ONE_ID, MANY_IDS = "root", "user", "user-with-sub-ids"
PASSWD = b"root:x:0:0::/:/bin/sh\nman:x:6:12::/:/bin/sh\n"
GROUP = b"root:x:0:\nman:x:12:\nshadow:x:42:\n"
BASE_OWNERS = {
    "etc/shadow": "0:42",
    "usr/lib/chage": "0:42",
    "var/man": "6:12",
    "usr/lib/twice": "0:42",
    "usr/lib/again": "0:42",
}
BASE_DPKG = {"owners": BASE_OWNERS, "users": {"6": "man"}, "groups": {"12": "man", "42": "shadow"}}
Entry = Tuple[int, int, int]


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    if shutil.which("newuidmap") is None:
        pytest.skip("this machine lacks newuidmap")
    with directory_for_all("owners-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    root = top / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    add_programs(root, ["chgrp", "chmod", "mkdir", "ln", "cp", "mv", "rm", "tr"])
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None:
        pytest.skip("no ldconfig on this machine")
    (root / "sbin").mkdir()
    shutil.copy(ldconfig, root / "sbin/ldconfig")
    base = root / "base.tar"
    with tarfile.open(base, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".", filter=lambda found: None if found.name in ("./base.tar", "./home/opam") else found)
        for name, fields in (
            ("etc/passwd", {"content": PASSWD}),
            ("etc/group", {"content": GROUP}),
            ("etc/shadow", {"mode": 0o640, "gid": 42, "content": b"root:*:3652:::::::\n"}),
            ("usr/lib/chage", {"mode": 0o2755, "gid": 42, "content": b"a program"}),
            ("usr/lib/twice", {"mode": 0o2755, "gid": 42, "content": b"of two names"}),
            ("usr/lib/again", {"kind": tarfile.LNKTYPE, "linkname": "usr/lib/twice", "gid": 42, "mode": 0o2755}),
            ("var", {"kind": DIRECTORY}),
            ("var/sub", {"kind": DIRECTORY}),
            ("var/man", {"kind": DIRECTORY, "uid": 6, "gid": 12, "mode": 0o2755}),
            ("var/man/page", {"content": b"text"}),
            ("var/tmp", {"kind": DIRECTORY, "mode": 0o1777}),
        ):
            info, content = member(name, **fields)
            archive.addfile(info, io.BytesIO(content))
    made = conftest.make_layer(top / "layers/base", base.read_bytes(), "base", "tiny", BASE_DPKG)
    return [made, conftest.make_opam_root(top / "layers/opam-root")]


def as_user(here: Path, sub_ids: bool) -> None:
    """Make this process one of a user, who has subordinate ids in a mount namespace of its own."""
    if sub_ids:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        for name, line in (
            ("passwd", f"tester:x:{USER}:{USER}::/:/bin/sh"),
            ("group", f"tester:x:{USER}:"),
            ("subuid", "tester:2100000000:65536"),
            ("subgid", "tester:2100000000:65536"),
        ):
            (here / name).write_text((Path("/etc") / name).read_text() + line + "\n")
            syscalls.mount(here / name, f"/etc/{name}", flags=syscalls.MS_BIND)
    os.chown(here, USER, USER)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    syscalls.hide_from_others(False)  # as a program that such a user starts


def call(top: Path, name: str, who: str, command: Callable[[], int]) -> Path:
    """Call a command of the tool in a new directory; standard error goes into its file `error`, the status into `status`."""
    here = top / f"{name}-{who}"
    here.mkdir()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            descriptor = os.open(here / "error", os.O_WRONLY | os.O_CREAT)
            if who != ROOT:
                as_user(here, who == MANY_IDS)
            os.chdir(here)
            with open(descriptor, "w") as sys.stderr:
                status = command()
        finally:
            os._exit(status)
    (here / "status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    return here


def make(
    top: Path,
    name: str,
    who: str,
    layers: Sequence[Layer],
    work: Callable[[View, Store], Facts],
    identity: Optional[Identity] = None,
) -> Path:
    """Make a layer by `work` in a new directory."""

    def command() -> int:
        rootless = is_rootless()

        def inside() -> int:
            store = Store(Path("store"), rootless)
            assert has_many_ids() == (who != ONE_ID)
            make_layer(identity or Identity("package", name, "1"), layers, store, lambda view: work(view, store))
            return 0

        return run_isolated(inside, subordinates=True)

    return call(top, name, who, command)


def install(script: str, layers: Sequence[Layer], then: str = "") -> Callable[[View, Store], Facts]:
    """A shell script in the place of dpkg; `then`: one that runs as opam afterwards."""

    def work(view: View, store: Store) -> Facts:
        real = RealOwners(view, store, layers)
        with real.shown("t.1"):
            if view.overlay.run(["sh", "-ec", script], ENV, view.log, user=False).returncode != 0:
                raise BuildFailed("the script failed")
        if then:
            assert view.overlay.run(["sh", "-ec", then], ENV, view.log, user=True).returncode == 0, view.log_text()
        return Facts({"package": "t.1"}, given=real.given)

    return work


def result(here: Path) -> Dict[str, Any]:
    assert (here / "status").read_text() == "0", (here / "error").read_text()
    found: Dict[str, Any] = json.loads((here / "layer.json").read_text())
    return found


def entries(here: Path) -> Dict[str, Entry]:
    """name -> mode, uid, gid of a layer's entries."""
    with tarfile.open(next((here / "blobs/sha256").iterdir())) as archive:
        return {entry.name: (entry.mode, entry.uid, entry.gid) for entry in archive}


def content(here: Path, name: str) -> bytes:
    with tarfile.open(next((here / "blobs/sha256").iterdir())) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def built(top: Path, name: str, layers: Sequence[Layer], script: str, then: str = "") -> Path:
    """The same for root and for a user with subordinate ids; returns root's."""
    work = install(script, layers, then)
    root, user = (make(top, name, who, layers, work) for who in (ROOT, MANY_IDS))
    facts = (result(root), result(user))
    assert entries(root) == entries(user)
    assert facts[0] == facts[1]
    return root


def layer(here: Path) -> Layer:
    for path in (here, *here.rglob("*")):
        if "store" not in path.parts and not path.is_symlink():
            os.chmod(path, 0o755)
    return read_layer(here)


AGENT = (
    "echo _ssh:x:101: >> /etc/group; echo x > /usr/lib/agent; chown 0:101 /usr/lib/agent; chmod 2755 /usr/lib/agent;"
    "ln /usr/lib/agent /usr/lib/agent-too; mkdir -p /var/agent; chgrp 101 /var/agent; chmod 2770 /var/agent;"
    "ln -s agent /usr/lib/link; chown -h 6:101 /usr/lib/link; echo s > /usr/lib/su; chmod 4755 /usr/lib/su"
)


def test_owners_are_those_of_a_real_install(top: Path, layers: List[Layer]) -> None:
    here = built(top, "agent", layers, AGENT, "stat -c %a /usr/lib/agent; ls /usr/lib; ls /var/agent && exit 1; true")
    found = entries(here)
    assert found["usr/lib/agent"] == (0o2755, 0, 101) and found["usr/lib/agent-too"] == (0o2755, 0, 101)
    assert found["usr/lib/link"] == (0o777, 6, 101) and found["var/agent"] == (0o2770, 0, 101)
    assert found["usr/lib/su"] == (0o4755, 0, 0) and found["etc/group"] == (0o644, 0, 0)
    # Both files of accounts, and nothing that was shown for the install only.
    assert set(found) == {
        "etc", "etc/group", "etc/passwd", "usr", "usr/lib", "usr/lib/agent", "usr/lib/agent-too", "usr/lib/link",
        "usr/lib/su", "var", "var/agent",
    }  # fmt: skip
    assert result(here)["dpkg"] == {
        "owners": {
            "usr/lib/agent": "0:101",
            "usr/lib/agent-too": "0:101",
            "usr/lib/link": "6:101",
            "var/agent": "0:101",
        },
        "users": {"6": "man"},
        "groups": {"101": "_ssh"},
    }


def test_a_changed_file_keeps_its_owner(top: Path, layers: List[Layer]) -> None:
    """By a copy that is given the old one's owner, as tools for accounts do it. One that becomes root's; one in a directory."""
    script = """
        cp /etc/shadow /etc/new
        chown $(stat -c %u:%g /etc/shadow) /etc/new
        chmod 640 /etc/new
        echo 'a:!:9::::::' >> /etc/new
        mv /etc/new /etc/shadow
        rm /usr/lib/chage
        echo x > /usr/lib/chage
        echo y > /var/man/other
        echo z > /usr/lib/new
        chown 0:42 /usr/lib/new
        chmod 2755 /usr/lib/new
        mv /usr/lib/new /usr/lib/twice
    """
    here = built(top, "changed", layers, script)
    found = entries(here)
    assert found["etc/shadow"] == (0o640, 0, 42) and found["usr/lib/chage"] == (0o644, 0, 0)
    assert found["var/man"] == (0o2755, 6, 12) and found["var/man/other"] == (0o644, 0, 12)
    assert found["usr/lib/twice"] == (0o2755, 0, 42)
    assert "usr/lib/again" not in found
    assert content(here, "etc/shadow").endswith(b"a:!:3652::::::\n")


def test_what_was_shown_leaves_no_trace(top: Path, layers: List[Layer]) -> None:
    """/var, in which a directory was given to its owner for the install, is as old as it was."""
    here = built(top, "trace", layers, "echo x > /var/sub/file")
    assert set(entries(here)) == {"var", "var/sub", "var/sub/file"}
    with tarfile.open(next((here / "blobs/sha256").iterdir())) as archive:
        assert archive.getmember("var").mtime == 1


def test_file_capabilities_are_the_same(top: Path, layers: List[Layer]) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)

    def work(view: View, store: Store) -> Facts:
        real = RealOwners(view, store, layers)
        with real.shown("t.1"):
            for name, owner in (("of-root", 0), ("of-man", 6)):
                path = view.root / "usr/lib" / name
                path.write_text("program")
                os.chown(path, owner, owner)
                os.setxattr(path, "security.capability", capability)
        return Facts({"package": "t.1"}, given=real.given)

    root, user = (make(top, "capable", who, layers, work) for who in (ROOT, MANY_IDS))
    assert result(root) == result(user)
    with tarfile.open(next((user / "blobs/sha256").iterdir()), errors="surrogateescape") as archive:
        for name in ("usr/lib/of-root", "usr/lib/of-man"):
            text = archive.getmember(name).pax_headers["SCHILY.xattr.security.capability"]
            assert text.encode("utf-8", "surrogateescape") == capability
        assert archive.getmember("usr/lib/of-man").uid == 6


def test_without_subordinate_ids(top: Path, layers: List[Layer]) -> None:
    """What gives nothing away is built, the same as root's; anything else says what is missing."""
    script = "echo x > /usr/lib/plain; chmod 4755 /usr/lib/plain; echo more >> /etc/shadow"
    root, user = (make(top, "plain", who, layers, install(script, layers)) for who in (ROOT, ONE_ID))
    assert result(root) == result(user)
    assert entries(user)["etc/shadow"] == (0o640, 0, 42)
    for number, script in enumerate(
        (
            "echo x > /usr/lib/x; chgrp 42 /usr/lib/x",
            "echo x > /usr/lib/x; chown 6:12 /usr/lib/x || true",
            "echo _ssh:x:101: >> /etc/group",
        )
    ):
        here = make(top, f"refused{number}", ONE_ID, layers, install(script, layers))
        assert (here / "status").read_text() == "1"
        assert "/etc/subuid" in (here / "error").read_text()
        assert not (here / "layer.json").exists()


def test_two_layers_with_one_number(top: Path, layers: List[Layer]) -> None:
    """Each was made without the other. Above both, and in an image of both, a path's number is that of its account."""

    def state(view: View, store: Store) -> Facts:
        merge_accounts.merge(view.root, [Path(os.fsdecode(path)) for path in reversed(view.overlay.lower)])
        return Facts(given=image_owners.give(view, owners.Below(store, all_layers, view.overlay.lower)))

    def add(name: str) -> str:
        path = f"/usr/lib/{name}"
        return (
            f"echo {name}:x:101:102::/:/bin/sh >> /etc/passwd; echo {name}:x:102: >> /etc/group; echo x > {path};"
            f" chown 101:102 {path}; chmod 6755 {path}; mkdir /var/{name}; chgrp 102 /var/{name}"
        )

    first = layer(built(top, "bus", layers, add("bus")))
    second = layer(built(top, "car", layers, add("car")))
    both = [*layers, first, second]
    look = "stat -c '%n %u:%g:%a' /usr/lib/bus /usr/lib/car /var/bus > /usr/lib/seen; tr x y < /etc/group > /usr/lib/groups"
    above = layer(built(top, "above", both, look))
    # The topmost keeps its number; the other gets the first free one.
    assert content(above.directory, "usr/lib/seen").decode().split("\n")[:3] == [
        "/usr/lib/bus 100:100:6755",
        "/usr/lib/car 101:102:6755",
        "/var/bus 0:100:755",
    ]
    assert b"bus:y:100:" in content(above.directory, "usr/lib/groups")
    assert "usr/lib/bus" not in entries(above.directory) and "etc/passwd" not in entries(above.directory)
    all_layers = [*both, above]
    images = [make(top, "state", who, all_layers, state, Identity("state")) for who in (ROOT, MANY_IDS, ONE_ID)]
    assert result(images[0]) == result(images[1]) == result(images[2])
    found = entries(images[0])
    assert found["usr/lib/bus"] == (0o6755, 100, 100) and found["var/bus"] == (0o755, 0, 100)
    assert "usr/lib/car" not in found and "var/car" not in found
    assert b"bus:x:100:100:" in content(images[0], "etc/passwd")


def test_what_is_deleted_or_replaced_has_no_owner_any_more(top: Path, layers: List[Layer]) -> None:
    here = layer(
        built(top, "gone", layers, "rm /usr/lib/chage; rm -r /var/man; mkdir /var/man; echo x > /var/man/page")
    )

    def look(view: View, store: Store) -> Facts:
        below = owners.Below(store, [*layers, here], view.overlay.lower)
        found = below.owned(owners.read_accounts([view.root]))
        (Path("owned")).write_text(json.dumps({one.path: one.recorded for one in found}))
        return Facts()

    place = make(top, "look", ROOT, [*layers, here], look, Identity("state"))
    owned: Dict[str, List[int]] = json.loads((place / "owned").read_text())
    assert owned == {"etc/shadow": [0, 42], "usr/lib/twice": [0, 42], "usr/lib/again": [0, 42]}


def test_a_runtime_image_has_the_accounts_of_what_it_keeps(top: Path, layers: List[Layer]) -> None:
    """By name: where the slim base has given the number to another one, they get the first free one."""
    script = (
        "echo _ssh:x:101:root,a >> /etc/group; echo a:x:102:101:A:/:/bin/sh >> /etc/passwd; echo 'a:*:9::::::' >> /etc/shadow;"
        "echo x > /usr/lib/agent; chown 102:101 /usr/lib/agent; chmod 6755 /usr/lib/agent; echo 'of man' > /usr/lib/man;"
        "chown 6:42 /usr/lib/man; mkdir /var/agent; chgrp 101 /var/agent; echo x > /var/agent/file"
    )
    package = layer(built(top, "keep", layers, script))
    state = conftest.make_layer(top / "layers/state", conftest.make_tar([]), "state", "")
    files = [member(path, DIRECTORY) for path in ("etc", "home", "proc", "dev", "tmp", "usr", "usr/lib", "var")]
    files += [
        member("etc/passwd", content=b"root:x:0:0::/:/bin/sh\nman:x:13:12::/:/bin/sh\n"),
        member("etc/group", content=b"root:x:0:\nman:x:12:\nother:x:101:\n"),
    ]
    with tarfile.open(layers[0].blob) as archive:
        for entry in archive:
            if entry.name.lstrip("./").startswith(("bin", "sbin", "lib")):
                data = archive.extractfile(entry) if entry.isreg() else None
                files.append((entry, data.read() if data else b""))
    slim = conftest.make_layer(top / "layers/slim", conftest.make_tar(files), "base", "slim")
    request: Any = {
        "store": "store",
        "slim": str(slim.directory),
        "layers": [str(one.directory) for one in (*layers, package, state)],
        "packages": [{"name": "t", "opam": "", "depends": [], "root": True}],
        "keep": ["/usr/lib/agent", "/usr/lib/man", "/var/agent/file"],
        "env": [],
    }
    root, user = (call(top, "runtime", who, lambda: runtime.run(request, 1)) for who in (ROOT, ONE_ID))
    assert result(root) == result(user)
    found = entries(root)
    assert found["usr/lib/agent"] == (0o6755, 102, 100) and found["usr/lib/man"] == (0o644, 13, 42)
    assert found["var/agent"] == (0o755, 0, 100) and found["var/agent/file"] == (0o644, 0, 0)
    assert b"man:x:13:12" in content(root, "etc/passwd") and b"a:x:102:100:A:/:/bin/sh\n" in content(root, "etc/passwd")
    group = content(root, "etc/group")
    assert b"_ssh:x:100:root\n" in group and b"shadow:x:42:\n" in group and b"other:x:101:\n" in group
    assert b"a:*:3652::::::\n" in content(root, "etc/shadow")


KEY = "-----BEGIN PRIVATE KEY-----"


def test_what_a_machine_makes_for_itself_is_left_out(top: Path, layers: List[Layer]) -> None:
    script = f"""
        mkdir -p /etc/ssh /etc/ssl/private /etc/ssl/certs /var/lib/dbus /var/lib/mysql /var/lib/postgresql/17/main
        mkdir -p /var/lib/dpkg/info /usr/lib
        for name in machine-id hostid ssh/ssh_host_rsa_key.pub; do cat /proc/sys/kernel/random/uuid > /etc/$name; done
        cp /etc/machine-id /var/lib/dbus/machine-id
        echo {KEY} > /etc/ssh/ssh_host_rsa_key
        echo {KEY} > /etc/ssl/private/ssl-cert-snakeoil.key
        echo c > /etc/ssl/certs/ssl-cert-snakeoil.pem
        ln -s ssl-cert-snakeoil.pem /etc/ssl/certs/abc.0
        echo > /etc/ssl/certs/other
        echo r > /etc/passwd-
        echo d > /var/lib/mysql/ibdata1
        echo d > /var/lib/postgresql/17/main/PG_VERSION
        echo of a .deb > /etc/mailname
        echo {KEY} > /usr/lib/example.key
        echo /etc/mailname > /var/lib/dpkg/info/p.list
        echo /lib/example.key >> /var/lib/dpkg/info/p.list
    """
    found = entries(built(top, "machine", layers, script))
    assert {name for name in found if not name.startswith(("var/lib/dpkg", "usr"))} == {
        "etc", "etc/machine-id", "etc/mailname", "etc/ssh", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/other", "etc/ssl/private",
        "var", "var/lib", "var/lib/dbus", "var/lib/mysql", "var/lib/postgresql", "var/lib/postgresql/17",
    }  # fmt: skip
    assert "usr/lib/example.key" in found
    assert content(top / "machine-root", "etc/machine-id") == b""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            f"mkdir -p /etc/d; echo {KEY} > /etc/d/key",
            "t.1: a maintainer script of its depexts makes a private key: /etc/d/key",
        ),
        ("mkdir -p /etc/d; echo '-----BEGIN OPENSSH PRIVATE KEY-----' > /etc/d/k", "private key: /etc/d/k"),
        ("echo 'u:$y$j9T$abc:1::::::' >> /etc/shadow", "gives the account 'u' a password"),
    ],
)
def test_a_secret_that_no_rule_knows_is_an_error(
    top: Path, layers: List[Layer], tmp_path: Path, script: str, message: str
) -> None:
    here = make(top, tmp_path.name, ROOT, layers, install(script, layers))
    assert (here / "status").read_text() == "1"
    assert message in (here / "error").read_text()
    assert not (here / "layer.json").exists()
