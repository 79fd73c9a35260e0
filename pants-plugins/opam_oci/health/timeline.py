"""When which package was built: a bar for each, in as many lanes as builds ran at once."""

from __future__ import annotations

import heapq
from html import escape

from opam_oci.health.looks import LOOKS, seconds_text
from opam_oci.health.results import HealthReport, PackageResult, Status
from opam_oci.pages.plain_text import one_line

_WIDTH, _LANE, _MARGIN, _AXIS = 1000, 18, 8, 22
_MOST = 1500
# A bar of this width, in units of the drawing, has its package's name.
_NAMED = 60
STYLE = """\
svg.timeline { background: #fff; max-width: 100%; height: auto; min-width: 40rem; }
.timeline text { font: 11px system-ui, sans-serif; fill: #1a1a1a; }
.timeline line { stroke: #bbb; }
"""


def draw(report: HealthReport) -> str:
    """The `svg` element, with a line that says what is left out; "" where nothing was built in this run."""
    built = [
        package for package in report.packages.values() if package.started is not None and package.seconds is not None
    ]
    if not built:
        return ""
    end = max(_end(package) for package in built) or 1.0
    lanes = _lanes(built)
    # Of thousands the failures, and the longest: shorter ones are too thin to be seen.
    shown = sorted(built, key=lambda p: (p.status is Status.SUCCESS, -(p.seconds or 0), p.id))[:_MOST]
    shown.sort(key=lambda package: (package.started, package.id))
    height = _AXIS + (1 + max(lanes.values())) * _LANE + _MARGIN
    parts = [_tick(end, number, height) for number in range(6)]
    parts += [_bar(package, lanes[package.id], end) for package in shown]
    note = f"<p>{len(built) - len(shown)} shorter builds are not drawn.</p>\n" if len(built) > len(shown) else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" role="img" aria-label="When each package was built" '
        f'viewBox="0 0 {_WIDTH + 2 * _MARGIN} {height}">\n' + "\n".join(parts) + f"\n</svg>\n{note}"
    )


def _lanes(built: list[PackageResult]) -> dict[str, int]:
    """Id -> lane, the first one that is free when the package starts."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes: dict[str, int] = {}
    used = 0
    for package in sorted(built, key=lambda package: (package.started, package.id)):
        while busy and busy[0][0] <= (package.started or 0) + 1e-6:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        lanes[package.id] = lane
        heapq.heappush(busy, (_end(package), lane))
    return lanes


def _end(package: PackageResult) -> float:
    return (package.started or 0) + (package.seconds or 0)


def _tick(end: float, number: int, height: int) -> str:
    x = _MARGIN + _WIDTH * number / 5
    anchor = "start" if number == 0 else "end" if number == 5 else "middle"
    return (
        f'<line x1="{x:g}" x2="{x:g}" y1="{_AXIS - 4}" y2="{height - _MARGIN}"/>'
        f'<text x="{x:g}" y="13" text-anchor="{anchor}">{escape(seconds_text(end * number / 5))}</text>'
    )


def _bar(package: PackageResult, lane: int, end: float) -> str:
    look = LOOKS[package.status]
    x = _MARGIN + _WIDTH * (package.started or 0) / end
    width = max(_WIDTH * (package.seconds or 0) / end, 0.5)
    y = _AXIS + lane * _LANE
    said = escape(one_line(f"{package.full_name}: {look.word}, {seconds_text(package.seconds)}"))
    bar = (
        f'<g><title>{said}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_LANE - 3}" '
        f'fill="{look.fill}" stroke="{look.line}" stroke-width=".6"/>'
    )
    if width >= _NAMED:
        name = escape(one_line(package.full_name, max(int(width / 7) - 2, 2)))
        bar += f'<text x="{x + 3:.2f}" y="{y + 11}">{look.mark} {name}</text>'
    return f"{bar}</g>"
