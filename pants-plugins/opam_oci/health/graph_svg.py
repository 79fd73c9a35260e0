"""The graph of packages as SVG: boxes in columns, what is needed to the left of what needs it."""

from __future__ import annotations

from html import escape
from typing import Mapping

from opam_oci.health.graph import Graph, choose
from opam_oci.health.graph_layout import columns, reduced
from opam_oci.health.looks import LOOKS
from opam_oci.health.results import HealthReport, PackageResult
from opam_oci.pages.plain_text import one_line

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _LINE = 190, 24, 70, 8, 16, 20
_NAME = 24
STYLE = """\
svg.graph { background: #fff; }
.graph text { font: 12px system-ui, sans-serif; fill: #1a1a1a; }
.graph path { fill: none; stroke: #666; stroke-opacity: .55; }
.graph rect { stroke-width: 1.5; }
"""


def write_svg(report: HealthReport) -> str:
    """A file of its own, that names no other."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{draw(report, style=True)}'


def draw(report: HealthReport, style: bool = False) -> str:
    """The `svg` element; without `style` whoever holds it has STYLE."""
    graph = choose(report)
    edges = reduced(graph.edges)
    places = columns(edges)
    at = {
        id: (_MARGIN + number * (_WIDTH + _GAP_X), row * (_HEIGHT + _GAP_Y))
        for number, column in enumerate(places)
        for row, id in enumerate(column)
    }
    head, top = _head(report, graph)
    width = max(_MARGIN * 2 + len(places) * (_WIDTH + _GAP_X) - _GAP_X, 720)
    height = top + max((len(column) for column in places), default=0) * (_HEIGHT + _GAP_Y) + _MARGIN
    packages = report.packages
    lines = [_edge(at, top, id, need) for id in graph.nodes for need in edges[id]]
    boxes = [_box(packages[id], at[id][0], top + at[id][1], graph.more.get(id, 0)) for id in graph.nodes]
    title = escape(one_line(f"Packages of {report.target} and what they depend on"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" aria-label="{title}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        + (f"<style>{STYLE}</style>\n" if style else "")
        + "\n".join([head, *lines, *boxes])
        + "\n</svg>\n"
    )


def _head(report: HealthReport, graph: Graph) -> tuple[str, int]:
    """What the marks mean, and what is left out; and the height that it takes."""
    known = {report.packages[id].status for id in graph.nodes}
    parts = []
    x = _MARGIN
    for status, look in LOOKS.items():
        if status in known:
            parts.append(
                f'<rect x="{x}" y="8" width="20" height="18" rx="3" fill="{look.fill}" stroke="{look.line}"/>'
                f'<text x="{x + 10}" y="21" text-anchor="middle">{look.mark}</text>'
                f'<text x="{x + 26}" y="21">{look.word}</text>'
            )
            x += 46 + 7 * len(look.word)
    notes = list(graph.notes)
    if not graph.nodes:
        notes.append("There is no failure to show.")
    for number, note in enumerate(notes):
        parts.append(f'<text x="{_MARGIN}" y="{46 + number * _LINE}">{escape(note)}</text>')
    return "\n".join(parts), 42 + len(notes) * _LINE


def _edge(at: Mapping[str, tuple[int, int]], top: int, id: str, need: str) -> str:
    x1, y1 = at[need][0] + _WIDTH, top + at[need][1] + _HEIGHT // 2
    x2, y2 = at[id][0], top + at[id][1] + _HEIGHT // 2
    middle = (x1 + x2) // 2
    return f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _box(package: PackageResult, x: int, y: int, more: int) -> str:
    look = LOOKS[package.status]
    name = one_line(package.full_name, _NAME)
    counted = f" +{more}" if more else ""
    said = f"{package.id}: {look.word}" + (f", stops {more} packages more" if more else "")
    if package.reason:
        said += f". {package.reason}"
    return (
        f"<g><title>{escape(one_line(said))}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="{look.fill}" stroke="{look.line}"/>'
        f'<text x="{x + 8}" y="{y + 16}">{look.mark} {escape(name)}{counted}</text></g>'
    )
