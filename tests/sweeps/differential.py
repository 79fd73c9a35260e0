"""Packages by hand and by us: the same packages installed by `opam install` in one switch, and as an image's layers, compared.

    python -m tests.sweeps.differential LAYOUT REPOSITORY [--downloads DIR] ROOT...

LAYOUT is an image (an OCI layout as `pants package` writes it) of the packages ROOT... of the opam repository REPOSITORY. On
the image's own base, in one overlay, opam installs them once more: offline, with its own solver, from the archives in DIR
(in the layout of opam's cache). Compared are the switch's files (names, kinds, modes, contents, targets of links; `.changes`
and `.config` files among them), the switch's records and the scripts for shells, what `opam` says of the switch and of each
package, and `opam env`. Prints what differs; the exit status is 1 if anything does. In the lines, `-` is by hand, `+` is the
image.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from opam_sandbox.building import install_debs
from opam_sandbox.building.requests import Deb
from opam_sandbox.layer.description import Layer, read_layer
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, REPOSITORY, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import View
from tests.support.layouts import Layout, layer_directories, write_layer_directory

# Not compared: what belongs to no package, and opam files as they stand in a switch, where opam says them in its own words.
_RECORDS = "lock environment switch-config switch-state build sources backup remove reinstall packages".split()
_LEFT_OUT = r"\.opam-switch/\(" + r"\|".join(_RECORDS) + r"\)"
_DUMP = rf"""
cd ~/.opam/default
echo '## files'; find . -printf '%P|%y|%m|%l\n' | grep -v '^{_LEFT_OUT}' | sort
echo '## contents'; find . -type f | sed 's,^\./,,' | grep -v '^{_LEFT_OUT}' | sort | tr '\n' '\0' | xargs -0 -r sha256sum
echo '## records'; cat .opam-switch/install/* .opam-switch/config/* 2>/dev/null
for f in .opam-switch/environment .opam-switch/switch-config ../opam-init/variables.*; do
echo "## record $f"; cat "$f"; done
echo '## record switch-state'; tr -d ' \n' < .opam-switch/switch-state | sed 's/]/&\n/g'
echo '## plugins'; find ../plugins -printf '%P|%y|%l\n' 2>/dev/null | sort
echo '## list'; opam list --columns=name,version,synopsis-or-target 2>&1
echo '## roots'; opam list --roots --short 2>&1
echo '## switch'; opam switch list 2>&1; opam switch show 2>&1; opam switch invariant 2>&1; opam switch export - 2>&1
echo '## pins'; opam pin list 2>&1
echo '## report'; opam config report 2>&1 | grep -v '^# jobs\|^# install-criteria\|^# solver\|^# self-upgrade'
echo '## env'; opam env 2>&1; cat ../.last-env/*
echo '## exec'; env -i HOME="$HOME" LANG="$LANG" PATH="$PATH" opam exec -- env 2>&1
echo '## var'; opam var 2>&1
for p in $(opam list --short); do
echo "## var $p"; opam var --package "$p" 2>&1; echo "## show $p"; opam show "$p" 2>&1; done
"""


def differences(
    layout: Path,
    repository: Path,
    downloads: Path,
    roots: Sequence[str],
    work: Path,
    more: str = "",
    debs: Sequence[Deb] = (),
) -> List[str]:
    """Lines of a diff, empty where there is no difference. `work`: an empty directory. more: a script whose output is compared
    as well. debs: the depexts of all packages, which are installed before them, as opam does. Raises ToolError."""
    image = Layout(layout)
    layers = [read_layer(path) for path in layer_directories(image, work / "layers")]
    # What they are called does not matter to a view.
    for number in range(len(layers), len(image.layers)):
        layers.append(read_layer(write_layer_directory(image, number, work / f"layers/{number}", "group", str(number))))
    _in_view(work, "image", layers, lambda view: _run(view, _DUMP + more, work / "image.txt"))

    def by_hand(view: View) -> None:
        if debs and install_debs.install(view, debs, "by hand") != 0:
            raise SystemExit(f"dpkg failed:\n{view.log_text()[-4000:]}")
        view.write_files(_repository_files(repository, downloads))
        install = f"opam install --yes --no-depexts {' '.join(roots)} 1>&2"
        _run(view, install, work / "installed.txt", len(os.sched_getaffinity(0)))
        _run(view, _DUMP + more, work / "hand.txt")

    _in_view(work, "hand", layers[:2], by_hand)
    hand, ours = (_read(work / f"{name}.txt") for name in ("hand", "image"))
    return [
        line for line in difflib.unified_diff(hand, ours, lineterm="", n=0) if not line.startswith(("---", "+++", "@@"))
    ]


def _read(path: Path) -> List[str]:
    """The lines, each with its section's name before it, so that a line of a diff says where it is."""
    section, lines = "", []
    for line in path.read_text(errors="backslashreplace").splitlines():
        section = line[3:] if line.startswith("## ") else section
        lines.append(f"{section}: {line}")
    return lines


def _in_view(work: Path, name: str, layers: Sequence[Layer], use: Callable[[View], None]) -> None:
    def inside() -> int:
        os.chdir(work / name)
        with mounted(Store(work / "store", is_rootless()), layers) as view:
            use(view)
        return 0

    for directory in (work / name, work / "store"):
        directory.mkdir(exist_ok=True)
    if run_isolated(inside) != 0:
        raise SystemExit(f"{name}: see {work / name / 'build.log'}")


def _run(view: View, script: str, output: Path, jobs: int = 1) -> None:
    with open(output, "wb") as out:
        done = view.overlay.run(
            ["sh", "-c", script], environment(jobs), view.log, user=True, cwd=f"/{HOME}", stdout=out.fileno()
        )
    if done.returncode != 0:
        raise SystemExit(f"exit status {done.returncode}:\n{view.log_text()[-4000:]}")


def _repository_files(repository: Path, downloads: Path) -> Iterator[Tuple[str, bytes, int]]:
    places: Dict[str, Path] = {
        f"{OPAM_ROOT}/repo/default": repository,
        REPOSITORY: repository,
        f"{OPAM_ROOT}/download-cache": downloads,
    }
    for target, source in places.items():
        for name in view_files.walk(source):
            mode = (source / name).stat().st_mode & 0o777
            yield f"{target}/{name}", (source / name).read_bytes(), mode


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare an image with the same packages installed by hand.")
    parser.add_argument("layout", type=Path)
    parser.add_argument("repository", type=Path)
    parser.add_argument("roots", nargs="+")
    parser.add_argument("--downloads", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        downloads = arguments.downloads or work / "none"
        downloads.mkdir(exist_ok=True)
        found = differences(
            arguments.layout.resolve(), arguments.repository.resolve(), downloads.resolve(), arguments.roots, work
        )
    print("\n".join(found) or "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
