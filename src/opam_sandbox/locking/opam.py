"""`lock-opam`: a resolve's lockfile: opam's solution, and every byte that building it needs.

Solving runs inside the base, offline (`solve.py`); finding sources and .debs runs outside, and uses the network.
"""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple, Union

from opam_sandbox import opamfile
from opam_sandbox.dpkg import DATABASE
from opam_sandbox.errors import ToolError
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.layer import Layer, read_layers
from opam_sandbox.locking import formulas, toml_text
from opam_sandbox.locking.apt import Apt, LockedDeb
from opam_sandbox.locking.debian import deb_text
from opam_sandbox.locking.solve import find_package, parse_requirement, solve
from opam_sandbox.locking.sources import Locked, SourceFinder, wanted_sources
from opam_sandbox.maker import LOG, Timer, View
from opam_sandbox.opamroot import HOME, environment
from opam_sandbox.overlay import Overlay
from opam_sandbox.request import Request
from opam_sandbox.store import Store

_ARCHITECTURES = {
    "amd64": "x86_64",
    "arm64": "arm64",
    "armhf": "arm32",
    "i386": "x86_32",
    "ppc64el": "ppc64",
    "s390x": "s390x",
}


@dataclass
class _Package:
    name: str
    version: str
    opam: str
    files: List[Tuple[str, bytes]]
    depends: Tuple[str, ...]
    post: Tuple[str, ...]
    depexts: List[str]
    sources: List[Locked]
    debs: List[str]

    @property
    def title(self) -> str:
        return f"{self.name}.{self.version}"


