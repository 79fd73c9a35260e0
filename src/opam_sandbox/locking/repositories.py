"""Reads the opam repositories once for all resolves that are solved against them.

opam takes some ten seconds to read all opam files of the public repository, and much less to load what it then keeps of
them. So it reads them here, in the base; what it keeps, the base's variables and the packages' files are this step's
result, in the directory `prepared`:

    state-*.cache    what opam keeps
    packages.zip     NAME.VERSION/opam, url and descr, NAME.VERSION/files/..., and NAME.VERSION/programs/..., which are those of
                     `files` that are executable; of a package that several repositories have, the first's
    base.json        {"variables": {opam's global variables in the base}, "status": dpkg's status file}
"""

from __future__ import annotations

import json
import lzma
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Set, Tuple, Union
from urllib.parse import quote_from_bytes, unquote_to_bytes

from opam_sandbox.dpkg import DATABASE
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.locking.package_files import File, PackageFiles
from opam_sandbox.locking.requests import BaseFacts, RepositoriesRequest
from opam_sandbox.opam.strings import quote
from opam_sandbox.opam.switch import HOME, OPAM_ROOT, environment
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import View

PREPARED = "prepared"
# What zipfile raises for an archive that is not whole, or is not one of its own.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, ValueError, LookupError, RuntimeError),
)

# Bytes of one file of a package. A lockfile has them all in it.
_LARGEST_FILE = 64 << 20

_PACKAGE = re.compile(r"[A-Za-z0-9_+-]+\.[A-Za-z0-9_+.~-]+\Z")


def prepare(request: RepositoriesRequest) -> int:
    """The step `repositories`. Raises ToolError where opam does not read them."""
    layers = read_layers(request["layers"])
    repositories = [(item["name"], Path(item["path"])) for item in request["repositories"]]
    rootless = is_rootless()

    def inside() -> int:
        with mounted(Store(Path(request["store"]), rootless), layers) as view:
            _prepare(view, repositories)
        return 0

    return run_isolated(inside)


