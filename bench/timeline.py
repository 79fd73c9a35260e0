"""Draws a trace (`--opam-trace-file`) as a picture: what ran when, and how many cores that left idle.

    $(build-support/test-python) bench/timeline.py TRACE.json PICTURE.svg

Lanes are the slots that Pants gave to processes; all downloads are one. Spans with room for it are named.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List
from xml.sax.saxutils import escape

WIDTH, LEFT, LANE, TOP = 1200, 130, 26, 46
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#eeca3b")
STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300)


def label(name: str) -> str:
    """`Build opam package lwt.5.6.1` is known by its last words."""
    for prefix in ("Build opam package ", "Make the ", "Make "):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def joined(trace: Dict[str, Any]) -> Dict[str, Any]:
    """The trace with its downloads in one lane: a span for each while in which something was downloaded.

    Of the downloads nothing but their number stays: a mirror's name is nobody else's business."""
    lanes = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    downloads = [e for e in trace["traceEvents"] if e["ph"] == "X" and lanes[e["tid"]].startswith("download ")]
    if not downloads:
        return trace
    lane = min(e["tid"] for e in downloads)
    spans: List[Dict[str, Any]] = []
    for event in sorted(downloads, key=lambda e: float(e["ts"])):
        if spans and event["ts"] <= spans[-1]["ts"] + spans[-1]["dur"]:
            spans[-1]["dur"] = max(spans[-1]["dur"], event["ts"] + event["dur"] - spans[-1]["ts"])
            spans[-1]["count"] += 1
        else:
            spans.append({**event, "tid": lane, "count": 1})
    for span in spans:
        span["name"] = f"{span['count']} download" + ("s" if span["count"] > 1 else "")
    gone = {tid for tid, name in lanes.items() if name.startswith("download ")}
    others = [e for e in trace["traceEvents"] if e["tid"] not in gone]
    return {"traceEvents": [*others, {"ph": "M", "tid": lane, "args": {"name": "downloads"}}, *spans]}


def draw(trace: Dict[str, Any]) -> str:
    """The picture, as SVG."""
    trace = joined(trace)
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    if not spans:
        raise SystemExit("the trace holds no span: everything came from memory or a cache")
    end = max(e["ts"] + e["dur"] for e in spans) / 1e6
    scale = (WIDTH - LEFT - 10) / end
    lanes = {tid: TOP + number * LANE for number, tid in enumerate(sorted(names))}
    height = TOP + LANE * len(lanes) + 24
    out: List[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{end:.0f} s in all</text>',
    ]
    step = next((s for s in STEPS if end / s <= 14), STEPS[-1])
    for second in range(0, int(end) + 1, step):
        x = LEFT + second * scale
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 22}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle" fill="#555">{second} s</text>')
    for tid, y in lanes.items():
        busy = sum(e["dur"] for e in spans if e["tid"] == tid) / 1e6
        out.append(f'<text x="6" y="{y + 16}">{escape(names[tid])} ({100 * busy / end:.0f} %)</text>')
    for number, span in enumerate(sorted(spans, key=lambda e: (e["tid"], e["ts"]))):
        x, width = LEFT + span["ts"] / 1e6 * scale, max(0.5, span["dur"] / 1e6 * scale)
        y = lanes[span["tid"]]
        title = f"{span['name']}: {span['ts'] / 1e6:.1f} s + {span['dur'] / 1e6:.1f} s"
        colour = COLOURS[number % len(COLOURS)]
        out.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE - 4}" fill="{colour}">'
            f"<title>{escape(title)}</title></rect>"
        )
        text = label(span["name"])
        if width > 6.5 * len(text) * 0.9:
            out.append(f'<text x="{x + 4:.1f}" y="{y + 15}" fill="white">{escape(text)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
