"""Layers of opam packages with depexts, made by the tool's own commands without Pants; and .debs of a few lines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from opam_sandbox.building import build
from opam_sandbox.imaging import state
from opam_sandbox.layer.description import Layer, read_layer
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def make_deb(
    top: Path,
    name: str,
    files: Mapping[str, str],
    fields: str = "",
    scripts: "Mapping[str, str] | None" = None,
    version: str = "1",
) -> Dict[str, Any]:
    """Make a .deb below `top`; returns it as requests have it. `fields`: further lines of its control file; `scripts`: maintainer
    scripts and other files beside it (`preinst`, `triggers`, `conffiles`). Files whose text begins with `#!` are programs."""
    tree = top / f"tree-{name}-{version}"
    for path, text in {**files, **{f"DEBIAN/{key}": value for key, value in (scripts or {}).items()}}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755 if text.startswith("#!") else 0o644)
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n{fields}"
        "Description: a test's\n"
    )
    file = top / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, stdout=subprocess.DEVNULL)
    data = file.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    entry = {"sha256": sha256, "size": len(data), "file": os.fspath(file)}
    return {"name": name, "version": version, "architecture": "all", **entry}


@dataclass
class Workshop:
    """Makes layers in directories below `top`. `ground`: the base and opam's root."""

    top: Path
    ground: Sequence[Layer]

    def build(
        self, name: str, debs: Sequence[Mapping[str, Any]], below: Sequence[Layer] = (), where: str = ""
    ) -> Layer:
        """The layer of an empty opam package with these depexts. Raises AssertionError with what was printed."""
        package = {"name": name, "version": "1", "opam": 'opam-version: "2.0"\n', "files": [], "sources": []}
        request: Any = {
            "store": os.fspath(self.top / "store"),
            "layers": self._directories([*self.ground, *below]),
            "package": {**package, "debs": [dict(deb) for deb in debs]},
        }
        return self.make(where or name, lambda: build.run(request, 1))

    def state(self, layers: Sequence[Layer], where: str = "state") -> Layer:
        """The state layer of an image of these packages' layers."""
        request: Any = {
            "store": os.fspath(self.top / "store"),
            "layers": self._directories([*self.ground, *layers]),
            "packages": [],
            "roots": [],
        }
        return self.make(where, lambda: state.run(request, 1))

    def see(self, layers: Sequence[Layer], *argv: str) -> Tuple[int, str]:
        """Run a command as root in an image of these layers; its exit status and all that it printed, or why it
        did not run."""
        here = self._directory("see")

        def inside() -> int:
            store = Store(self.top / "store", is_rootless())
            Path("build.log").write_bytes(b"")
            with mounted(store, [*self.ground, *layers]) as view:
                return view.overlay.run(argv, ENV, view.log, user=False).returncode

        status = self._in(here, lambda: run_isolated(inside))
        return status, "".join((here / name).read_text(errors="replace") for name in ("stderr", "build.log"))

    def make(self, where: str, work: Callable[[], int]) -> Layer:
        """The layer that a command makes in a directory of its own. Raises AssertionError with what was printed."""
        here = self._directory(where)
        status = self._in(here, work)
        log = here / "build.log"
        assert status == 0, (
            f"{(here / 'stderr').read_text()}\n{log.read_text(errors='replace') if log.exists() else ''}"
        )
        return read_layer(here)

    def _directory(self, name: str) -> Path:
        number = 0
        while (self.top / f"{name}-{number}").exists():
            number += 1
        here = self.top / f"{name}-{number}"
        here.mkdir(parents=True)
        return here

    @staticmethod
    def _directories(layers: Sequence[Layer]) -> List[str]:
        return [os.fspath(layer.directory) for layer in layers]

    @staticmethod
    def _in(here: Path, work: Callable[[], int]) -> int:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.chdir(here)
                errors = os.open("stderr", os.O_WRONLY | os.O_CREAT)
                os.dup2(errors, 2)
                sys.stderr = open(2, "w", closefd=False)
                status = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