def _prepare(view: View, repositories: Sequence[Tuple[str, Path]]) -> None:
    directories = [(name, _directory(view, name, path)) for name, path in repositories]
    target = Path(PREPARED)
    target.mkdir()
    with zipfile.ZipFile(target / "packages.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in package_files(directories):
            # A fixed time: the same repositories give the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)
    configure(view, [name for name, _ in directories])
    for name, path in directories:
        view.overlay.bind(path, f"{OPAM_ROOT}/repo/{name}")
    _opam(view, "list", "--all", "--short")
    for name in view_files.names(view.root, f"{OPAM_ROOT}/repo"):
        if name.startswith("state-") and name.endswith(".cache"):
            (target / name).write_bytes(view_files.read(view.root, f"{OPAM_ROOT}/repo/{name}") or b"")
    status = view_files.read_text(view.root, f"{DATABASE}/status") or ""
    base: BaseFacts = {"variables": parse_variables(_opam(view, "var", "--global")), "status": status}
    (target / "base.json").write_text(json.dumps(base, sort_keys=True))


def configure(view: View, names: Sequence[str]) -> None:
    """Tell opam in the merged view of its repositories, each with an empty directory to bind or mount it to."""
    config = view_files.read_text(view.root, f"{OPAM_ROOT}/config") or ""
    listed = " ".join(quote(name) for name in names)
    urls = " ".join(f"{quote(name)} {{{quote('file:///nonexistent/' + name)}}}" for name in names)
    config = re.sub(r"(?m)^repositories:.*$", lambda _: f"repositories: [{listed}]", config)
    view.write_files(
        [
            (f"{OPAM_ROOT}/config", config.encode()),
            (f"{OPAM_ROOT}/repo/repos-config", f'opam-version: "2.0"\nrepositories: [{urls}]\n'.encode()),
            *((f"{OPAM_ROOT}/repo/{name}/.mount", b"") for name in names),
        ]
    )


def _opam(view: View, *arguments: str) -> str:
    output = view.scratch / "output"
    with open(output, "wb") as out:
        done = view.overlay.run(
            ["opam", *arguments], environment(1), view.log, user=True, cwd=f"/{HOME}", stdout=out.fileno()
        )
    if done.returncode != 0:
        raise ToolError(f"`opam {arguments[0]}` failed in the base:\n{view.log_text()[-4000:].rstrip()}")
    return output.read_text(errors="replace")


def parse_variables(text: str) -> Dict[str, str]:
    """`opam var --global`: lines of a name, the value, and `# ` with an explanation. Variables without value left out."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        value, explained, _ = rest.lstrip(" ").partition("# ")
        if name and explained and value.rstrip(" "):
            found[name] = value.rstrip(" ")
    return found


def _directory(view: View, name: str, path: Path) -> Path:
    """The repository as a directory; an archive is unpacked with the base's tar."""
    if path.is_dir():
        return _top(Path(os.path.realpath(path)))
    target = view.scratch / "repositories" / name
    target.mkdir(parents=True)
    # Names of its own: what is bound for another repository is still there.
    archive, unpacked = f"{name}.archive", f"{name}.unpacked"
    view_files.write(view.root / "tmp", archive, b"")
    view_files.make_directory(view.root / "tmp", unpacked)
    view.overlay.chown_to_opam(target)
    view.overlay.bind(path, f"tmp/{archive}")
    view.overlay.bind(target, f"tmp/{unpacked}", writable=True)
    argv = ["tar", "--extract", f"--file=/tmp/{archive}", f"--directory=/tmp/{unpacked}", "--no-same-owner"]
    done = view.overlay.run(argv, environment(1), view.log, user=True, cwd=f"/{HOME}")
    if done.returncode != 0:
        raise ToolError(f"the archive of the opam repository {name!r} does not unpack:\n{view.log_text()}")
    return _top(target)


def _top(path: Path) -> Path:
    """The directory that has `packages/`: the repository itself, or the one directory that an archive wraps it in."""
    if _has_packages(path, ""):
        return path
    below = [child for child in view_files.names(path, "") if _has_packages(path, child)]
    if len(below) == 1:
        return path / below[0]
    raise ToolError(f"{path} is not an opam repository: it has no directory `packages`")


def _has_packages(path: Path, directory: str) -> bool:
    # An archive's one directory that is a link would be taken for a directory of this machine.
    real = view_files.resolve(path, os.path.join(directory, "packages"))
    return real is not None and view_files.is_directory(path, real) and not view_files.is_link(path, directory)


def package_files(repositories: Sequence[Tuple[str, Path]]) -> Iterator[Tuple[str, bytes]]:
    """(name in packages.zip, content) of every package of the repositories, first wins.

    Raises ToolError for a file that lies outside of its repository.
    """
    seen: Set[str] = set()
    for name, path in repositories:
        root = Path(os.path.realpath(path))
        for directory, beside in sorted(_package_directories(root).items(), key=lambda item: os.fsencode(item[0])):
            title = os.path.basename(directory)
            if title in seen:
                continue
            seen.add(title)
            for one in ("opam", *sorted(beside & {"url", "descr"})):
                yield f"{title}/{one}", _read(root, f"{directory}/{one}", name)[0]
            if "files" in beside:
                files = view_files.resolve(root, f"{directory}/files")
                if files is None:
                    raise _leads_out(f"{directory}/files", name)
                for file in sorted(view_files.walk(root, files), key=os.fsencode):
                    relative = quote_from_bytes(os.fsencode(os.path.relpath(file, files)))
                    content, executable = _read(root, file, name)
                    yield f"{title}/{'programs' if executable else 'files'}/{relative}", content


def _package_directories(root: Path) -> Dict[str, Set[str]]:
    """The directories of packages, and what stands beside the opam file of each. What lies below one is no package."""
    top = view_files.resolve(root, "packages")
    paths = list(view_files.walk(root, top)) if top is not None and view_files.is_directory(root, top) else []
    named = {os.path.dirname(path) for path in paths if os.path.basename(path) == "opam"}
    named = {directory for directory in named if _PACKAGE.match(os.path.basename(directory))}
    found: Dict[str, Set[str]] = {
        directory: set() for directory in named if not any(above in named for above in _above(directory))
    }
    for path in paths:
        for above in (path, *_above(path)):
            directory, base = os.path.split(above)
            if directory in found:
                found[directory].add(base)
    return found


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = os.path.dirname(path)
        yield path


def _read(root: Path, path: str, repository: str) -> Tuple[bytes, bool]:
    """A file's content, and whether its owner may execute it."""
    # This process stands outside of the base: a link would lead it to the host's files.
    try:
        file = view_files.open_file(root, path)
        if file is None:
            raise _leads_out(path, repository)
        with file:
            content = file.read(_LARGEST_FILE + 1)
            executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
    except OSError as error:
        raise ToolError(f"the opam repository {repository!r}: {path}: {error.strerror}") from None
    if len(content) > _LARGEST_FILE:
        raise ToolError(
            f"the opam repository {repository!r}: {path} has more than {_LARGEST_FILE} bytes, for which a lockfile has no room"
        )
    return content, executable


def _leads_out(path: str, repository: str) -> ToolError:
    return ToolError(f"the opam repository {repository!r}: {path} is a link to a file that is not in the repository")


class Packages:
    """What `prepare` put into packages.zip."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._versions: Dict[str, List[str]] = {}
        self._files: Dict[str, List[str]] = {}
        self._beside: Set[str] = set()
        for entry in self._archive.namelist():
            title, _, rest = entry.partition("/")
            if rest == "opam":
                name, _, version = title.partition(".")
                self._versions.setdefault(name, []).append(version)
            elif rest in ("url", "descr"):
                self._beside.add(entry)
            else:
                self._files.setdefault(title, []).append(rest)

    def names(self) -> Sequence[str]:
        """Of all packages."""
        return list(self._versions)

    def versions(self, name: str) -> Sequence[str]:
        """Of a package; none where no repository has it."""
        return self._versions.get(name, [])

    def _read(self, entry: str) -> bytes:
        try:
            return self._archive.read(entry)
        except DAMAGED as error:
            raise ToolError(f"what was prepared of the repositories is damaged: {entry!r:.200}: {error}") from None

    def package(self, name: str, version: str) -> PackageFiles:
        """All that the repositories have of a package. Raises ToolError where they have none, and for unusable names of files."""
        title = f"{name}.{version}"
        if version not in self._versions.get(name, ()):
            raise ToolError(f"no repository holds {title}, which opam chose")
        url, descr = (
            self._read(f"{title}/{one}") if f"{title}/{one}" in self._beside else None for one in ("url", "descr")
        )
        return PackageFiles(self._read(f"{title}/opam"), url, descr, self._package_files(title))

    def _package_files(self, title: str) -> List[File]:
        found: List[File] = []
        for entry in self._files.get(title, ()):
            kind, _, quoted = entry.partition("/")
            raw = unquote_to_bytes(quoted)
            try:
                found.append((raw.decode("utf-8"), self._read(f"{title}/{entry}"), kind == "programs"))
            except UnicodeDecodeError:
                raise ToolError(
                    f"{title}: the name of its file {raw!r} is not UTF-8, so a lockfile cannot hold it: put the package "
                    "with a renamed file into an overlay repository"
                ) from None
        return sorted(found)


Variables = Dict[str, Union[bool, str]]
