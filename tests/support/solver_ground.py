"""What roots are solved on, made by the tool itself: base, opam's root, the layer of the solver, repositories that opam read."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.base_job import LARGER_LOCK, fetch
from tests.support.checkout import ROOT
from tests.support.sandbox_tool import filelock_package


class Run(NamedTuple):
    """A command that ended well: wall-clock and CPU seconds of it and of all below, and the largest process's peak (bytes)."""

    seconds: float
    cpu: float
    peak: int


class CommandFailed(Exception):
    """A command of the tool that ended with an error: its message."""


class Ground:
    """`top`: the directory of all processes. What is there already is not made again."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.layers = ["layers/base", "layers/root"]
        self.solver = "layers/solver"

    def run(self, part: str, command: str, request: Dict[str, Any]) -> Run:
        """Run a command in `top`. Raises CommandFailed."""
        file = self.top / f"{command}.json"
        file.write_text(json.dumps(request))
        path = os.pathsep.join([str(ROOT / "src"), str(filelock_package().parent)])
        argv = [sys.executable, "-sB", "-m", f"opam_sandbox.{part}", command, file.name]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        env = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(argv, cwd=self.top, env=env, stderr=subprocess.PIPE, universal_newlines=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise CommandFailed(done.stderr)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(time.monotonic() - start, cpu, after.ru_maxrss << 10)

    def make(self) -> None:
        """The base and opam's root; then the solver's layer. Raises OSError where this machine's mirror lacks a .deb."""
        for name in ("debs", "store", "layers"):
            (self.top / name).mkdir(exist_ok=True)
        lock = tomli.loads(LARGER_LOCK.read_text())
        about = {key: lock["metadata"][key] for key in ("suite", "architecture")}
        base = {"name": "trixie", "packages": [], "epoch": 1_700_000_000, **about}
        self._layer("base", "rootfs", lambda: {**base, "debs": self._fetched(lock["deb"])})
        self._layer("root", "opam-root", lambda: {"layers": self.layers[:1]})
        self.prepare({"empty": {}}, "empty")
        self._layer("solver", "build", lambda: self._solver_request(about))

    def prepare(self, repositories: Dict[str, Dict[str, str]], name: str) -> str:
        """Have opam read repositories (name -> {title of a package: its opam file}). Returns the directory `prepared`."""
        listed = []
        for repository, packages in repositories.items():
            path = self.top / f"repository-{name}-{repository}"
            (path / "packages").mkdir(parents=True, exist_ok=True)
            (path / "repo").write_text('opam-version: "2.0"\n')
            for title, text in packages.items():
                directory = path / "packages" / title.partition(".")[0] / title
                directory.mkdir(parents=True, exist_ok=True)
                (directory / "opam").write_text(f'opam-version: "2.0"\n{text}\n')
            listed.append({"name": repository, "path": path.name})
        return self.prepare_directories(listed, name)

    def prepare_directories(self, repositories: Sequence[Dict[str, str]], name: str) -> str:
        """The same of directories below `top`."""
        target = self.top / f"prepared-{name}"
        if not target.exists():
            request = {"step": "repositories", "store": "store", "layers": self.layers, "repositories": repositories}
            self.run("locking", "lock-opam", request)
            (self.top / "prepared").rename(target)
        return target.name

    def solve(self, prepared: str, packages: Sequence[str], **values: Any) -> Dict[str, Any]:
        """solutions.json. values: of the request."""
        request = {
            **{
                "step": "solve-roots",
                "store": "store",
                "layers": self.layers,
                "prepared": prepared,
                "repositories": ["r"],
            },
            **{"compilers": [""], "constraints": [], "selection": {"packages": list(packages)}, "solver": self.solver},
            **values,
        }
        self.run("locking", "lock-opam", {key: value for key, value in request.items() if value is not None})
        found: Dict[str, Any] = json.loads((self.top / "solutions.json").read_text())
        return found

    def opam(self, prepared: str, *arguments: str) -> str:
        """What opam itself prints in the base, with the repositories of `prepared`. Raises CommandFailed."""
        script = (
            "import json, sys; from pathlib import Path\n"
            "from opam_sandbox.layer.description import read_layers\n"
            "from opam_sandbox.layer.store import Store\n"
            "from opam_sandbox.locking.ask_universe import opam_view\n"
            "from opam_sandbox.locking.prepared import read_prepared\n"
            "from opam_sandbox.opam.switch import HOME, environment\n"
            "from opam_sandbox.sandbox.namespaces import run_isolated\n"
            "prepared, layers, argv = json.loads(sys.argv[1])\n"
            "Path('build.log').unlink(missing_ok=True)\n"
            "def inside():\n"
            "    with opam_view(Store(Path('store'), False), read_layers(layers), read_prepared(prepared), ['r']) as view:\n"
            "        done = view.overlay.run(argv, environment(1), view.log, user=True, cwd=f'/{HOME}')\n"
            "        print(view.log_text(), end='')\n"
            "        return done.returncode\n"
            "sys.exit(run_isolated(inside))\n"
        )
        asked = json.dumps([prepared, self.layers, ["opam", *arguments]])
        path = os.pathsep.join([str(ROOT / "src"), str(filelock_package().parent)])
        done = subprocess.run(
            [sys.executable, "-sB", "-c", script, asked],
            cwd=self.top,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        if done.returncode != 0:
            raise CommandFailed(done.stdout + done.stderr)
        return done.stdout

    def _layer(self, name: str, command: str, request: Any) -> None:
        target = self.top / "layers" / name
        if target.exists():
            return
        self.run("building", command, {"store": "store", **request()})
        target.mkdir()
        for file in ("layer.json", "blobs"):
            (self.top / file).rename(target / file)

    def _fetched(self, debs: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda deb: fetch(self.top, deb), debs))

    def _solver_request(self, about: Dict[str, str]) -> Dict[str, Any]:
        mirrors = {"mirrors": apt_mirrors(Path("/etc/apt"))[:1], **about, "store": "store"}
        self.run("locking", "lock-opam", {"step": "indexes", "source_suites": [], **mirrors})
        request = {"step": "solver", "base_json": "prepared-empty/base.json", "indexes": "indexes.json", **mirrors}
        self.run("locking", "lock-opam", request)
        found = json.loads((self.top / "solver.json").read_text())
        if found["note"]:
            raise CommandFailed(found["note"])
        package = {**found["package"], "sources": [], "debs": self._fetched(found["debs"])}
        return {"layers": self.layers, "package": package, "with_test": False, "later": []}
