"""Compilers and terminals of Debian packages in a build: 32 bit programs, musl's, expect's. The same for root and for a user."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import tomli

from bench.scratch_project import ScratchProject
from tests.e2e.test_sandbox import AS_USER, build
from tests.e2e.test_sandbox import layers as layers
from tests.e2e.test_sandbox import readable as readable
from tests.e2e.test_sandbox import tool_path as tool_path
from tests.support.base_job import fetch

DEPEXTS = ("gcc-multilib", "musl-tools", "expect")
# Set-uid bits of a build's own files are in its layer. `long` has 4 bytes in a 32 bit program.
SCRIPT = r"""set -e
cat > hello.c <<'END'
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>
static void *thread(void *given) { return given; }
int main(void) {
  pthread_t made;
  struct passwd *user = getpwuid(getuid());
  if (pthread_create(&made, 0, thread, 0) || pthread_join(made, 0)) return 2;
  printf("%d %s\n", (int)sizeof(long), user ? user->pw_name : "nobody");
  return 0;
}
END
gcc -m32 -pthread hello.c -o wide-4 && ./wide-4
gcc -m32 -static -pthread hello.c -o static-4 && ./static-4
gcc -m32 -fsanitize=address -pthread hello.c -o checked-4 && ./checked-4
musl-gcc hello.c -o musl-8 && ./musl-8
musl-gcc -static hello.c -o musl-static-8 && ./musl-static-8
expect -c 'spawn sh -c "read it; echo got \$it; tty"; send "this\r"; expect "got this" { puts ok } timeout { exit 3 }; expect eof'
unbuffer tty
mkdir -p "$1" && cp static-4 "$1/set" && chmod 6755 "$1/set" && install -m 4755 musl-static-8 "$1/set-too" && chmod g+s "$1"
"""
PRINTED = ["4 opam"] * 3 + ["8 opam"] * 2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares root with a user: needs root")


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[List[Dict[str, Any]]]:
    """The depexts as locking finds them, where every user can read them."""
    top = tmp_path_factory.mktemp("compilers")
    project = ScratchProject(top / "project", ["r"])
    listed = " ".join(f'"{name}"' for name in DEPEXTS)
    opam = f'opam-version: "2.0"\ndepexts: [[{listed}] {{os-family = "debian"}}]\nflags: conf\n'
    target = 'opam_requirement(name="roots", resolve="r", requirements=["conf-compilers"])\n'
    project.write({"repository/packages/conf-compilers/conf-compilers.1/opam": opam, "BUILD": target})
    try:
        project.must("generate-lockfiles", "--no-diff", "--resolve=r")
    finally:
        project.stop_daemon()
    lock = tomli.loads((project.directory / "3rdparty/opam/r.lock").read_text())
    (top / "debs").mkdir()
    found = [fetch(top, deb) for deb in lock["deb"]]
    for path in (top.parent, top, top / "debs", *(top / "debs").iterdir()):
        path.chmod(0o755)
    yield [{**deb, "file": str(top / deb["file"])} for deb in found]


def test_they_make_programs_that_run(
    tool_path: Path, layers: List[Path], readable: Path, debs: List[Dict[str, Any]]
) -> None:
    script = base64.b64encode(SCRIPT.encode()).decode()
    opam = 'opam-version: "2.0"\ninstall: [["sh" "-c" "echo %s | base64 -d > script && sh ./script %%{lib}%%/t"]]\n'
    described = []
    for name, prefix in (("root", []), ("user", AS_USER)):
        done = build(tool_path, readable / name, layers, opam % script, prefix, debs=debs)
        log = (readable / name / "build.log").read_text()
        assert done.returncode == 0, log[-5000:]
        lines = [line.lstrip("- ").rstrip("\r") for line in log.splitlines()]
        assert [line for line in lines if line in set(PRINTED)] == PRINTED
        assert "ok" in lines and lines.count("/dev/pts/0") == 2
        described.append(json.loads((readable / name / "layer.json").read_text()))
    assert described[0] == described[1]
