"""`document`: HTML of what packages say about their modules, by the odoc of one of them, offline.

Writes `docs/`: index.html lists the packages and finds names, each package has a directory with one for each of its libraries,
and one for each module in there. What packages say of each other's modules leads there. The same layers give the same bytes.

odoc reads interfaces in the order of their dependencies (compile), then looks up what comments name (link), then writes pages.
All is made in the view, as user opam; what comes out is regular files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from opam_sandbox.documenting import library, order, pages, search
from opam_sandbox.documenting.library import Documented
from opam_sandbox.documenting.odoc import Job, Odoc
from opam_sandbox.documenting.requests import DocumentRequest
from opam_sandbox.documenting.units import Unit
from opam_sandbox.errors import RequestError
from opam_sandbox.layer.description import Layer, read_layers
from opam_sandbox.layer.mounted import mounted
from opam_sandbox.layer.store import Store
from opam_sandbox.request import safe_name
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated

OUTPUT = "docs"
# In the working directory of odoc's commands: what they compile and link, their indexes, the pages.
_MADE, _INDEX, _HTML = "made", "index", "html"
_HOME = "Packages"
# On top of what opam says in the view: the same on every machine.
_ENVIRONMENT = {"USER": "opam", "LOGNAME": "opam", "SHELL": "/bin/sh", "TERM": "dumb", "LANG": "C.UTF-8", "TZ": "UTC"}


def run(request: DocumentRequest, jobs: int) -> int:
    """Make the pages. Returns the exit status; raises ToolError, and then nothing of them is there."""
    layers = read_layers(request["layers"])
    if not layers or layers[-1].kind != "state":
        raise RequestError("layers: the last should be a state")
    by_directory = dict(zip(request["layers"], layers))
    for package in request["packages"]:
        safe_name(package["name"])
        if package["layer"] not in by_directory:
            raise RequestError(f"packages: {package['name']!r:.80} names no layer of the request")
    rootless = is_rootless()

    def inside() -> int:
        store = Store(Path(request["store"]), rootless)
        # On disk: what odoc makes of many packages is larger than what memory there is for builds.
        with mounted(store, layers, room=0) as view:
            odoc = Odoc(view, _environment(layers[-1]), jobs)
            odoc.check_version()
            found = library.find(request, by_directory, store, odoc.base_library())
            _compile(odoc, found)
            _link(odoc, found)
            _write_html(odoc, found, request)
            _take(odoc, found)
        return 0

    return run_isolated(inside)


def _environment(state: Layer) -> Dict[str, str]:
    given = dict(item.split("=", 1) for item in state.opam.get("env", ()) if "=" in item)
    return {**_ENVIRONMENT, **given}


def _compile(odoc: Odoc, found: Sequence[Documented]) -> None:
    modules = [unit for package in found for unit in package.units if not unit.is_page]
    said = [f"deps/{number}" for number in range(len(modules))]
    odoc.run("compile-deps", [Job(unit.file, ("compile-deps", unit.file), name) for unit, name in zip(modules, said)])
    depends = order.dependencies(
        {unit: order.parse(odoc.read(name).decode(errors="replace")) for unit, name in zip(modules, said)}
    )
    steps = order.levels(depends)
    paths = order.search_paths(depends, steps)
    for number, step in enumerate(steps):
        odoc.run(f"compile-{number}", [_compiled(unit, paths[unit]) for unit in step])
    odoc.write([(f"own/{name}", text) for package in found for name, text in package.own_pages.items()])
    own = [Unit(*_own(name), is_page=True) for package in found for name in package.own_pages]
    odoc.run(
        "compile-pages",
        [_compiled(unit, ()) for unit in (*(one for p in found for one in p.units if one.is_page), *own)],
    )


def _own(name: str) -> Tuple[str, str, str, str]:
    package, *between, base = name.split("/")
    return package, "/".join(between), base[: -len(".mld")], f"own/{name}"


def _compiled(unit: Unit, paths: Sequence[str]) -> Job:
    searched = tuple(word for path in paths for word in ("-I", f"{_MADE}/{path}"))
    argv = ("compile", "--output-dir", _MADE, "--parent-id", unit.parent, *searched, unit.file)
    return Job(unit.file, argv)


def _link(odoc: Odoc, found: Sequence[Documented]) -> None:
    by_name = {package.name: package for package in found}
    jobs = []
    for package in found:
        seen = [package, *(by_name[name] for name in package.below if name in by_name)]
        trees = [word for one in seen for word in ("-P", f"{one.name}:{_MADE}/{one.name}")]
        places: Dict[str, str] = {}
        for one in seen:
            for name in one.libraries:
                places.setdefault(name, f"{_MADE}/{one.name}/{name}")
        libraries = [word for name, place in places.items() for word in ("-L", f"{name}:{place}")]
        own = ("--current-package", package.name)
        for made in package.shown:
            jobs.append(Job(made, ("link", *trees, *libraries, *own, f"{_MADE}/{made}")))
        for name, made in package.library_pages.items():
            # Its own modules alone: another library may have some of the same names.
            place = ("-L", f"{name}:{_MADE}/{package.name}/{name}")
            jobs.append(Job(made, ("link", *trees, *place, *own, f"{_MADE}/{made}")))
    odoc.run("link", jobs)


def _write_html(odoc: Odoc, found: Sequence[Documented], request: DocumentRequest) -> None:
    scripts = (search.ENTRIES, search.SCRIPT)
    listed = sorted(request["packages"], key=lambda one: one["name"])
    first = pages.first_page(request["title"], listed, search.data_file(search.STYLE), scripts)
    odoc.write(
        [
            ("own/index.mld", first),
            *((f"{_INDEX}/{one.name}.files", "".join(f"{_MADE}/{made}l\n" for made in one.all_shown)) for one in found),
        ]
    )
    odoc.run(
        "compile-index",
        [
            Job(f"the package {one.name}", ("compile-index", *more, *_of_index(one.name, ending)))
            for one in found
            for ending, more in ((".odoc-index", ()), (".json", ("--json", "--simplified-json")))
        ],
    )
    odoc.run(
        "sidebar-generate",
        [
            Job(f"the package {one.name}", ("sidebar-generate", "-o", f"{index}.odoc-sidebar", f"{index}.odoc-index"))
            for one in found
            for index in [f"{_INDEX}/{one.name}"]
        ],
    )
    odoc.run(
        "compile-first", [Job("the first page", ("compile", "--output-dir", _MADE, "--parent-id", "", "own/index.mld"))]
    )
    odoc.run("link-first", [Job("the first page", ("link", f"{_MADE}/page-index.odoc"))])
    odoc.run(
        "html-generate",
        [
            Job("the first page", ("html-generate", "-o", _HTML, f"{_MADE}/page-index.odocl")),
            *(
                Job(
                    made,
                    (
                        *("html-generate", "-o", _HTML, "--sidebar", f"{_INDEX}/{package.name}.odoc-sidebar"),
                        *("--home-breadcrumb", _HOME, f"{_MADE}/{made}l"),
                    ),
                )
                for package in found
                for made in package.all_shown
            ),
        ],
    )
    odoc.run("support-files", [Job("support files", ("support-files", "-o", _HTML))])


def _of_index(package: str, ending: str) -> Tuple[str, ...]:
    return ("-o", f"{_INDEX}/{package}{ending}", "--file-list", f"{_INDEX}/{package}.files")


def _take(odoc: Odoc, found: Sequence[Documented]) -> None:
    """Copy the pages out of the view, and write beside them what the first page's script finds."""
    entries: List[search.Entry] = []
    for package in found:
        entries += search.entries(odoc.read(f"{_INDEX}/{package.name}.json"), package.name)
    for name in odoc.names(_HTML):
        _write(name, odoc.read(f"{_HTML}/{name}"))
    _write(search.ENTRIES, search.entries_script(entries))
    _write(search.SCRIPT, search.data_file(search.SCRIPT).encode())


def _write(name: str, content: bytes) -> None:
    path = Path(OUTPUT, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
