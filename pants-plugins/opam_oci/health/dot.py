"""Graphs as DOT, the language of graphviz."""

from __future__ import annotations

from functools import lru_cache
from typing import Iterable

from opam_oci.health.facts import closure
from opam_oci.health.looks import LOOKS
from opam_oci.health.results import HealthReport, RootResult
from opam_oci.pages.plain_text import clean


# Graphs of thousands of roots name the same packages.
@lru_cache(maxsize=1 << 16)
def quoted(text: str) -> str:
    """A DOT string that stands for the text, without what cannot be seen."""
    shown = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{shown}"'


def solution(report: HealthReport, root: RootResult) -> str:
    """The graph of all that a root needs, by names and versions; opam's explanation where there is no solution."""
    if not root.package:
        return root.reason
    ids = closure(report, root)
    kept = set(ids)
    lines = []
    for id in sorted(ids, key=lambda id: report.packages[id].full_name):
        package = report.packages[id]
        needs = sorted({report.packages[need].full_name for need in package.depends if need in kept})
        lines.append(_edges(package.full_name, needs))
    return "digraph opam {\n" + "".join(lines) + "}\n"


def write_dot(report: HealthReport) -> str:
    """All packages, with a colour and a word for their status, and what each of them depends on."""
    out = ["digraph health {\n", '  rankdir="LR";\n', '  node [shape="box", style="filled"];\n']
    for id in sorted(report.packages):
        package = report.packages[id]
        look = LOOKS[package.status]
        label = quoted(f"{look.mark} {package.full_name}")
        out.append(f"  {quoted(id)} [label={label}, tooltip={quoted(look.word)}, fillcolor={quoted(look.fill)}];\n")
    for id in sorted(report.packages):
        needs = [need for need in sorted(report.packages[id].depends) if need in report.packages]
        if needs:
            out.append(_edges(id, needs))
    return "".join([*out, "}\n"])


def _edges(name: str, needs: Iterable[str]) -> str:
    """One statement: a node alone, or what it points to."""
    targets = " ".join(quoted(need) for need in needs)
    return f"  {quoted(name)} -> {{{targets}}}\n" if targets else f"  {quoted(name)}\n"
