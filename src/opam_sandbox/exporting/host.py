"""What a switch needs of this machine, and does not bring: shared libraries, and for some their compiler.

Nothing of the switch is run for it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from typing import Callable, Dict, List, Mapping, Set

from opam_sandbox.exporting.tree import Programs

# What `ldconfig -p` says of libraries that programs of other kinds load; only for machines that have several.
_FLAGS = {"x86_64": "x86-64", "aarch64": "AArch64"}
_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"
# Debian packages for development, by what they have: without these nothing links with their library.
_DEVELOPMENT = re.compile(
    r"usr/(?:local/)?(?:include/.+|(?:lib|share)/(?:.+/)?pkgconfig/[^/]+\.pc|lib/(?:.+/)?lib[^/]+\.so)"
)


def known_libraries() -> Set[str]:
    """The names of the shared libraries that this machine's dynamic linker finds."""
    found: Set[str] = set()
    machine = platform.machine()
    for place in ("", "64", f"/{machine}-linux-gnu"):
        for top in ("/lib", "/usr/lib"):
            if os.path.isdir(top + place):
                found.update(name for name in os.listdir(top + place) if ".so" in name)
    program = shutil.which("ldconfig", path=_PLACES)
    for line in _output([program, "-p"]).splitlines() if program else ():
        match = re.match(r"\s+(\S+) \(([^)]*)\) => ", line)
        if match and _FLAGS.get(machine, "") in match[2]:
            found.add(match[1])
    return found


def missing_libraries(
    programs: Programs, in_switch: Callable[[str], bool], known: Set[str], depexts: Mapping[str, List[str]]
) -> List[str]:
    """A sentence for each shared library that the switch's files need, and that neither this machine nor the switch has.

    in_switch: whether the switch has something of a name. known: as `known_libraries`. depexts: by package, Debian's names."""
    bringers = {os.path.basename(path): title for path, title in sorted(programs.others.items()) if ".so" in path}
    needed: Dict[str, List[str]] = {}
    for name, elf in sorted(programs.elfs.items()):
        origin = os.path.dirname(name)
        places = [
            os.path.normpath(re.sub(r"\$ORIGIN|\$\{ORIGIN\}", origin, one)) for one in elf.paths if "ORIGIN" in one
        ]
        for library in elf.needed:
            if library not in known and not any(in_switch(f"{place}/{library}") for place in places):
                needed.setdefault(library, []).append(name)
    problems = []
    for library, names in sorted(needed.items()):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        title = bringers.get(library, "")
        bring = f"; it is among the depexts of {title}: {', '.join(depexts[title])}" if depexts.get(title) else ""
        problems.append(f"{library}, which {names[0]}{more} needs{bring}")
    return problems


def missing_development(programs: Programs, depexts: Mapping[str, List[str]], root: str = "/") -> List[str]:
    """A sentence for each package whose depexts for development this machine lacks."""
    lacking: Dict[str, str] = {}
    for path, title in sorted(programs.others.items()):
        wanted = _DEVELOPMENT.fullmatch(path) and depexts.get(title) and title not in lacking
        if wanted and not os.path.lexists(os.path.join(root, path)):
            lacking[title] = path
    return [
        f"{', '.join(depexts[title])}, for {title} (there is no /{path})" for title, path in sorted(lacking.items())
    ]


def has_c_compiler(path: str) -> bool:
    """Whether a PATH has what OCaml links native programs with."""
    return any(shutil.which(name, path=path) for name in ("gcc", "cc"))


def compiler_problem(version: str, path: str) -> str:
    """What is wrong with the OCaml of a PATH, for packages that the base's own one of a version has built; "" for nothing."""
    remedy = f"they were built by the OCaml {version} of the base's Debian, and take no other: install it (ocaml-nox)"
    program = shutil.which("ocamlc", path=path)
    if program is None:
        return f"no ocamlc in {path}: the packages bring no compiler, {remedy}"
    found = _output([program, "-version"]).strip()
    if found != version:
        return f"the OCaml {version}: {program} is {found or 'not one that runs'}. The packages bring no compiler, {remedy}"
    return ""


def _output(argv: List[str]) -> str:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", _PLACES), "LC_ALL": "C"},
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
