"""parts.json: each part has all that it imports, and nothing else, so that a change of one part is no change of the others."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

from tests.unit.conftest import REPOSITORY

PACKAGE = "opam_sandbox"
SOURCES = REPOSITORY / "src"
TABLE: Dict[str, Dict[str, List[str]]] = json.loads((SOURCES / PACKAGE / "parts.json").read_text())


def files_of(part: str) -> Set[str]:
    """The files that the table gives a part, relative to the package: an entry with `/` at its end is a whole room."""
    found: Set[str] = set()
    for entry in TABLE[part]["files"]:
        path = SOURCES / PACKAGE / entry
        assert path.exists(), f"{entry} is in the table of {part}, but is not there"
        if entry.endswith("/"):
            below = [one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts]
            found.update(one.relative_to(SOURCES / PACKAGE).as_posix() for one in below)
        else:
            found.add(entry)
    return found


def module_file(name: str) -> Path:
    """The file of a module of the tool, absent if there is none."""
    path = SOURCES / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The modules of the tool that a file imports anywhere, or names whole in a string (the tables of commands)."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: List[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        for name in names:
            if name.split(".")[0] == PACKAGE and " " not in name and module_file(name).exists():
                yield name


def closure(start: str) -> Set[str]:
    """The files of a module and of all that it imports, with the packages that these are in."""
    seen: Set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        waiting += imported(module_file(name))
    return {module_file(name).relative_to(SOURCES / PACKAGE).as_posix() for name in seen}


@pytest.mark.parametrize("part", sorted(TABLE))
def test_a_part_is_what_its_command_line_imports(part: str) -> None:
    needed = closure(f"{PACKAGE}.{part}.__main__")
    files = files_of(part)
    assert needed - files == set(), "missing in parts.json"
    # What is not Python lies beside the module that reads it.
    beside = {file for file in files if not file.endswith(".py") and Path(file).with_suffix(".py").as_posix() in needed}
    assert files - needed - beside == set(), "superfluous in parts.json"


def test_every_file_is_in_a_part() -> None:
    """A module that no part needs is dead. What is for people's programs, not for processes, is in none."""
    here = {
        path.relative_to(SOURCES / PACKAGE).as_posix()
        for path in (SOURCES / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here - set.union(*(files_of(part) for part in TABLE)) == {"parts.json", "py.typed", "BUILD.python"}


def test_what_builds_packages_knows_nothing_of_images() -> None:
    rooms = {file.partition("/")[0] for file in files_of("building") if "/" in file}
    assert rooms == {"beside", "building", "layer", "opam", "sandbox"}
    assert not {"opam/formulas.py", "layer/merge_tars.py"} & files_of("building")


@pytest.mark.parametrize("part", sorted(TABLE))
def test_commands_are_those_of_the_part(part: str) -> None:
    if part == "publishing":
        parser = importlib.import_module(f"{PACKAGE}.{part}.cli").make_parser()
        [commands] = [action.choices for action in parser._subparsers._group_actions]
    else:
        commands = importlib.import_module(f"{PACKAGE}.{part}.cli").COMMANDS
    assert sorted(TABLE[part]["commands"]) == sorted(commands)


@pytest.mark.parametrize("part", sorted(TABLE))
def test_a_part_alone_runs(part: str, tmp_path: Path) -> None:
    """With its own files and filelock: `--help` imports the command line, and each command's module imports what it needs."""
    for file in files_of(part):
        target = tmp_path / PACKAGE / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCES / PACKAGE / file, target)
    filelock = next(Path(path) / "filelock" for path in sys.path if (Path(path) / "filelock").is_dir())
    shutil.copytree(filelock, tmp_path / "filelock")
    shutil.copy(tmp_path / PACKAGE / str(TABLE[part]["main"]), tmp_path / "__main__.py")
    modules = sorted(
        file[: -len(".py")].replace("/", ".") for file in files_of(part) if file.endswith(".py") and "__" not in file
    )
    imports = "; ".join(f"import {PACKAGE}.{module}" for module in modules)
    for arguments in (
        ["-sSEB", str(tmp_path), "--help"],
        ["-sSEB", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {imports}"],
    ):
        done = subprocess.run([sys.executable, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr


def test_no_circles() -> None:
    """Modules import one another in one direction only, and so do rooms."""
    modules = [path for path in (SOURCES / PACKAGE).rglob("*.py") if path.name != "__init__.py"]
    arrows: Dict[str, Set[str]] = {}
    for path in modules:
        name = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        arrows[name] = {other for other in imported(path) if not module_file(other).name == "__init__.py"}
    rooms: Dict[str, Set[str]] = {}
    for name, others in arrows.items():
        room = name.split(".")[1]
        rooms.setdefault(room, set()).update({other.split(".")[1] for other in others} - {room})
    for graph in (arrows, rooms):
        while graph:
            free = {name for name, others in graph.items() if not others & set(graph)}
            assert free, f"a circle among {sorted(graph)}"
            graph = {name: others for name, others in graph.items() if name not in free}


# What takes a process of a fraction of a second longer to import than to use, or what few builds use.
_LATE = (
    *(
        "argparse",
        "concurrent.futures",
        "dataclasses",
        "difflib",
        "gzip",
        "inspect",
        "logging",
        "secrets",
        "shutil",
        "socket",
    ),
    *("tempfile", "opam_sandbox.layer.read_tar", "opam_sandbox.layer.unpack", "opam_sandbox.opam.opamfile"),
)


def test_a_build_starts_without_what_few_builds_need() -> None:
    script = (
        f"import sys; sys.path[:0] = [{str(SOURCES)!r}]; from opam_sandbox import start; start.prepare(); "
        "import opam_sandbox.building.cli, opam_sandbox.building.build; "
        f"print(*sorted(set(sys.modules) & set({_LATE!r})))"
    )
    done = subprocess.run([sys.executable, "-sSEB", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == []
