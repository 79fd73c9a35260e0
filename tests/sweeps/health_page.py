"""What checks of real packages found, as a part of a page: how many roots were built, and why the others were not.

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.health_page --page=docs/health.md DIRECTORY ...

Each DIRECTORY is one that `tests.sweeps.health` worked in. Writes the page's last section anew.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from opam_sandbox.debian_versions import compare_versions
from tests.sweeps.pool import Pool

HEADING = "## What checks of real packages found"
_RESULTS = "project/dist/opam-health/health/results.json"
_NOWHERE = re.compile(r"^\s*no version is available of (\S+)(.*)$", re.MULTILINE)
_COMMANDS = (
    "    $(build-support/test-python) -m tests.sweeps.health --work=DIR",
    "    $(build-support/test-python) -m tests.sweeps.health --work=OTHER --compiler=ocaml-base-compiler=5.3.0",
    "    $(build-support/test-python) -m tests.sweeps.health_page --page=docs/health.md DIR OTHER",
)
# OCaml itself, and what stands for OCaml 5 beside it.
_OCAML = re.compile(
    r"(?:but|conflicts with) (?:ocaml(?:-system|-base-compiler|-compiler)?|base-(?:effects|domains|nnp))\."
)
_NEEDS_OCAML = re.compile(r": needs (ocaml < \S+)")
_BOUND = re.compile(r"(=|!=|>=|>|<=|<) (\S+)")
_RELATIONS: Mapping[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "!=": lambda order: order != 0,
    ">=": lambda order: order >= 0,
    ">": lambda order: order > 0,
    "<=": lambda order: order <= 0,
    "<": lambda order: order < 0,
}
# In the table's order. Roots that a run did not come to are `cancelled`.
_STATUSES = {
    "success": "built",
    "failure": "failed",
    "timed_out": "took too long",
    "no_depext": "Debian lacks depexts",
    "no_source": "no source",
    "dependency_failed": "stopped by another package",
    "no_solution": "no solution",
    "cancelled": "not tried: the time was up",
}
_LISTED = "needs {} whose archives the index lists and no mirror has"
_ELSEWHERE = "needs {} whose archives the pool does not have"
_OLDER = "needs an older OCaml"
_OTHER = "other"
_LONGEST = 160  # characters of a reason
_WIDTH = 126


@dataclass(frozen=True)
class Check:
    """`results`: a check's results.json; `pool`: what its repository is made of."""

    results: Mapping[str, Any]
    pool: Pool

    @staticmethod
    def read(work: Path) -> "Check":
        """What a sweep left in its directory. Raises OSError where it left nothing."""
        return Check(json.loads((work / _RESULTS).read_text()), Pool.read(work))

    @property
    def compiler(self) -> str:
        """As the table's head has it."""
        compilers = {root["compiler"] for root in self.results["roots"]}
        return "Debian's OCaml" if compilers == {"ocaml-system"} else " ".join(sorted(compilers))

    def counts(self) -> Counter[str]:
        """Status -> roots."""
        return Counter(root["status"] for root in self.results["roots"])

    def reasons(self) -> Dict[str, Counter[str]]:
        """Kind of reason why there is no solution -> package that lacks -> roots."""
        found: Dict[str, Counter[str]] = {}
        for root in self.results["roots"]:
            if root["status"] == "no_solution":
                kind, name = reason(root["explanation"], self.pool)
                found.setdefault(kind, Counter())[name] += 1
        return found

    def failed(self) -> List[str]:
        """A line on each package that was not built for a reason of its own."""
        return [
            f"`{package['name']}.{package['version']}`: {_STATUSES[package['status']]}"
            + (f": `{package['reason'].partition('. ')[0][:_LONGEST]}`" if package["reason"] else "")
            for _, package in sorted(self.results["packages"].items())
            if package["status"] in ("failure", "timed_out", "no_depext", "no_source")
        ]


