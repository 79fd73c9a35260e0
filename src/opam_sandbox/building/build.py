"""`build`: one opam package over the base and its dependencies' layers, its change captured as one layer.

opam itself builds the package, but is shown a world in which there is nothing to decide: a repository with this one
package, its opam file without dependencies; a switch in which its dependencies are installed; and the archives, verified
by opam once more, where opam keeps downloads. The original opam file is put back before the layer is made.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from opam_sandbox import dpkg
from opam_sandbox.building import sorted_readdir
from opam_sandbox.building.requests import BuildRequest, Deb, Source
from opam_sandbox.errors import BuildFailed, RequestError
from opam_sandbox.layer import overlaps
from opam_sandbox.layer.description import DpkgFacts, Layer, installed_packages, read_layers
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.opam import opamfile
from opam_sandbox.opam.package import OpamPackage, metadata, read_package
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, REPO_FILE, SWITCH_STATE_DIR, environment, stripped, switch_state
from opam_sandbox.request import check_file, safe_name
from opam_sandbox.sandbox import memory, view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import LOG, View

# Where this process's private directories are shown inside.
_REPOSITORY = f"{OPAM_ROOT}/repo/default"
_DOWNLOADS = f"{OPAM_ROOT}/download-cache"
_PACKAGES = f"{SWITCH_STATE_DIR}/packages"


def run(request: BuildRequest, jobs: int) -> int:
    """Build the package with this many jobs. Returns the exit status; raises BuildFailed where the package does not build."""
    layers = read_layers(request["layers"])
    package = read_package(request["package"])
    for source in request["package"]["sources"]:
        safe_name(source["sha256"])
    rootless = is_rootless()
    if len(layers) < 2 or layers[0].kind != "base" or layers[1].kind != "opam-root":
        raise RequestError("layers: the first should be a base, and the second an opam-root")

    def make(store: Store, library: Optional[Path], room: int) -> None:
        def work(view: View) -> Facts:
            allowed = request.get("overlapping_files", ())
            overlaps.check(store, layers, allowed, f"dependencies of {package.title}", "`[opam].overlapping_files`")
            return _Build(view, library, layers, package, request, jobs).run()

        make_layer(Identity("package", package.name, package.version), layers, store, work, room=room)

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        # Before anything of the package, or of its depexts, is there to have a say.
        library = sorted_readdir.library(store, layers[0])
        try:
            make(store, library, memory.room_for_one())
        except _OutOfMemory:
            make(store, library, 0)
        return 0

    return run_isolated(inside)


class _OutOfMemory(BuildFailed):
    """A build failed whose scratch files filled the memory they may take: on disk it may not."""


class _Build:
    """library: what sorts directories, if the base can have it."""

    def __init__(
        self,
        view: View,
        library: Optional[Path],
        layers: Sequence[Layer],
        package: OpamPackage,
        request: BuildRequest,
        jobs: int,
    ) -> None:
        self._view = view
        self._library = library
        self._layers = layers
        self._overlay = view.overlay
        self._package = package
        self._sources: Sequence[Source] = request["package"]["sources"]
        self._debs: Sequence[Deb] = request["package"]["debs"]
        self._with_test = request.get("with_test", False)
        self._jobs = jobs

    def run(self) -> Facts:
        """Change the view by the package, and nothing else. Raises BuildFailed."""
        timer = self._view.timer
        with timer.step("state"):
            merged = dpkg.merge(self._view.root, (layer.dpkg for layer in self._layers))
            self._prepare_opam()
        facts = Facts(opam={"package": self._package.title, "below": installed_packages(self._layers)})
        if self._debs:
            with timer.step("dpkg"):
                facts.dpkg = self._install_debs()
        elif merged:
            self._ldconfig()
        with timer.step("opam"):
            self._install()
        with timer.step("state"):
            self._put_metadata_back()
        return facts

    # -- before --------------------------------------------------------------

    def _prepare_opam(self) -> None:
        package = self._package
        repository, downloads = (self._view.scratch / name for name in ("repository", "downloads"))
        # In memory where there is room: of what is on a disk, /proc says where.
        packages = self._overlay.scratch_files / "packages"
        opam = stripped(package.opam, f"{package.title}: opam file") + "\n" + self._source_sections()
        files: List[Tuple[str, bytes]] = [("repo", REPO_FILE.encode())]
        files += metadata(package, f"packages/{package.name}/{package.title}", opam)
        _write_below(repository, files)
        installed = installed_packages(self._layers)
        # opam must not find that a dependency's own `post` dependencies are missing.
        _write_below(packages, [(f"{name}/opam", self._dependency(name)) for name in installed])
        downloads.mkdir()
        for source in self._sources:
            target = downloads / "sha256" / source["sha256"][:2] / source["sha256"]
            target.parent.mkdir(parents=True, exist_ok=True)
            # A copy, not a hard link to the input: Pants hands large inputs out as links into its own store.
            shutil.copyfile(source["file"], target)
            check_file(str(target), source["sha256"])
        self._view.write_files(
            [
                (f"{SWITCH_STATE_DIR}/switch-state", switch_state(installed, ()).encode()),
                (f"{_REPOSITORY}/.mount", b""),
                (f"{_DOWNLOADS}/.mount", b""),
                (f"{_PACKAGES}/.mount", b""),
            ]
        )
        view_files.remove(self._view.root, f"{_PACKAGES}/.mount")
        self._overlay.chown_to_opam(packages, *packages.rglob("*"))
        self._overlay.bind_tree(repository, _REPOSITORY)
        self._overlay.bind_tree(downloads, _DOWNLOADS)
        self._overlay.bind(packages, _PACKAGES, writable=True)
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

    def _dependency(self, name: str) -> bytes:
        text = view_files.read_text(self._view.root, f"{_PACKAGES}/{name}/opam")
        if text is None:
            raise RequestError(f"the layer of {name} lacks its opam file")
        return stripped(text, f"{name}: opam file").encode("utf-8", "surrogateescape")

    def _source_sections(self) -> str:
        """The url and extra-source sections, with the lock's sha256 as the only checksum, served from the downloads."""
        subpath = _subpath(self._package.opam, self._package.title)
        sections = []
        for source in self._sources:
            head = f"extra-source {opamfile.quote(source['name'])}" if source["name"] else "url"
            extra = f"  subpath: {opamfile.quote(subpath)}\n" if subpath and not source["name"] else ""
            sections.append(
                f"{head} {{\n  src: {opamfile.quote('https://locked.invalid/' + _basename(source))}\n"
                f"  checksum: {opamfile.quote('sha256=' + source['sha256'])}\n{extra}}}\n"
            )
        return "".join(sections)

    def _install_debs(self) -> DpkgFacts:
        root = self._view.root
        before, triggers = dpkg.read_status(root), dpkg.read_triggers(root)
        debs = self._view.scratch / "debs"
        debs.mkdir()
        for deb in self._debs:
            check_file(deb["file"], deb["sha256"])
        names = [_link(Path(deb["file"]), debs) for deb in self._debs]
        view_files.make_directories(root / "tmp", "debs")
        self._overlay.bind_tree(debs, "tmp/debs")
        env = {
            "PATH": environment(1)["PATH"],
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
            "SOURCE_DATE_EPOCH": environment(1)["SOURCE_DATE_EPOCH"],
        }
        command = [
            "dpkg",
            "--force-unsafe-io",
            "--force-confnew",
            "--install",
            *(f"/tmp/debs/{name}" for name in names),
        ]
        done = self._overlay.run(command, env, self._view.log, user=False)
        if done.returncode != 0:
            self._raise_if_memory_is_full()
            raise BuildFailed(
                f"{self._package.title}: dpkg failed (exit status {done.returncode}) to install its depexts"
            )
        self._overlay.unbind("tmp/debs")
        return dpkg.difference(before, triggers, root)

    def _ldconfig(self) -> None:
        env = {"PATH": environment(1)["PATH"]}
        self._overlay.run(["ldconfig", "-X"], env, self._view.log, user=False)

    # -- the build -----------------------------------------------------------

    def _install(self) -> None:
        argv = ["opam", "install", "--yes", "--no-depexts", "--verbose", self._package.title]
        if self._with_test:
            argv.insert(2, "--with-test")
        env = {**environment(self._jobs), **self._preload()}
        done = self._overlay.run(argv, env, self._view.log, user=True, cwd=f"/{HOME}")
        # A build that found no room may go on without what it could not write, and say that all went well.
        self._raise_if_memory_is_full()
        if done.returncode != 0:
            raise BuildFailed(
                f"opam package {self._package.title} failed to build (opam's exit status {done.returncode}); "
                f"what it printed is in {LOG}"
            )

    def _preload(self) -> Dict[str, str]:
        """The variable that has programs see directories in one order on every machine, if the base can do so."""
        if self._library is None:
            return {}
        # Among the devices: nothing of these is in a layer. Its content, as a mount would say where the store is.
        self._overlay.show_in_dev(sorted_readdir.LIBRARY, self._library.read_bytes())
        return {"LD_PRELOAD": f"/dev/{sorted_readdir.LIBRARY}"}

    def _raise_if_memory_is_full(self) -> None:
        """Raises _OutOfMemory where a command found no room for its scratch files."""
        room = self._overlay.room
        # The program that found no room may have removed what it had written.
        if self._overlay.is_full() or (room and memory.ran_out(Path(LOG))):
            raise _OutOfMemory(f"opam package {self._package.title} does not build in {room} bytes of memory")

    # -- after ---------------------------------------------------------------

    def _put_metadata_back(self) -> None:
        # The bound directory held stripped opam files: under it, the upper directory has nothing of this package yet. The view
        # is not mounted any more, and need not be.
        write_to = f"{_PACKAGES}/{self._package.title}"
        self._overlay.unbind(_PACKAGES)
        files = metadata(self._package, write_to, self._package.opam)
        view_files.write_all(self._overlay.upper, files, self._overlay.opam)


def _subpath(text: str, title: str) -> str:
    for item in opamfile.parse(text, f"{title}: opam file"):
        if item.name == "url":
            for field in item.items:
                if field.name == "subpath" and isinstance(field.value, opamfile.Str):
                    return field.value.value
    return ""


def _basename(source: Source) -> str:
    # opam names a source that is no archive by its URL's last part.
    return source["name"] or posixpath.basename(urlsplit(source["url"]).path) or "archive"


def _link(source: Path, directory: Path) -> str:
    """Have an input in a directory of this process's; returns its name."""
    name = posixpath.basename(source)
    real = os.path.realpath(source)
    try:
        os.link(real, directory / name)
    except OSError:  # of another file system, or somebody else's
        shutil.copyfile(real, directory / name)
    return name


def _write_below(directory: Path, files: List[Tuple[str, bytes]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
