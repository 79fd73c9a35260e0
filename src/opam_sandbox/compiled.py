"""The tool's own modules as bytecode, kept in the store: a process of a fraction of a second does not compile them anew.

They cannot come with the sources. Those are part of every process's cache key, which is to be the same on all machines, and
bytecode is another one for each version of Python. Nor can Python keep it beside the sources, which are read-only and another
directory for each process. So it is a file in the directory `compiled` of the store:

    NAME      the sha256 (hex) of the interpreter's version and of all modules' names and sources
    content   the sha256 (32 bytes) of what follows; a marshalled mapping of modules' names to (file, is a package, bytecode)

A process reads all sources all the same, so it runs what it was given and nothing else. A file is made beside, synced, and
renamed; what its digest does not fit is never run, but made again. The directory is this user's alone (0700), as the store is;
views of builds do not show it, and what packages make is moved into other directories of the store.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import marshal
import os
import stat
import sys
import time
from types import CodeType, ModuleType
from typing import Dict, List, Optional, Sequence, Tuple

# The store is called so in every process; see the backend's `process.py`.
_STORE = "store"
_DIRECTORY = "compiled"
_DIGEST_SIZE = 32

# Those of other versions of the tool go after so many seconds; who still wants one makes it again.
_KEPT = 14 * 24 * 3600

# By module: its file, as tracebacks show it, whether it is a package, and its marshalled code.
_Modules = Dict[str, Tuple[str, bool, bytes]]


def use() -> None:
    """Have what is imported of this package from now on be what is kept, or keep it. Nothing is done without a private store in
    the current directory, or where Python itself may keep bytecode (`-B` is not set). No error is raised for what can be had
    without."""
    top, package = os.path.split(os.path.dirname(__file__))
    if not sys.dont_write_bytecode or not _is_private(_STORE):
        return
    sources = _sources(top, package)
    path = os.path.join(_STORE, _DIRECTORY, _key(sources))
    modules = _read(path)
    if modules is None:
        modules = _compile(top, sources)
        _keep(path, modules)
    sys.meta_path.insert(0, _Finder(top, modules))


class _Finder:
    """Finds and loads the modules; of everything else, it knows nothing."""

    def __init__(self, top: str, modules: _Modules) -> None:
        self._top = top
        self._modules = modules

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """As importlib asks for it."""
        found = self._modules.get(name)
        if found is None:
            return None
        file, is_package, _ = found
        spec = importlib.machinery.ModuleSpec(name, self, origin=os.path.join(self._top, file), is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(str(spec.origin))]
        return spec

    def create_module(self, spec: object) -> None:
        """As importlib does it."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        exec(marshal.loads(self._modules[module.__name__][2]), module.__dict__)


def _sources(top: str, package: str) -> List[Tuple[str, bytes]]:
    """(path below `top`, content) of the package's modules, in order. Raises OSError."""
    found: List[Tuple[str, bytes]] = []
    waiting = [package]
    while waiting:
        directory = waiting.pop()
        with os.scandir(os.path.join(top, directory)) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries]
        for name, is_directory in listed:
            path = f"{directory}/{name}"
            if is_directory:
                waiting.append(path)
            elif name.endswith(".py"):
                found.append((path, _content(os.open(os.path.join(top, path), os.O_RDONLY | os.O_CLOEXEC))))
    return sorted(found)


def _content(descriptor: int) -> bytes:
    """All of an open file, which is closed. Raises OSError."""
    with open(descriptor, "rb", buffering=0) as file:
        return file.read()


def _key(sources: Sequence[Tuple[str, bytes]]) -> str:
    # Of the interpreter all that may have a say: its build, and what `-O` leaves out.
    digest = hashlib.sha256(f"{sys.version} {sys.implementation.cache_tag} {sys.flags.optimize}\n".encode())
    for path, content in sources:
        digest.update(b"%s %d\n" % (os.fsencode(path), len(content)))
        digest.update(content)
    return digest.hexdigest()


def _is_private(path: str) -> bool:
    """Whether this is a directory of this user's which nobody else can enter."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700


def _read(path: str) -> Optional[_Modules]:
    """What was kept; None if there is none that is whole."""
    if not _is_private(os.path.dirname(path)):
        return None
    try:
        content = _content(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError:
        return None
    body = memoryview(content)[_DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != content[:_DIGEST_SIZE]:
        return None
    modules: _Modules = marshal.loads(body)
    return modules


def _compile(top: str, sources: Sequence[Tuple[str, bytes]]) -> _Modules:
    """Raises SyntaxError for what is no Python, as an import does."""
    modules: _Modules = {}
    for path, content in sources:
        name, is_package = path[: -len(".py")].replace("/", "."), path.endswith("/__init__.py")
        # Relative to the sandbox, and so the same in all of them.
        shown = os.path.join(os.path.basename(top), path)
        code: CodeType = compile(content, shown, "exec", dont_inherit=True)
        modules[name[: -len(".__init__")] if is_package else name] = (path, is_package, marshal.dumps(code))
    return modules


def _keep(path: str, modules: _Modules) -> None:
    """Write the file whole, or not at all: the next process may keep it as well."""
    directory = os.path.dirname(path)
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not _is_private(directory):
            return
        _remove_old(directory)
        body = marshal.dumps(modules)
        try:
            with open(temporary, "xb") as out:
                out.write(hashlib.sha256(body).digest() + body)
                out.flush()
                os.fsync(out.fileno())
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:
        pass  # a full disk says so where it matters


def _remove_old(directory: str) -> None:
    """What is old, whoever made it, and what a kill left half-written; raises OSError."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _KEPT:
                os.unlink(entry.path)
