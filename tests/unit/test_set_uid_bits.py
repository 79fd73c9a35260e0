"""Set-uid and set-gid bits of files, made and written to in builds and maintainer scripts, by root and by a user."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox.view import View
from tests.unit.test_root_and_user import as_root_and_user, build, entries, run
from tests.unit.test_root_and_user import layers as layers
from tests.unit.test_root_and_user import top as top

# Each ends as "NAME mode".
SCRIPT = """set -e
cd %s
for mode in 4755 2755 6711 4644 2644; do
    echo x > set-$mode; chmod $mode set-$mode
    echo x > appended-$mode; chmod $mode appended-$mode; echo y >> appended-$mode
    echo x > written-$mode; chmod $mode written-$mode; echo y > written-$mode
    echo x > emptied-$mode; chmod $mode emptied-$mode; : > emptied-$mode
    echo x > updated-$mode; chmod $mode updated-$mode; perl -e 'open F, "+<", shift; print F "z"; close F' updated-$mode
    echo x > given-$mode; chmod $mode given-$mode; chown $(id -u):$(id -g) given-$mode
    echo x > cut-$mode; chmod $mode cut-$mode; perl -e 'truncate shift, 1' cut-$mode
    perl -e 'link shift, shift or die' set-$mode linked-$mode; perl -e 'rename shift, shift or die' given-$mode moved-$mode
    case $mode in *644) continue; esac
    mkdir dir-$mode; chmod $mode dir-$mode; echo x > dir-$mode/file; mkdir dir-$mode/dir
done
stat -c '%%n %%a' * */*
"""


WRITTEN = ("appended", "written", "emptied", "updated", "cut")


def outcomes(top: Path, layers: List[Layer], place: str, user: bool) -> Tuple[Dict[str, str], Dict[str, str]]:
    """The modes that root's command sees, and a user's. What it sees is what is in the layer."""

    def work(view: View) -> None:
        run(view, ["mkdir", f"/{place}"], user)
        run(view, ["sh", "-c", SCRIPT % f"/{place}"], user)

    found = []
    for here in as_root_and_user(top, f"set-{user}", lambda: build(layers, work)):
        seen = dict(line.split() for line in (here / "build.log").read_text().splitlines())
        assert seen == {name: f"{entries(here)[f'{place}/{name}'][0]:o}" for name in seen}
        found.append(seen)
    assert len(found[0]) > 40
    return found[0], found[1]


def test_of_a_builds_own_files(top: Path, layers: List[Layer]) -> None:
    """Whoever has no capabilities and writes to a file takes the bits away."""
    root, user = outcomes(top, layers, "home/opam/t", True)
    assert root == user
    assert (root["set-4755"], root["appended-4755"], root["moved-4755"], root["dir-2755/dir"]) == (
        "4755",
        "755",
        "755",
        "2755",
    )


def test_of_files_of_debian_packages(top: Path, layers: List[Layer]) -> None:
    """root's scripts keep the bits of a file that they write to. The kernel lets no user namespace's root do so."""
    root, user = outcomes(top, layers, "usr/lib/t", False)
    others = [name for name in root if not name.startswith(WRITTEN)]
    assert {name: root[name] for name in others} == {name: user[name] for name in others}
    assert (root["appended-4755"], user["appended-4755"]) == ("4755", "755")
