"""What the sweep over real packages found: whose a difference is, which are explained, and the page that says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from tests.support.checkout import ROOT

OVERLAY = ROOT / "3rdparty/opam/overlay/packages"
# Compared as well, and says whose a path is.
MORE = (
    'for f in .opam-switch/install/*.changes; do f=${f##*/}; echo "## changes ${f%.changes}"; '
    'cat .opam-switch/install/"$f"; done\n'
)
_ADDED = re.compile(r'"((?:[^"\\]|\\.)+)" \{')
_OF_PACKAGE = re.compile(r"[-+](?:var|changes) ([^:]+): ")
_PATH = re.compile(r'[-+](?:files: ([^|]+)\||contents: [0-9a-f]{64}  (.+)$|records: .*"((?:[^"\\]|\\.)+)" \{)')
_RECORD = re.compile(r"\.opam-switch/(?:install|config|packages/cache)/([^./]+)\.")

# Package -> (what all lines of its difference look like, why they are there). A line that looks otherwise is not explained.
EXPLAINED: Mapping[str, Tuple[str, str]] = {
    "extlib": (
        r"lib/extlib/optParse\.cmti\b|extlib\.changes$",
        "`optParse.cmti` is one of two, now this, now that, where dune has several jobs; with one job, three of three are alike",
    ),
    "omake": (
        r"bin/omake\b|omake\.changes$",
        "`bin/omake` has the time of its build in it: its build asks the clock",
    ),
}

SWITCH = "(the switch)"


def owners(dump: str) -> Dict[str, str]:
    """Path below the switch -> name of the package that added it, by the dump of an image with `MORE`."""
    result: Dict[str, str] = {}
    package = ""
    for line in dump.splitlines():
        if line.startswith("## "):
            package = line[len("## changes ") :] if line.startswith("## changes ") else ""
        elif package:
            for path in _ADDED.findall(line):
                result.setdefault(path, package)
    return result


def owner(line: str, paths: Mapping[str, str]) -> str:
    """Name of the package whose a line of the diff is, `SWITCH` if it is no one's."""
    match = _OF_PACKAGE.match(line)
    if match:
        return match[1]
    match = _PATH.match(line)
    if not match:
        return SWITCH
    path = match[1] or match[2] or match[3]
    record = _RECORD.match(path)
    return record[1] if record else paths.get(path, SWITCH)


def by_package(lines: Iterable[str], titles: Iterable[str], dump: str) -> Dict[str, List[str]]:
    """Title of each package (and `SWITCH`) -> its lines of the diff."""
    by_name = {title.partition(".")[0]: title for title in titles}
    result: Dict[str, List[str]] = {title: [] for title in by_name.values()}
    paths = owners(dump)
    for line in lines:
        name = owner(line, paths)
        result.setdefault(by_name.get(name, SWITCH), []).append(line)
    return result


def is_explained(title: str, lines: Iterable[str]) -> bool:
    """Whether all lines of a package's difference are of the kind that is explained."""
    pattern, _ = EXPLAINED.get(title.partition(".")[0], ("(?!)", ""))
    return all(re.search(pattern, line) for line in lines)


class Results:
    """What was found, kept in a JSON file: group -> title -> lines of the diff."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.groups: Dict[str, Dict[str, List[str]]] = json.loads(file.read_text()) if file.exists() else {}

    def add(self, group: str, found: Dict[str, List[str]]) -> None:
        """Keep what a group's comparison found, in place of what an earlier one did."""
        self.groups[group] = found
        self._file.write_text(json.dumps(self.groups, indent=1, sort_keys=True))

    def packages(self) -> Dict[str, Dict[str, Any]]:
        """Title -> `groups`, and `lines`: those of all groups."""
        result: Dict[str, Dict[str, Any]] = {}
        for group, found in self.groups.items():
            for title, lines in found.items():
                entry = result.setdefault(title, {"groups": [], "lines": []})
                entry["groups"].append(group)
                entry["lines"] += lines
        return {title: result[title] for title in sorted(result)}

    def differing(self) -> List[str]:
        """The titles of packages with a difference that is not explained."""
        return [title for title, found in self.packages().items() if not is_explained(title, found["lines"])]

    def summary(self, group: str) -> str:
        """A line on a group."""
        found = self.groups[group]
        bad = [title for title, lines in found.items() if lines]
        return f"{len(found)} packages, {len(bad)} differ: {' '.join(bad)}"

    def page(self) -> str:
        """All of it as a page."""
        packages = self.packages()
        switch = packages.pop(SWITCH, {"lines": []})["lines"]
        same = [title for title, found in packages.items() if not found["lines"]]
        different = [title for title in packages if title not in same]
        lines = [
            *_HEAD,
            f"Compared are {len(packages)} packages: {len(same)} are the same, {len(different)} differ.",
            "",
        ]
        lines += ["| package | version | groups | by hand and by us |", "|---|---|---|---|"]
        for title, found in packages.items():
            name, _, version = title.partition(".")
            what = "the same"
            if found["lines"]:
                explained = is_explained(title, found["lines"])
                what = EXPLAINED[name][1] if explained else f"not explained: `{found['lines'][0][:100]}`"
            version += "\\*" if (OVERLAY / name / title).is_dir() else ""
            lines.append(f"| {name} | {version} | {', '.join(found['groups'])} | {what.replace('|', chr(92) + '|')} |")
        if switch:
            lines += ["", "Of the switch itself:", "", *(f"    {line}" for line in switch[:20])]
        return "\n".join([*lines, ""])


_HEAD = [
    "# Real packages, by hand and by us",
    "",
    "What `tests/sweeps/real_packages.py` found: packages of the public opam repository whose archives Debian's source pool has,",
    "or that have none, on Debian 13's OCaml 5.3.0. All are in one resolve; each group is an image that `./pants package` makes.",
    "On the image's base, opam itself installed the same roots in one switch, after all .debs of their depexts.",
    "Compared are the switch's files (names, kinds, modes, contents, links), its records, and what `opam list`, `opam var`,",
    "`opam config report`, `opam env` and `opam exec` say.",
    "",
    "An asterisk marks packages that are as the overlay of this repository's example has them; `sha` is a stand-in there.",
    "Debian's index lists more archives than its mirrors serve: of a resolve of 212 packages, 58 had one that no mirror",
    "gave, and are not here.",
    "",
]
