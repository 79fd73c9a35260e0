"""What benchmarks find, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence
from xml.sax.saxutils import escape


@dataclass
class Row:
    """One measured thing beside its baseline. unit: "s" or "B". goal: the ratio that it should not exceed, if there is one.

    samples: all values that `value` is the median of. details: whatever explains the figure, for the JSON."""

    benchmark: str
    subject: str
    value: float
    baseline: str
    baseline_value: float
    unit: str = "s"
    goal: Optional[float] = None
    details: Dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.value / self.baseline_value if self.baseline_value else math.inf

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.ratio > self.goal


def quantity(value: float, unit: str) -> str:
    """`12.3 s`, `41.0 MB`."""
    if unit != "B":
        return f"{value:.3f} {unit}" if value < 10 else f"{value:.1f} {unit}"
    for step, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= step:
            return f"{value / step:.1f} {name}"
    return f"{value:.0f} B"


def ratio_text(row: Row) -> str:
    return f"{row.ratio:.3f}" if row.ratio < 0.1 else f"{row.ratio:.2f}"


def table(rows: Sequence[Row]) -> str:
    """The rows as text, columns aligned."""
    cells = [["benchmark", "what", "measured", "baseline", "measured", "ratio", "goal"]]
    for row in rows:
        goal = "" if row.goal is None else f"<= {row.goal:g} {'MISSED' if row.missed else 'met'}"
        cells.append(
            [
                row.benchmark,
                row.subject,
                quantity(row.value, row.unit),
                row.baseline,
                quantity(row.baseline_value, row.unit),
                ratio_text(row),
                goal,
            ]
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    right = {2, 4, 5}
    lines = []
    for line in cells:
        texts = (t.rjust(w) if n in right else t.ljust(w) for n, (t, w) in enumerate(zip(line, widths)))
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def machine() -> Dict[str, Any]:
    """What the figures were measured on; the load average tells whether it was at rest."""
    models = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0] if models else platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "load_average": list(os.getloadavg()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_json(path: Path, rows: Sequence[Row], about: Dict[str, Any]) -> None:
    data = {**about, "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


_LABEL, _BARS, _LINE, _TOP = 520, 520, 26, 56


def plot(rows: Sequence[Row], title: str) -> str:
    """The ratios as bars from 1 on a logarithmic scale, as SVG: to the left is less than the baseline."""
    ratios = [min(max(row.ratio, 1e-4), 1e4) for row in rows] + [1.0]
    low, high = math.floor(math.log10(min(ratios))), math.ceil(math.log10(max(ratios)) + 0.01)

    def x(ratio: float) -> float:
        return _LABEL + (math.log10(min(max(ratio, 1e-4), 1e4)) - low) / max(1, high - low) * _BARS

    width, height = _LABEL + _BARS + 90, _TOP + _LINE * len(rows) + 20
    out: List[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="18" font-size="14">{escape(title)}</text>',
        '<text x="8" y="34" fill="#555">ratio to the baseline, logarithmic: shorter to the left is better; '
        "blue below 1, orange above, the red mark is the goal</text>",
    ]
    for exponent in range(low, high + 1):
        at = x(10.0**exponent)
        colour = "#333" if exponent == 0 else "#ddd"
        out.append(f'<line x1="{at:.1f}" y1="{_TOP - 4}" x2="{at:.1f}" y2="{height - 16}" stroke="{colour}"/>')
        out.append(f'<text x="{at:.1f}" y="{_TOP - 7}" text-anchor="middle" fill="#555">{10.0**exponent:g}</text>')
    for number, row in enumerate(rows):
        y = _TOP + number * _LINE
        one, end = x(1.0), x(row.ratio)
        values = f"{quantity(row.value, row.unit)} : {quantity(row.baseline_value, row.unit)}"
        out.append(f'<text x="8" y="{y + 10}">{escape(row.benchmark)}: {escape(row.subject)}</text>')
        out.append(f'<text x="8" y="{y + 21}" font-size="9" fill="#777">to {escape(row.baseline)}, {values}</text>')
        out.append(
            f'<rect x="{min(one, end):.1f}" y="{y + 3}" width="{max(1.0, abs(end - one)):.1f}" height="{_LINE - 9}" '
            f'fill="{"#4c78a8" if row.ratio <= 1 else "#f58518"}"/>'
        )
        if row.goal is not None:
            at = x(row.goal)
            out.append(f'<rect x="{at - 1:.1f}" y="{y}" width="2" height="{_LINE - 3}" fill="#c00"/>')
        out.append(f'<text x="{width - 8}" y="{y + 15}" text-anchor="end">{ratio_text(row)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
