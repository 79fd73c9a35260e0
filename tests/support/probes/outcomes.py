"""What the probes' program prints: a line for each probe (see perl/probe.pl)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List

# opam puts "- " before what a package's commands print.
_LINE = re.compile(r"^(?:- )?probe\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t?(.*)$")


@dataclass(frozen=True)
class Outcome:
    """group: of the table. call: the system call that the probe stands and falls with, or "". outcome: reached, refused,
    harmless, absent."""

    group: str
    name: str
    what: str
    call: str
    outcome: str
    detail: str

    @property
    def is_trap(self) -> bool:
        """Whether it leaves something behind for the builder: then only what the builder makes of it says more."""
        return self.group == "left behind"


def read_outcomes(text: str) -> Dict[str, Outcome]:
    """name -> outcome. Other lines are not looked at. Raises ValueError where a probe has two outcomes."""
    found: Dict[str, Outcome] = {}
    for line in text.splitlines():
        match = _LINE.match(line.rstrip("\r"))
        if match:
            outcome = Outcome(*match.groups())
            if outcome.name in found:
                raise ValueError(f"probe {outcome.name!r} has two outcomes")
            found[outcome.name] = outcome
    return found


def reached(outcomes: Dict[str, Outcome]) -> List[str]:
    """The probes that reached the machine, and how."""
    return [f"{one.name}: {one.detail}" for one in outcomes.values() if one.outcome == "reached"]