def reason(explanation: str, pool: Pool) -> Tuple[str, str]:
    """The kind of reason, and the name of the package that lacks, by opam's explanation."""
    match = _NOWHERE.search(explanation)
    if not match:
        line = explanation.strip().split("\n")[-1].strip()
        bound = _NEEDS_OCAML.search(explanation)
        return (_OLDER if _OCAML.search(line) else _OTHER), bound[1] if bound else line.partition(":")[0]
    name, bounds = match[1], match[2]
    versions = [version for other, _, version in (title.partition(".") for title in pool.listed) if other == name]
    return (_LISTED if any(_fits(version, bounds) for version in versions) else _ELSEWHERE), name + bounds


def _fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as ` >= 3.18`, or ` >= 1 and x < 2`."""
    return all(_RELATIONS[relation](compare_versions(version, bound)) for relation, bound in _BOUND.findall(bounds))


def section(checks: Sequence[Check]) -> str:
    """The section's Markdown, which ends with a newline."""
    pool = checks[0].pool
    asked = [*pool.served, *pool.listed, *pool.partly]
    lines = [
        HEADING,
        "",
        *_COMMANDS,
        "",
        *textwrap.wrap(
            "They check the packages of the public opam repository that can be built from Debian's source pool, each version "
            f"as a root of its own. The pool's index (trixie, sid, bookworm) has an archive of {len(asked)} versions. "
            f"{len(pool.listed)} of them have one that this run's mirror did not serve, and {len(pool.partly)} need a patch or a "
            f"file that the pool does not have. The {len(pool.served)} others are the roots. The repository has them, all "
            "packages without sources, and the overlay of this project's example over them.",
            _WIDTH,
        ),
        "",
    ]
    lines += [f"| | {' | '.join(check.compiler for check in checks)} |", f"|---|{'---|' * len(checks)}"]
    rows: List[Tuple[str, List[str]]] = [("roots", [str(sum(check.counts().values())) for check in checks])]
    for status, words in _STATUSES.items():
        numbers = [check.counts()[status] for check in checks]
        if any(numbers) or status in ("success", "failure"):
            rows.append((words, [str(number) for number in numbers]))
    rows.append(("packages built for them", [str(_built(check)) for check in checks]))
    rows.append(("minutes that these builds took", [f"{_seconds(check) / 60:.0f}" for check in checks]))
    lines += [f"| {words} | {' | '.join(numbers)} |" for words, numbers in rows]
    lines += ["", *_failures(checks), "Why there is no solution:", ""]
    lines += [
        f"| a root | {' | '.join(check.compiler for check in checks)} | most of all |",
        f"|---|{'---|' * (len(checks) + 1)}",
    ]
    for kind in (_LISTED, _ELSEWHERE, _OLDER, _OTHER):
        found = [check.reasons().get(kind, Counter()) for check in checks]
        names: Counter[str] = sum(found, Counter())
        if names:
            most = ", ".join(f"`{name}`" for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0]))[:6])
            counts = " | ".join(str(sum(one.values())) for one in found)
            lines.append(f"| {kind.format('a package')} | {counts} | {most.replace('|', chr(92) + '|')} |")
    return "\n".join([*lines, ""])


def _built(check: Check) -> int:
    return sum(1 for package in check.results["packages"].values() if package["status"] == "success")


def _seconds(check: Check) -> float:
    """Of all builds together, when they were made."""
    return sum(package["seconds"] or 0 for package in check.results["packages"].values())


def _failures(checks: Sequence[Check]) -> List[str]:
    compilers: Dict[str, List[str]] = {}
    for check in checks:
        for line in check.failed():
            compilers.setdefault(line, []).append(check.compiler)
    if not compilers:
        return []
    lines = [f"- {line}{'' if len(where) == len(checks) else f' ({where[0]})'}" for line, where in compilers.items()]
    return ["Not built, for a reason of their own:", "", *lines, ""]


def rewritten(page: str, text: str) -> str:
    """A page with its last section, if that is this one, in new words."""
    return f"{page.partition(HEADING)[0].rstrip()}\n\n{text}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="+", type=Path, metavar="DIRECTORY")
    parser.add_argument("--page", type=Path, required=True)
    options = parser.parse_args()
    text = section([Check.read(work) for work in options.works])
    options.page.write_text(rewritten(options.page.read_text(), text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