def run(request: Request, jobs: int) -> int:
    requirements, constraints = request.strings("requirements"), request.strings("constraints")
    for text in (*requirements, *constraints):
        parse_requirement(text)
    layers = read_layers(request.strings("layers"))
    repositories = [(item.get("name", str), Path(item.get("path", str))) for item in request.objects("repositories")]
    rootless = is_rootless()
    code = run_isolated(lambda: _solve(request, layers, repositories, requirements, constraints, rootless))
    if code != 0:
        return code
    answer = json.loads(Path("solution.json").read_text())
    packages = _read_packages(answer)
    _lock_sources(packages, request)
    debs = _lock_debs(packages, answer["status"], request)
    with open("lockfile", "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(_text(request, requirements, constraints, packages, debs))
    return 0


# -- inside the namespaces, offline ----------------------------------------------


def _solve(
    request: Request,
    layers: Sequence[Layer],
    repositories: Sequence[Tuple[str, Path]],
    requirements: Sequence[str],
    constraints: Sequence[str],
    rootless: bool,
) -> int:
    store = Store(Path(request.get("store", str)), rootless)
    scratch = Path("scratch")
    overlay = Overlay([store.get(layer) for layer in layers], scratch, rootless)
    try:
        overlay.mount()
        with open(LOG, "wb") as log:
            view = View(overlay, layers, log, Timer(), rootless)
            directories = [(name, _directory(view, name, path)) for name, path in repositories]
            solution = solve(view, directories, requirements, constraints)
        variables = _variables(overlay.root, request.get("architecture", str))
        packages = []
        for name, version in sorted(solution.items()):
            directory = find_package(directories, name, version)
            packages.append(_describe(directory, name, version, solution, variables))
        status = (overlay.root / DATABASE / "status").read_text(encoding="utf-8", errors="surrogateescape")
        overlay.unmount()
        Path("solution.json").write_text(json.dumps({"packages": packages, "status": status}))
    finally:
        overlay.remove()
    return 0


def _directory(view: View, name: str, path: Path) -> Path:
    """The repository as a directory; an archive is unpacked with the base's tar."""
    if path.is_dir():
        return _top(path)
    target = Path("scratch/repositories") / name
    target.mkdir(parents=True)
    inside = view.overlay.root / "tmp"
    (inside / "archive").touch()
    (inside / "unpacked").mkdir()
    view.overlay.chown_to_opam(target)
    view.overlay.bind(path, "tmp/archive")
    view.overlay.bind(target, "tmp/unpacked", writable=True)
    argv = ["tar", "--extract", "--file=/tmp/archive", "--directory=/tmp/unpacked", "--no-same-owner"]
    done = view.overlay.run(argv, environment(1), view.log, user=True, cwd=f"/{HOME}")
    if done.returncode != 0:
        view.log.flush()
        raise ToolError(
            f"the archive of the opam repository {name!r} does not unpack:\n{Path(LOG).read_text(errors='replace')}"
        )
    return _top(target)


def _top(path: Path) -> Path:
    """The directory that has `packages/`: the repository itself, or the one directory that an archive wraps it in."""
    if (path / "packages").is_dir():
        return path
    below = [child for child in sorted(path.iterdir()) if (child / "packages").is_dir()]
    if len(below) == 1:
        return below[0]
    raise ToolError(f"{path} is no opam repository: it has no directory `packages`")


def _variables(root: Path, architecture: str) -> Dict[str, Union[bool, str]]:
    """opam's global variables in the base, as far as package formulas use them."""
    release: Dict[str, str] = {}
    for line in (root / "etc" / "os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        release[key] = value.strip('"')
    distribution = release.get("ID", "debian")
    return {
        "os": "linux",
        "os-distribution": distribution,
        "os-family": release.get("ID_LIKE", distribution).split()[0],
        "os-version": release.get("VERSION_ID", ""),
        "arch": _ARCHITECTURES.get(architecture, architecture),
        "opam-version": "2.3.0",
        "build": True,
        "with-test": False,
        "with-doc": False,
        "with-dev-setup": False,
        "with-tools": False,
        "dev": False,
    }


def _describe(
    directory: Path, name: str, version: str, solution: Mapping[str, str], variables: Mapping[str, Union[bool, str]]
) -> Dict[str, Any]:
    text = (directory / "opam").read_text(encoding="utf-8", errors="surrogateescape")
    items = {item.name: item for item in opamfile.parse(text, f"{name}.{version}: opam file")}
    formula = [items[field].value for field in ("depends", "depopts") if field in items]
    found = formulas.dependencies([value for value in formula if value is not None], name, version, solution, variables)
    depexts = items["depexts"].value if "depexts" in items else None
    files = []
    for path in sorted((directory / "files").rglob("*")):
        if path.is_file():
            content = base64.b64encode(path.read_bytes()).decode()
            files.append([os.fspath(path.relative_to(directory / "files")), content])
    return {
        "name": name,
        "version": version,
        "opam": text,
        "files": files,
        "depends": found.build,
        "post": found.post,
        "depexts": formulas.depexts(depexts, variables) if depexts is not None else [],
    }


# -- outside, with the network ---------------------------------------------------


def _read_packages(answer: Dict[str, Any]) -> List[_Package]:
    return [
        _Package(
            item["name"],
            item["version"],
            item["opam"],
            [(path, base64.b64decode(content)) for path, content in item["files"]],
            tuple(item["depends"]),
            tuple(item["post"]),
            item["depexts"],
            [],
            [],
        )
        for item in answer["packages"]
    ]


def _lock_sources(packages: Sequence[_Package], request: Request) -> None:
    wanted = [
        (package, source)
        for package in packages
        for source in wanted_sources(opamfile.parse(package.opam, package.title), package.title)
    ]
    if not wanted:
        return
    mirrors = request.strings("mirrors")
    with Apt(mirrors, request.strings("source_suites"), request.get("architecture", str), sources=True) as apt:
        finder = SourceFinder(apt.source_files(), mirrors, request.strings("archive_mirrors"))
    errors = []
    with ThreadPoolExecutor(8) as pool:
        futures = [(package, pool.submit(finder.lock, package.title, source)) for package, source in wanted]
        for package, future in futures:
            try:
                package.sources.append(future.result())
            except ToolError as error:
                errors.append(str(error))
    if errors:
        raise ToolError("\n".join(errors))


def _lock_debs(packages: Sequence[_Package], status: str, request: Request) -> List[LockedDeb]:
    """Give each package the .debs that its depexts need and that neither the base nor its dependencies have."""
    if not any(package.depexts for package in packages):
        return []
    by_name = {package.name: package for package in packages}
    locked: Dict[str, LockedDeb] = {}
    own: Dict[str, Set[str]] = {}
    with Apt(request.strings("mirrors"), [request.get("suite", str)], request.get("architecture", str), status) as apt:
        for package in packages:
            if package.depexts:
                try:
                    debs = apt.resolve(package.depexts)
                except ToolError as error:
                    raise ToolError(f"{package.title}: its depexts {', '.join(package.depexts)}: {error}") from None
                locked.update({deb.name: deb for deb in debs})
                own[package.name] = {deb.name for deb in debs}
    for package in packages:
        if package.name in own:
            there: Set[str] = set()
            for name in _below(package.name, by_name):
                there |= own.get(name, set())
            package.debs = sorted(own[package.name] - there)
    return [locked[name] for name in sorted(locked)]


def _below(name: str, packages: Mapping[str, _Package]) -> Set[str]:
    """All transitive build dependencies of a package."""
    seen: Set[str] = set()
    todo = list(packages[name].depends)
    while todo:
        dependency = todo.pop()
        if dependency not in seen:
            seen.add(dependency)
            todo += packages[dependency].depends
    return seen


def _text(
    request: Request,
    requirements: Sequence[str],
    constraints: Sequence[str],
    packages: Sequence[_Package],
    debs: Sequence[LockedDeb],
) -> str:
    resolve = request.get("resolve", str)
    text = toml_text.header(resolve) + toml_text.table(
        "[metadata]",
        {
            "lock_version": 1,
            "kind": "opam",
            "resolve": resolve,
            "base": request.get("base", str),
            "requirements": sorted(requirements),
            "constraints": sorted(constraints),
        },
    )
    for package in packages:
        text += toml_text.table(
            "[[package]]",
            {
                "name": package.name,
                "version": package.version,
                "depends": list(package.depends),
                "post_depends": list(package.post),
                "depexts": package.depexts,
                "debs": package.debs,
                "opam": package.opam,
            },
        )
        for source in package.sources:
            text += toml_text.table(
                "[[package.source]]",
                {"name": source.name, "urls": list(source.urls), "sha256": source.sha256, "size": source.size},
            )
        for path, content in package.files:
            text += toml_text.table("[[package.file]]", {"path": path, **_content(content)})
    return text + "".join(deb_text(deb) for deb in debs)


def _content(content: bytes) -> Dict[str, str]:
    try:
        return {"content": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(content).decode()}
