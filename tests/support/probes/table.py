"""The table of what the probes found: phase x caller x (tried, refused, harmless, reached), and each probe by phase.

OPAM_OCI_PROBE_RESULTS=/tmp/results.json build-support/test tests/e2e/test_confinement.py
python3 -m tests.support.probes.table /tmp/results.json > docs/confinement-probes.md
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Set, Tuple

from opam_sandbox.sandbox import seccomp
from tests.support.probes.outcomes import Outcome

Outcomes = Dict[str, Outcome]

# Columns of the long table: name -> the phases whose names begin so.
_COLUMNS = {
    "base": ("base",),
    "compress": ("compress",),
    "depexts": ("depexts",),
    "build": ("build", "install", "test"),
    "state": ("state",),
    "run": ("run",),
}
_WHAT = {
    "base": "a maintainer script of the base",
    "compress": "the base's gzip, which writes layers",
    "depexts": "a maintainer script of a package's depext",
    "build": "the opam package's `build:`",
    "install": "the opam package's `install:`",
    "test": "the opam package's `run-test:`",
    "state-root": "`ldconfig` of the image",
    "state-user": "`opam` of the image",
}
_HOST_NETWORK = "with `network=host`, the default, the machine's network is the container's"
_NETWORK = ("networks", "sockets of the machine")
_NETWORK_PROBES = ("net namespace of process 1", "netlink: devices", "netlink: processes", "/sys/class/net/*/mtu")


@dataclass
class Results:
    """phases: (phase, caller's id) -> what was found."""

    unconfined: Outcomes = field(default_factory=dict)
    phases: Dict[Tuple[str, int], Outcomes] = field(default_factory=dict)

    def add(self, phase: str, owner: int, found: Outcomes) -> None:
        self.phases[phase, owner] = found

    def write(self, path: Path) -> None:
        """As JSON, which `read` takes."""
        phases = [[phase, owner, _plain(found)] for (phase, owner), found in self.phases.items()]
        path.write_text(json.dumps({"unconfined": _plain(self.unconfined), "phases": phases}))

    @classmethod
    def read(cls, path: Path) -> "Results":
        data = json.loads(path.read_text())
        phases = {(phase, owner): _outcomes(found) for phase, owner, found in data["phases"]}
        return cls(_outcomes(data["unconfined"]), phases)


def _plain(found: Outcomes) -> List[Dict[str, str]]:
    return [asdict(outcome) for outcome in found.values()]


def _outcomes(found: List[Dict[str, str]]) -> Outcomes:
    return {fields["name"]: Outcome(**fields) for fields in found}


def counted(found: Outcomes, unconfined: Outcomes) -> Set[str]:
    """The probes that were held, and that say something: unconfined they reach, or the tool's own table refuses their call."""
    own = seccomp.refused(os.uname().machine)
    return {
        name
        for name, outcome in found.items()
        if not outcome.is_trap
        and (outcome.outcome in ("refused", "harmless") and unconfined[name].outcome == "reached")
        or (outcome.outcome == "refused" and outcome.call in own)
    }


def with_host_network(found: Outcomes) -> Outcomes:
    """The same, where the network is meant to be the machine's."""
    return {
        name: replace(outcome, outcome="harmless", detail=_HOST_NETWORK)
        if outcome.outcome == "reached" and (outcome.group in _NETWORK or name in _NETWORK_PROBES)
        else outcome
        for name, outcome in found.items()
    }


def cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|").replace("*", "\\*")


def _number(found: Outcomes, outcome: str) -> int:
    return sum(one.outcome == outcome for one in found.values())


def _summary(results: Results) -> List[str]:
    lines = [
        "| phase | what runs the probes | caller | tried | refused | harmless | reached | counted |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    rows = [("unconfined", "nothing confines them", "root", results.unconfined)]
    for (phase, owner), found in results.phases.items():
        what = _WHAT.get(phase)
        if what is None:
            _, kind, user, network = phase.split("-")
            what, phase = f"a command in {kind} as {user}, network `{network}`", "run"
        rows.append((phase, what, "a user" if owner else "root", found))
    for phase, what, caller, found in rows:
        refused, harmless, reached = (_number(found, name) for name in ("refused", "harmless", "reached"))
        count = str(len(counted(found, results.unconfined))) if phase != "unconfined" else ""
        tried = refused + harmless + reached
        lines.append(f"| {phase} | {what} | {caller} | {tried} | {refused} | {harmless} | {reached} | {count} |")
    return lines


def _column(results: Results, name: str, prefixes: Tuple[str, ...]) -> str:
    found = {
        outcomes[name].outcome
        for (phase, _), outcomes in results.phases.items()
        if phase.startswith(prefixes) and name in outcomes
    }
    return ", ".join(sorted(found - {"absent"})) or "-"


def _probes(results: Results) -> List[str]:
    head = ["probe", "what it tries", "unconfined", *_COLUMNS]
    lines: List[str] = []
    every = {**results.unconfined}
    for outcomes in results.phases.values():
        every.update({name: outcome for name, outcome in outcomes.items() if name not in every})
    group = ""
    for name, outcome in sorted(every.items(), key=lambda item: list(every).index(item[0])):
        if outcome.group != group:
            group = outcome.group
            lines += ["", f"### {group[0].upper()}{group[1:]}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        free = results.unconfined[name].outcome if name in results.unconfined else "-"
        columns = [_column(results, name, prefixes) for prefixes in _COLUMNS.values()]
        lines.append(f"| {' | '.join([cell(name), cell(outcome.what), free, *columns])} |")
    return lines


def _harmless(results: Results) -> List[str]:
    why: Dict[str, Set[str]] = {}
    for outcomes in results.phases.values():
        for outcome in outcomes.values():
            if outcome.outcome == "harmless":
                why.setdefault(outcome.detail, set()).add(outcome.name)
    return [f"- {reason}: {cell(', '.join(sorted(names)))}." for reason, names in sorted(why.items())]


def page(results: Results) -> str:
    """The page of the documentation."""
    lines = [
        "# What tries to get out of the sandboxes",
        "",
        "`tests/e2e/test_confinement.py` runs a program that tries to reach the machine in every phase, as root and as an",
        "ordinary user. This page is made from what it found: `tests/support/probes/table.py`.",
        "",
        "- *refused*: the kernel said no.",
        "- *harmless*: it worked, but inside only. [Why](#harmless-and-why) is below.",
        "- *reached*: the machine was reached. A test fails on any.",
        "- *counted*: held, and of those that reach the machine when nothing confines them, or whose system call the table of",
        "  `sandbox/seccomp.py` refuses. A test fails on fewer than 120.",
        "",
        *_summary(results),
        "",
        "## Harmless, and why",
        "",
        *_harmless(results),
        "",
        "## The probes",
        "",
        f'Found on Linux {os.uname().release.split("-")[0]}. Where "unconfined" does not say *reached*, that kernel lacks what',
        "the probe is after, or keeps it from root as well.",
        *_probes(results),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Results.read(Path(sys.argv[1]))))
