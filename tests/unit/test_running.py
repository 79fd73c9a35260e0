"""run: what confines the command of a container, looked at from inside."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator

import filelock as filelock  # by now: the user of these tests cannot read this Python's files
import pytest

from opam_sandbox.running import run as running
from opam_sandbox.sandbox import seccomp, syscalls
from tests.support.small_images import make_image
from tests.unit.conftest import add_programs

RUNTIMES = {kind: shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin") or "" for kind in ("crun", "runc")}
USER = 47010
# What its process says of itself, whether calls are refused, and what else it sees.
SCRIPT = r"""
opendir D, "/proc/self/fd"; my @others = grep { /^\d+$/ && $_ > 2 } readdir D;
print "descriptors:\t", join(" ", grep { $_ && !m{^/proc/} } map { readlink "/proc/self/fd/$_" } @others), "\n";
open F, "<", "/proc/self/status"; while (<F>) { print if /^(Cap|NoNewPrivs|Seccomp:|Uid)/ }
open F, "<", "/proc/self/limits"; while (<F>) { print "$1:\t$2 $3\n" if /^Max (core file size|open files)\s+(\S+)\s+(\S+)/ }
sub call { my ($name, $n, @a) = @_; $! = 0; syscall($n, @a); print "$name:\t", $! + 0, "\n" }
my $arm = $ARGV[0];
call("keyctl", $arm ? 219 : 250, 0, -3, 0, 0, 0);
call("unshare", $arm ? 97 : 272, 0x10000000);
call("clone", $arm ? 220 : 56, 0x10000011, 0, 0, 0, 0);
call("io_uring", $arm ? 425 : 425, 1, 0);
call("vsock", $arm ? 198 : 41, 40, 1, 0);
call("inet", $arm ? 198 : 41, 2, 1, 0);
call("personality", $arm ? 92 : 135, 0x40000);
call("which personality", $arm ? 92 : 135, 0xffffffff);
call("tiocsti", $arm ? 29 : 16, 0, 0x5412, 0);
print "cgroup:\t", (grep { !m{:/$} } do { open F, "<", "/proc/self/cgroup"; <F> }) + 0, "\n";
print "masked $_:\t", -s "/proc/$_" || length(do { local $/; open F, "<", "/proc/$_"; my $x = <F>; defined $x ? $x : "" }), "\n"
  for qw(kcore keys timer_list interrupts);
print "sysctl:\t", (open(F, ">", "/proc/sys/kernel/domainname") ? 0 : $! + 0), "\n";
print "first:\t", (open(F, "<", "/proc/1/mountinfo") ? "seen" : "hidden"), "\n";
"""


@pytest.fixture(scope="module")
def layout(root_user: None, tiny_root: Path) -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="running-"))
    top.chmod(0o755)
    root = top / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    add_programs(root, ["perl"])
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    files["etc/passwd"] = b"root:x:0:0::/:/bin/sh\nopam:x:1000:1000::/:/bin/sh\n"
    make_image(top / "layout", [files], Env=["PATH=/bin"])
    yield top / "layout"
    shutil.rmtree(top)


def run(layout: Path, kind: str, user: str, rootless: bool) -> Dict[str, str]:
    """What SCRIPT prints in a container, by name."""
    if not RUNTIMES[kind]:
        pytest.skip(f"this machine has no {kind}")
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=layout.parent))
    image = directory / "image"
    shutil.copytree(layout, image)
    set_user(image, user)
    request = {
        "image": str(image), "store": str(directory / "store"), "runtime": RUNTIMES[kind], "kind": kind, "env": [],
        "network": "none", "hostname": "h", "volumes": [], "names": [], "skopeo": "", "engine_args": [], "run_args": [],
    }  # fmt: skip
    (directory / "request.json").write_text(json.dumps(request))
    os.chmod(directory, 0o755)
    arm = "1" if os.uname().machine == "aarch64" else "0"
    arguments = argparse.Namespace(request=str(directory / "request.json"), arguments=["perl", "-e", SCRIPT, arm])
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if rootless:
                os.chown(directory, USER, USER)
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                syscalls.hide_from_others(False)
            inherited = os.open("/etc/passwd", os.O_RDONLY)
            os.set_inheritable(inherited, True)
            os.dup2(os.open(directory / "out", os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(os.open(directory / "err", os.O_WRONLY | os.O_CREAT), 2)
            status = running.run(arguments)
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert status == 0, (directory / "err").read_text()
    pairs = (line.split(":\t", 1) for line in (directory / "out").read_text().splitlines())
    return {name: value for name, value in pairs}


def set_user(layout: Path, user: str) -> None:
    """Make the image anew with another user."""
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config: Dict[str, Any] = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    config["config"]["User"] = user
    from tests.support.small_images import CONFIG_TYPE, MANIFEST_TYPE, write_index, write_json_blob

    manifest["config"] = write_json_blob(layout, config, CONFIG_TYPE)
    entry = write_json_blob(layout, manifest, MANIFEST_TYPE)
    write_index(layout, [{**entry, "annotations": {"org.opencontainers.image.ref.name": "latest"}}])


@pytest.mark.parametrize("kind", ["crun", "runc"])
@pytest.mark.parametrize("user", ["root", "opam"])
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "user"])
def test_what_a_container_may_do(layout: Path, kind: str, user: str, rootless: bool) -> None:
    found = run(layout, kind, user, rootless)
    uid = found["Uid"].split()[0]
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP
    allowed = {0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31}
    for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        capabilities = {bit for bit in range(64) if int(found[name], 16) >> bit & 1}
        assert capabilities == (allowed if uid == "0" and name in ("CapPrm", "CapEff", "CapBnd") else set()), name
    assert found["NoNewPrivs"] == ("0" if uid == "0" else "1")
    assert found["Seccomp"] == "2"
    assert found["core file size"] == "0 0" and found["open files"].split()[0] == "1024"
    refused = {name: found[name] for name in ("keyctl", "unshare", "clone", "personality", "tiocsti")}
    assert refused == dict.fromkeys(refused, "1")
    assert (found["io_uring"], found["vsock"], found["inet"], found["which personality"]) == ("38", "97", "0", "0")
    assert found["cgroup"] == "0"
    assert [name for name, value in found.items() if name.startswith("masked") and value not in ("0", "")] == []
    assert found["sysctl"] in ("30", "13")  # EROFS, EACCES
    assert found["descriptors"] == "" and found["first"] == "hidden"


def test_the_profile_has_what_the_filter_has() -> None:
    """Every call of the tables."""
    for machine in ("x86_64", "aarch64"):
        profile = seccomp.oci_profile(machine)
        named = {name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]}
        assert set(seccomp.refused(machine)) <= named
