"""No secret of whoever calls the tool gets into what root's and users' maintainer scripts, builds and images leave behind.

Beside `test_secrets.py`, in which Pants calls it as root: here the caller's environment is the tool's own, and every phase looks.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from tests.e2e.conftest import USER_ID, as_user, tool
from tests.support import private_network, probes
from tests.support.canaries import Canaries, search
from tests.support.planted import VARIABLES, Sockets, add_keys, listen, plant_home, remove_keys, spy_script
from tests.support.probes.chain import PROBES, Chain, Downloads

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, and has a network of its own")

SWITCH = "home/opam/.opam/default"
# layer -> where the script wrote down what it saw, in each of its phases
SEEN = {
    "base": [f"{PROBES}/outcome-base"],
    "build": [f"{PROBES}/outcome-depexts", *(f"{SWITCH}/lib/outcome-{name}" for name in ("build", "install", "test"))],
    "state": [f"{PROBES}/outcome-state-root", "home/opam/outcome-state-user"],
}


@pytest.fixture(scope="module")
def downloads() -> Iterator[Downloads]:
    top = Path(tempfile.mkdtemp(prefix="opam-oci-secrets-", dir="/var/tmp"))
    try:
        yield Downloads.make(top)
    finally:
        shutil.rmtree(top, ignore_errors=True)


class Caller:
    """Somebody with secrets in all places, who has a base, a package and an image made by packages that look for them."""

    def __init__(self, top: Path, owner: int, chain: Any, canaries: Canaries) -> None:
        self.canaries, self.notes = canaries, top / "notes"
        home, project = top / "home", top / "project"
        plant_home(home, canaries)
        project.mkdir()
        (project / ".env").write_text(canaries[".env"])
        self.sockets = Sockets([], set())
        for name in (str(top / "agent"), f"\0opam-oci-test-agent-{owner}", str(home / "docker.sock")):
            listen(name, self.sockets)
        tool("chown", "-R", f"{owner}:{owner}", str(home), str(project), str(top / "agent"))
        self.chain: Chain = chain(spy_script(self.sockets, home, project), self.notes)
        self.chain.target.environment.update({name: canaries[f"env {name}"] for name in VARIABLES})
        self.chain.target.environment.update(
            SSH_AUTH_SOCK=self.sockets.paths[0], DOCKER_HOST=f"unix://{self.sockets.paths[2]}"
        )


@pytest.fixture(scope="module", params=["root", "user"])
def caller(request: Any, downloads: Downloads) -> Iterator[Caller]:
    top = downloads.top / request.param
    owner = USER_ID if request.param == "user" else 0
    for name in ("", "home", "store", "target"):
        (top / name).mkdir()
        os.chown(top / name, owner, owner)
    canaries = Canaries()
    with probes.target(top / "target", owner, downloads.top) as target:
        keys = add_keys(canaries)

        def chain(spy: str, notes: Path) -> Chain:
            prefix = [sys.executable, private_network.__file__, str(notes)]
            prefix += as_user(top / "home", "true") if owner else []
            return Chain(downloads, top, target, owner, prefix, spy)

        try:
            yield Caller(top, owner, chain, canaries)
        finally:
            remove_keys(keys)


def written(chain: Chain, target: Path) -> List[Path]:
    """All that the tool wrote and printed; layers as tars, too."""
    target.mkdir()
    found = []
    for job in ("base", "opam-root", "build", "state", "failing"):
        for path in sorted((chain.directory / job).rglob("*")):
            if path.is_file() and not path.is_symlink() and "debs" not in path.parts:
                found.append(path)
                if path.parent.name == "sha256" and path.read_bytes()[:2] == b"\x1f\x8b":
                    (target / path.name).write_bytes(gzip.decompress(path.read_bytes()))
    (target / "said").write_text("\n".join(chain.said))
    return [*found, *target.iterdir(), chain.directory / "store"]


def test_no_secret_is_kept_or_shown(caller: Caller, tmp_path: Path) -> None:
    chain, canaries = caller.chain, caller.canaries
    chain.outcomes("state-root")
    error = chain.fail(f"sh /{PROBES}/spy.sh")
    assert "dpkg failed" in error and "Traceback" not in error
    for layer, names in SEEN.items():
        [blob] = (chain.directory / layer / "blobs/sha256").iterdir()
        with tarfile.open(blob) as archive:
            for name in names:
                file = archive.extractfile(name)
                assert file is not None
                text = file.read()
                # It came to its end, saw nothing, and reached nobody.
                assert b"--- environment" in text and text.endswith(b"--- end\n"), name
                assert b"REACHED" not in text, name
    log = (chain.directory / "failing/build.log").read_text(errors="replace")
    assert "--- end" in log and "REACHED" not in log
    files = written(chain, tmp_path / "unpacked")
    assert len(files) > 20
    assert search(canaries, files, tmp_path) == []
    assert caller.sockets.reached == set()
    # Each server writes its first connection down, its own. Nothing else came.
    servers = [private_network.METADATA[0], private_network.LOCAL[0]]
    notes = caller.notes.read_text().split()
    assert set(notes) == set(servers) and all(notes.count(address) <= 6 for address in servers)


# Of the machine itself the script below is to see nothing: neither root's home nor other processes.
HIDDEN = 'mount -t tmpfs none /root && mount -t tmpfs none /etc/apt && exec "$@"'


def test_the_secrets_are_there_to_be_found(caller: Caller, tmp_path: Path) -> None:
    """The same script sees them, and reaches the servers, where nothing confines it: else the test above says nothing."""
    chain = caller.chain
    script = tmp_path / "spy.sh"
    script.write_text(chain.spy)
    environment = {**chain.target.environment, "PATH": os.environ["PATH"], "HOME": str(chain.directory / "home")}
    del environment["PERL5OPT"]  # Perl does not start with what that has
    alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", HIDDEN, "sh"]
    text = tool(*chain.prefix[:3], *alone, "sh", str(script), env=environment, errors="replace").stdout
    (tmp_path / "seen").write_text(text)
    names = {name for _, name in search(caller.canaries, [tmp_path / "seen"], tmp_path)}
    assert {"key", "home .netrc", "home .docker/config.json", "home .ssh/id_ed25519", ".env"} <= names
    assert {f"env {name}" for name in VARIABLES if name in environment} <= names
    # An abstract socket is one of the machine's network, which is hidden from this one.
    assert text.count("REACHED") == 4 and caller.sockets.reached == {caller.sockets.paths[0], caller.sockets.paths[2]}
    caller.sockets.reached.clear()
