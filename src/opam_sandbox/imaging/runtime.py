"""`runtime`: what an image's roots need at run time, as one layer on a slim base.

Out of the layers of the roots and of what they depend on at run time come, below the switch: the roots' programs, `share`,
`etc` and shared objects that OCaml loads; out of any layer of a package, the shared libraries that a kept file needs, the
interpreters that kept scripts name, and what the request's `keep` says. Then every ELF file's libraries are looked up in
the result.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set

from opam_sandbox import dpkg, opamfile, owned
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.imaging.elf import Elf, read_elf
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.layer import Layer, read_layer, read_layers
from opam_sandbox.maker import LOG, Facts, View, make_layer
from opam_sandbox.opamroot import HOME, environment
from opam_sandbox.overlay import Overlay
from opam_sandbox.prepare import add_user
from opam_sandbox.request import Request
from opam_sandbox.store import Store

SWITCH = os.fsdecode(owned.SWITCH)
# Where files of Debian packages that dpkg did not install are said to be from: scanners of images read these.
STATUS_D = "var/lib/dpkg/status.d"
_KEPT = {b"etc/ld.so.cache"}

_SHARED_OBJECT = re.compile(r"\.so(?:\.[0-9.]+)?\Z")
# For editors and people only.
_NO_USE = (
    "share/doc/",
    "share/man/",
    "share/emacs/",
    "share/vim/",
    "share/merlin/",
    "share/ocaml/",
    "share/ocaml-config/",
)
_BYTECODE_RUNTIME = ("lib/ocaml/stublibs/", "lib/ocaml/ld.conf")


@dataclass(frozen=True)
class Package:
    """A package of the full image: `depends` are names, `root` whether the image is for it."""

    name: str
    opam: str
    depends: Sequence[str]
    root: bool


def run(request: Request, jobs: int) -> int:
    slim = read_layer(Path(request.get("slim", str)))
    layers = read_layers(request.strings("layers"))
    packages = [
        Package(item.get("name", str), item.get("opam", str), item.strings("depends"), item.get("root", bool))
        for item in request.objects("packages")
    ]
    keep = request.strings("keep")
    rootless = is_rootless()
    if slim.kind != "base" or not layers or layers[0].kind != "base":
        raise RequestError("slim, layers: bases are expected")

    def inside() -> int:
        store = Store(Path(request.get("store", str)), rootless)
        full = Overlay([store.get(layer) for layer in layers], Path("full"), rootless)
        full.mount()
        try:
            trees = {layer.name: store.get(layer) for layer in layers if layer.kind == "package"}

            def work(view: View) -> Facts:
                return _Selection(view, full.root, trees, packages, keep, layers).write()

            make_layer("package", "runtime", "", [slim], store, rootless, work, skip=_skip)
        finally:
            full.remove()
        return 0

    return run_isolated(inside)


def _skip(path: bytes, directory: bool) -> bool:
    return path not in _KEPT and owned.is_shared(path, directory)


# What packages need at run time.


def runtime_packages(packages: Sequence[Package]) -> Set[str]:
    """The roots, and what they depend on other than for builds, tests, documentation or development."""
    by_name = {package.name: package for package in packages}
    found: Set[str] = set()
    waiting = [package.name for package in packages if package.root]
    while waiting:
        name = waiting.pop()
        if name in found or name not in by_name:
            continue
        found.add(name)
        build_only = _build_only(by_name[name])
        waiting += [other for other in by_name[name].depends if other not in build_only]
    return found


def _build_only(package: Package) -> Set[str]:
    build: Set[str] = set()
    other: Set[str] = set()
    for item in opamfile.parse(package.opam, f"{package.name}: opam file"):
        if item.name in ("depends", "depopts") and item.value is not None:
            _collect(item.value, build, other)
    return build - other


_NOT_AT_RUN_TIME = {"build", "with-test", "with-doc", "with-dev-setup", "dev"}


def _collect(value: opamfile.Value, build: Set[str], other: Set[str]) -> None:
    if isinstance(value, opamfile.Str):
        other.add(value.value)
    elif isinstance(value, opamfile.Option_) and isinstance(value.value, opamfile.Str):
        only = any(_demands(item) for item in value.filters)
        (build if only else other).add(value.value.value)
    elif isinstance(value, opamfile.Binary):
        _collect(value.left, build, other)
        _collect(value.right, build, other)
    elif isinstance(value, (opamfile.ListOf, opamfile.Group)):
        for item in value.items:
            _collect(item, build, other)
    elif isinstance(value, opamfile.Option_):
        _collect(value.value, build, other)


def _demands(value: opamfile.Value) -> bool:
    """Whether a filter holds only where the package is not needed at run time."""
    if isinstance(value, opamfile.Ident):
        return value.name in _NOT_AT_RUN_TIME
    if isinstance(value, opamfile.Binary) and value.op == "&":
        return _demands(value.left) or _demands(value.right)
    if isinstance(value, opamfile.Binary) and value.op == "|":
        return _demands(value.left) and _demands(value.right)
    if isinstance(value, opamfile.Group):
        return any(_demands(item) for item in value.items)
    return False


def wanted(path: str, root: bool) -> bool:
    """Whether a file of a package is kept by its place: `path` is below the switch, `root`: of a package asked for."""
    if path.startswith(_NO_USE):
        return False
    if path.startswith(("share/", "etc/")):
        return True
    if path.startswith(("bin/", "sbin/")):
        return root
    return path.startswith("lib/") and not path.startswith("lib/ocaml/") and bool(_SHARED_OBJECT.search(path))


class _Selection:
    """Paths are relative to the roots of both views. `full`: everything; the view's own root: the slim base."""

    def __init__(
        self,
        view: View,
        full: Path,
        trees: Dict[str, Path],
        packages: Sequence[Package],
        keep: Sequence[str],
        layers: Sequence[Layer],
    ) -> None:
        self._view = view
        self._full = full
        self._slim = view.overlay.root
        self._trees = trees
        self._packages = packages
        self._keep = keep
        self._layers = layers
        self._of_packages: Set[str] = set()
        self._chosen: Set[str] = set()
        self._problems: List[str] = []
        self._owners: Optional[Dict[str, str]] = None
        self._copied: Dict[object, Path] = {}

    def write(self) -> Facts:
        for tree in self._trees.values():
            self._of_packages.update(_files(tree))
        self._choose()
        self._follow()
        if self._problems:
            raise ToolError(
                "the runtime image lacks what its files need:\n" + "\n".join(f"  * {text}" for text in self._problems)
            )
        for path in sorted(self._chosen):
            self._copy(path)
        facts = self._debian_packages()
        self._finish()
        return facts

    # -- what is taken -------------------------------------------------------

    def _choose(self) -> None:
        at_run_time = runtime_packages(self._packages)
        roots = {package.name for package in self._packages if package.root}
        for name in sorted(at_run_time & set(self._trees)):
            for path in _files(self._trees[name]):
                if path.startswith(SWITCH + "/") and wanted(path[len(SWITCH) + 1 :], name in roots):
                    self._take(path)
        for pattern in self._keep:
            expression = re.compile(fnmatch.translate(pattern.lstrip("/")))
            # The build base's own files only when asked for by their whole name: walking it all takes long.
            found = [path for path in self._of_packages if expression.match(path)]
            if not found and os.path.lexists(self._full / pattern.lstrip("/")):
                found = [pattern.lstrip("/")]
                directory = self._full / found[0]
                if directory.is_dir() and not directory.is_symlink():
                    found = [f"{found[0]}/{path}" for path in _files(directory)]
            if not found:
                raise ToolError(f"runtime_keep: {pattern} matches no file of the image's packages and none of its base")
            for path in found:
                self._take(path)

    def _take(self, path: str) -> bool:
        """Take a file and, for a link, what it leads to. False where there is none in the full image."""
        while path not in self._chosen:
            full = self._full / path
            try:
                mode = os.lstat(full).st_mode
            except OSError:
                return False
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                return True
            self._chosen.add(path)
            if not stat.S_ISLNK(mode):
                return True
            path = _target(path, os.readlink(full))
            if os.path.lexists(self._slim / path):
                return True
        return True

    # -- what that needs -----------------------------------------------------

    def _follow(self) -> None:
        done: Set[str] = set()
        while self._chosen - done:
            for path in sorted(self._chosen - done):
                done.add(path)
                full = self._full / path
                if full.is_symlink():
                    continue
                elf = read_elf(full)
                if elf is not None:
                    self._follow_elf(path, elf)
                else:
                    self._follow_script(path)

    def _follow_script(self, path: str) -> None:
        with open(self._full / path, "rb") as file:
            line = file.readline(256)
        if not line.startswith(b"#!"):
            return
        words = os.fsdecode(line[2:].strip()).split()
        if not words:
            return
        program = _resolve(self._full, words[0].lstrip("/"))
        if self._exists(words[0].lstrip("/")):
            return
        if not self._take(words[0].lstrip("/")):
            self._problems.append(f"/{path} is run by {words[0]}, which is in neither image")
        elif program and program not in self._of_packages:
            self._problems.append(
                f"/{path} is run by {words[0]}, which is not in the slim base: add {self._owner(program)} to its "
                "`packages`, or the file to `runtime_keep`"
            )
        elif words[0].startswith(f"/{SWITCH}/bin/ocamlrun"):
            # A bytecode program: its primitives lie in shared objects that the runtime finds by ld.conf.
            for name in self._of_packages:
                if name.startswith(tuple(f"{SWITCH}/{part}" for part in _BYTECODE_RUNTIME)):
                    self._take(name)

    def _follow_elf(self, path: str, elf: Elf) -> None:
        if elf.interpreter and not self._exists(elf.interpreter.lstrip("/")):
            self._problems.append(f"/{path} needs the dynamic linker {elf.interpreter}, which the slim base lacks")
        own = [part.replace("$ORIGIN", "/" + os.path.dirname(path)).replace("${ORIGIN}", "") for part in elf.paths]
        own = [os.path.normpath(part).lstrip("/") for part in own]
        for name in elf.needed:
            if "/" in name:
                places = [os.path.dirname(name).lstrip("/")]
            else:
                places = [*own, *self._directories(self._slim)]
            file = os.path.basename(name)
            if any(self._exists(f"{place}/{file}") for place in places):
                continue
            candidates = [f"{place}/{file}" for place in [*own, *self._directories(self._full)]]
            there = next((one for one in candidates if os.path.lexists(self._full / one)), None)
            if there is None:
                self._problems.append(f"/{path} needs the library {name}, which is not in the full image either")
                continue
            real = _resolve(self._full, there)
            if (real or there) in self._of_packages:
                self._take(there)
            else:
                self._problems.append(
                    f"/{path} needs the library {name}, which is not in the slim base: add "
                    f"{self._owner(real or there)} to its `packages`"
                )

    def _exists(self, path: str) -> bool:
        """Whether a path is in the slim base or taken, links followed."""
        real = _resolve(self._slim, path)
        if real is not None:
            return True
        real = _resolve(self._full, path)
        return real is not None and real in self._chosen

    def _directories(self, root: Path) -> List[str]:
        """Where the dynamic linker looks in a root: ld.so.conf's directories, then its own."""
        found: List[str] = []
        for conf in sorted((root / "etc/ld.so.conf.d").glob("*.conf")):
            for line in conf.read_text(errors="replace").splitlines():
                line = line.partition("#")[0].strip()
                if line.startswith("/"):
                    found.append(line.strip("/"))
        return [*found, "lib", "usr/lib", "lib64", "usr/lib64"]

    # -- Debian's packages ---------------------------------------------------

    def _owner(self, path: str) -> str:
        name = self._list_owners().get(path, "")
        return f"the Debian package {name}" if name else "the Debian package that has it"

    def _list_owners(self) -> Dict[str, str]:
        """Path -> the Debian package of the full image that has it, by dpkg's lists."""
        if self._owners is None:
            self._owners = {}
            for file in sorted((self._full / dpkg.DATABASE / "info").glob("*.list")):
                package = file.name[: -len(".list")].partition(":")[0]
                for line in file.read_text(errors="surrogateescape").splitlines():
                    path = line.lstrip("/")
                    self._owners.setdefault(path, package)
                    if path.startswith(("lib/", "bin/", "sbin/", "lib64/")):  # links to what is below /usr
                        self._owners.setdefault(f"usr/{path}", package)
        return self._owners

    def _debian_packages(self) -> Facts:
        """Says which Debian packages single files are from, where image scanners look for it."""
        status: Dict[str, str] = {}
        for layer in self._layers:
            status.update(layer.dpkg.get("status", {}))
        status = {**dpkg.read_status(self._full), **status}
        owners = self._list_owners()
        named = {owners[path] for path in self._chosen if path in owners and not path.startswith(SWITCH)}
        present = {key.partition(":")[0] for key in dpkg.read_status(self._slim)}
        facts: Dict[str, Any] = {}
        for key, paragraph in sorted(status.items()):
            name = key.partition(":")[0]
            if name in named and name not in present:
                facts[key] = paragraph
                directory = self._slim / STATUS_D
                directory.mkdir(parents=True, exist_ok=True)
                (directory / name).write_text(paragraph + "\n", errors="surrogateescape")
                (directory / name).chmod(0o644)
        return Facts(dpkg={"status": facts} if facts else {})

    # -- writing -------------------------------------------------------------

    def _copy(self, path: str) -> None:
        source, target = self._full / path, self._slim / path
        self._make_parents(PurePosixPath(path).parent)
        if os.path.lexists(target):
            os.unlink(target)
        if source.is_symlink():
            os.symlink(os.readlink(source), target)
        else:
            # opam installs a program of several names as often as it has names: here it is one file.
            status = source.stat()
            key = (file_sha256(source)[0], stat.S_IMODE(status.st_mode), owned.owner(os.fsencode(path)))
            first = self._copied.setdefault(key, target)
            if first != target:
                os.link(first, target)
                return
            shutil.copyfile(source, target)
            shutil.copystat(source, target)
        self._own(target, os.fsencode(path))

    def _make_parents(self, path: PurePosixPath) -> None:
        target = self._slim / path
        if target.is_dir():
            return
        self._make_parents(path.parent)
        target.mkdir()
        target.chmod(stat.S_IMODE((self._full / path).stat().st_mode))
        self._own(target, os.fsencode(path))

    def _own(self, target: Path, path: bytes) -> None:
        if not self._view.rootless:
            os.chown(target, *owned.owner(path), follow_symlinks=False)

    def _finish(self) -> None:
        if not os.path.lexists(self._slim / "etc/passwd") or not self._has_user():
            add_user(self._slim)
        self._make_parents(PurePosixPath(HOME) / ".")
        done = self._view.overlay.run(
            ["/sbin/ldconfig", "-X"], {"PATH": environment(1)["PATH"]}, self._view.log, user=False
        )
        if done.returncode != 0:
            raise ToolError(f"ldconfig failed in the runtime image (exit status {done.returncode}), see {LOG}")

    def _has_user(self) -> bool:
        return any(line.startswith("opam:") for line in (self._slim / "etc/passwd").read_text().splitlines())


def _files(tree: Path) -> Iterator[str]:
    """What is in a tree but directories, whiteouts and the records of packages managers, as relative paths."""
    top = os.fspath(tree)
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), top)
            if not path.startswith((f"{SWITCH}/.opam-switch/", f"{dpkg.DATABASE}/")):
                yield path
    # os.walk lists links to directories among the directories.
    for directory, names, _ in os.walk(top):
        for name in names:
            if os.path.islink(os.path.join(directory, name)):
                yield os.path.relpath(os.path.join(directory, name), top)


def _target(path: str, link: str) -> str:
    """Where a link at `path` leads, relative to the root."""
    return os.path.normpath(os.path.join("/" + os.path.dirname(path), link)).lstrip("/")


def _resolve(root: Path, path: str) -> Optional[str]:
    """The path without links, all of them taken as inside of `root`; None where it leads nowhere."""
    parts: List[str] = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: List[str] = []
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = os.path.join(os.fspath(root), *done, part)
        try:
            mode = os.lstat(here).st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            done.append(part)
            continue
        links += 1
        if links > 40:
            return None
        link = os.readlink(here)
        if link.startswith("/"):
            done = []
        parts += [one for one in link.split("/") if one not in ("", ".")][::-1]
    return "/".join(done)
