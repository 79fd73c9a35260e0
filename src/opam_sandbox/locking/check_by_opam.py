"""Has the base's opam read the opam files of a solution: a field that it does not understand is one that it passes over."""

from __future__ import annotations

import re
from typing import List, Mapping, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.requests import SolvedPackage
from opam_sandbox.opam.switch import HOME, environment
from opam_sandbox.sandbox.view import View

# Those that say what is built or what the package needs; without another one, such as a maintainer, the same is built.
_FIELDS = {
    *("available", "build", "build-env", "conflict-class", "conflicts", "depends", "depexts", "depopts", "extra-files"),
    *("extra-source", "features", "flags", "install", "patches", "run-test", "setenv", "substs", "url"),
    *("build-doc", "build-test", "libraries", "syntax", "os", "ocaml-version"),
}
_FILE = re.compile(r"\S*/([^/\s]+)/opam: ")
# Errors of `opam lint`: 2 is a file that it does not read at all, 3 a field.
_ERROR = re.compile(r"\s+error\s+(2|3): (File format error(?: in '([^']*)')?.*)")
_PLACE = re.compile(r" at line \d+, column \d+")
_TOP = "home/opam/opam-files"


def check_by_opam(view: View, packages: Sequence[SolvedPackage]) -> None:
    """Raise ToolError for the opam files of which opam would pass over a part that matters."""
    if not packages:
        return
    files = [(f"{item['name']}.{item['version']}", item["opam"]) for item in packages]
    view.write_files((f"{_TOP}/{title}/opam", text.encode("utf-8", "surrogateescape")) for title, text in files)
    output = view.scratch / "lint"
    with open(output, "wb") as out:
        argv = ["opam", "lint", *(f"/{_TOP}/{title}/opam" for title, _ in files)]
        # Its exit status tells of style as well.
        view.overlay.run(argv, environment(1), view.log, user=True, cwd=f"/{HOME}", stdout=out.fileno())
    own = {f"{item['name']}.{item['version']}": item["local"] for item in packages if "local" in item}
    problems = problems_of(output.read_text(errors="replace"), own)
    if problems:
        listed = "\n  ".join(problems)
        raise ToolError(
            f"opam does not understand a part of these opam files, and would build without it:\n  {listed}\nCorrect those "
            "of the project; put other packages with a corrected opam file into an overlay repository."
        )


def problems_of(printed: str, own: Mapping[str, str]) -> List[str]:
    """What `opam lint` says of fields that matter, each with its package. own: the files of the project's own packages, by
    NAME.VERSION, whose texts are not as they were read: places in them are left out."""
    found: List[str] = []
    title = ""
    for line in printed.splitlines():
        file = _FILE.match(line)
        error = _ERROR.match(line)
        if file:
            title = file[1]
        elif error and (error[1] == "2" or error[3] in _FIELDS):
            found.append(f"{own[title]}: {_PLACE.sub('', error[2])}" if title in own else f"{title}: {error[2]}")
    return found
