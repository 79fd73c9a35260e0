"""`build`: one opam package over the base and its dependencies' layers, its change captured as one layer.

opam itself builds the package, but is shown a world in which there is nothing to decide (`prepare_opam`).
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from opam_sandbox import dpkg, dpkg_union
from opam_sandbox.beside.union import Union
from opam_sandbox.building import asked, failures, prepare_opam, sorted_readdir
from opam_sandbox.building.real_owners import RealOwners
from opam_sandbox.building.requests import BuildRequest, Deb, Source
from opam_sandbox.errors import BuildFailed, LimitReached, MemoryShort, RequestError
from opam_sandbox.layer.description import DpkgFacts, Layer, installed_packages, read_layers
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.opam.package import OpamPackage, read_package
from opam_sandbox.opam.switch import HOME, SWITCH_STATE_DIR, environment
from opam_sandbox.request import safe_name
from opam_sandbox.sandbox import memory, view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.overlay import Done
from opam_sandbox.sandbox.view import LOG, View
from opam_sandbox.sandbox.watch import MEMORY

if TYPE_CHECKING:
    from opam_sandbox.building import twice  # most packages have no depexts


def run(request: BuildRequest, jobs: int) -> int:
    """Build the package with this many jobs. Returns the exit status; raises BuildFailed where the package does not build."""
    layers, package = read(request)
    rootless = is_rootless()

    def build(view: View, store: Store, library: Optional[Path]) -> Build:
        real_owners = RealOwners(view, store, layers, request.get("left_out", ()))
        return Build(view, store, library, layers, package, request, jobs, real_owners)

    bounds = asked.watch(Path(request["store"]))

    def make(store: Store, library: Optional[Path], room: int) -> None:
        def work(view: View) -> Facts:
            view.overlay.watch = bounds
            return build(view, store, library).run(first)

        first = None
        if request.get("twice") and request["package"]["debs"]:
            start = time.monotonic()
            with mounted(store, layers, name="first", room=room) as view:
                view.overlay.watch = bounds
                first = build(view, store, library).install_only()
            from opam_sandbox.building import twice

            twice.wait_for_another_time(start)
        make_layer(Identity("package", package.name, package.version), layers, store, work, room=room)

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        # Before anything of the package, or of its depexts, is there to have a say.
        library = sorted_readdir.library(store, layers[0])
        with store.memory() as room:
            try:
                make(store, library, room)
                return 0
            except (_OutOfMemory, MemoryShort, LimitReached) as error:
                # What lies in memory counts as memory.
                if not room or (isinstance(error, LimitReached) and error.limit != MEMORY):
                    raise
        make(store, library, 0)
        return 0

    return failures.recorded(
        Path(request["store"]),
        package.title,
        lambda told: run_isolated(lambda: told(inside), subordinates=bool(request["package"]["debs"])),
    )


def read(request: BuildRequest) -> Tuple[List[Layer], OpamPackage]:
    """The layers and the package of a request. Raises ToolError."""
    layers = read_layers(request["layers"])
    package = read_package(request["package"])
    for source in request["package"]["sources"]:
        safe_name(source["sha256"])
    if len(layers) < 2 or layers[0].kind != "base" or layers[1].kind != "opam-root":
        raise RequestError("layers: the first should be a base, and the second an opam-root")
    return layers, package


class _OutOfMemory(BuildFailed):
    """A build failed whose scratch files filled the memory they may take: on disk it may not."""


class Build:
    """A package's build in a mounted view. library: what sorts directories, if the base can have it."""

    def __init__(
        self,
        view: View,
        store: Store,
        library: Optional[Path],
        layers: Sequence[Layer],
        package: OpamPackage,
        request: BuildRequest,
        jobs: int,
        real_owners: RealOwners,
    ) -> None:
        self._view = view
        self._store = store
        self._library = library
        self._layers = layers
        self._overlay = view.overlay
        self._package = package
        self._sources: Sequence[Source] = request["package"]["sources"]
        self._debs: Sequence[Deb] = request["package"]["debs"]
        self._allowed = request.get("overlapping_files", ())
        self._later: Sequence[str] = request.get("later", [])
        self._tree = request.get("tree")
        self._with_test = request.get("with_test", False)
        self._jobs = jobs
        self._real_owners = real_owners

    def install_only(self) -> twice.Installed:
        """Install the depexts, and say what is there then. Raises BuildFailed."""
        self._unite()
        from opam_sandbox.building import twice

        self._install_debs()
        return twice.installed(self._overlay.set_aside(), self._real_owners.given)

    def run(self, first: Optional[twice.Installed] = None) -> Facts:
        """Change the view by the package, and nothing else. first: what another install of its depexts has made.

        Raises BuildFailed, also where that was something else."""
        timer = self._view.timer
        facts = self.prepare(first)
        with timer.step("opam"):
            self._install()
        with timer.step("state"):
            prepare_opam.put_opam_file_back(self._view, self._package)
        return facts

    def prepare(self, first: Optional[twice.Installed] = None) -> Facts:
        """Do all that comes before opam, as `run` does. Raises BuildFailed."""
        timer = self._view.timer
        with timer.step("state"):
            merged = self._unite()
        facts = Facts(opam={"package": self._package.title, "below": installed_packages(self._layers)})
        if self._debs:
            with timer.step("dpkg"):
                facts.dpkg = self._install_debs()
            if first is not None:
                from opam_sandbox.building import twice

                second = twice.installed(self._overlay.set_aside(), self._real_owners.given)
                twice.compare(first, second, self._package.title)
        elif merged:
            self._ldconfig()
        if self._union.triggers:
            facts.dpkg["triggered"] = self._union.triggers
        facts.given = self._real_owners.given
        self._preload()
        return facts

    # -- before --------------------------------------------------------------

    def _unite(self) -> bool:
        """Put what the layers below hold together, and then opam's records; returns whether any has a Debian part."""
        merged = dpkg_union.unite(self._view, [layer.dpkg for layer in self._layers])
        self._union = Union(self._view, self._store, self._layers)
        if not self._debs:
            with self._real_owners.shown(self._package.title) if self._union.is_open else nullcontext():
                self._make_union()
        self._prepare_opam()
        return merged

    def _make_union(self) -> None:
        self._union.make(self._allowed, f"dependencies of {self._package.title}", "`[opam].overlapping_files`")

    def _prepare_opam(self) -> None:
        installed = installed_packages(self._layers)
        prepare_opam.prepare(self._view, self._package, self._sources, self._tree, installed, self._later)
        if self._overlay.room:
            self._bind_memory()

    def _bind_memory(self) -> None:
        """Have opam unpack and build in memory. Nothing of it is the layer's: see `ownership`."""
        for name in ("build", "sources"):
            directory, target = self._overlay.scratch_files / name, f"{SWITCH_STATE_DIR}/{name}"
            directory.mkdir()
            view_files.make_directories(self._view.root, target, owner=self._overlay.opam)
            self._overlay.chown_to_opam(directory)
            self._overlay.bind(directory, target, writable=True)

    def _install_debs(self) -> DpkgFacts:
        with self._real_owners.shown(self._package.title):
            self._make_union()
            return self._run_dpkg()

    def _run_dpkg(self) -> DpkgFacts:
        from opam_sandbox.building import install_debs  # most packages have no depexts

        root = self._view.root
        before = dpkg.read(root)
        status = install_debs.install(self._view, self._debs, self._package.title)
        if status != 0:
            self._raise_if_memory_is_full()
            raise BuildFailed(f"{self._package.title}: dpkg failed (exit status {status}) to install its depexts")
        return dpkg.difference(before, root)

    def _ldconfig(self) -> None:
        env = {"PATH": environment(1)["PATH"]}
        self._overlay.run(["ldconfig", "-X"], env, self._view.log, user=False)

    # -- the build -----------------------------------------------------------

    def _install(self) -> None:
        done = self.run_opam()
        # A build that found no room may go on without what it could not write, and say that all went well.
        self._raise_if_memory_is_full()
        if done.returncode != 0:
            raise BuildFailed(
                f"opam package {self._package.title} failed to build (opam's exit status {done.returncode}); "
                f"what it printed is in {LOG}"
            )

    def run_opam(self, *, person: bool = False, **variables: str) -> Done:
        """Have opam install the package, in its environment and with these variables besides. person: see `Overlay.run`."""
        argv = [
            "opam",
            "install",
            "--yes",
            "--no-depexts",
            "--verbose",
            f"--solver={prepare_opam.SOLVER}",
            self._package.title,
        ]
        if self._with_test:
            argv.insert(2, "--with-test")
        env = {**environment(self._jobs), **variables}
        return self._overlay.run(argv, env, self._view.log, user=True, cwd=f"/{HOME}", person=person)

    def _preload(self) -> None:
        """Have programs see directories in one order on every machine, if the base can do so."""
        if self._library is not None:
            sorted_readdir.show(self._view, self._library)

    def _raise_if_memory_is_full(self) -> None:
        """Raises _OutOfMemory where a command found no room for its scratch files."""
        room = self._overlay.room
        # The program that found no room may have removed what it had written.
        if self._overlay.is_full() or (room and memory.ran_out(Path(LOG))):
            raise _OutOfMemory(f"opam package {self._package.title} does not build in {room} bytes of memory")
