"""Draws docs/layers.svg: python3 docs/layers.py > docs/layers.svg"""

from __future__ import annotations

from typing import List

WIDTH, ROW, BOX, TOP = 760, 34, 200, 58
LEFT, MIDDLE, RIGHT = 20, 280, 540
SHARED = ["Debian base", "opam's root", "ocaml-system", "ocaml", "num"]
STYLE = """
text { font: 14px sans-serif; fill: #222; }
.title { font-weight: bold; }
.note { font-size: 12px; fill: #555; }
rect { stroke: #555; }
.both { fill: #cfe3f5; } .left { fill: #f7dcc0; } .right { fill: #d5ebcf; }
line { stroke: #7a9cc0; stroke-dasharray: 3 3; }
"""


def box(x: int, row: int, text: str, kind: str) -> str:
    """A layer, `row` rows from the bottom."""
    y = TOP + ROW * (7 - row)
    return (
        f'<rect x="{x}" y="{y}" width="{BOX}" height="{ROW - 6}" rx="4" class="{kind}"/>'
        f'<text x="{x + BOX // 2}" y="{y + 19}" text-anchor="middle">{text}</text>'
    )


def link(row: int) -> str:
    """The same layer in both images is one file in the middle."""
    y = TOP + ROW * (7 - row) + (ROW - 6) // 2
    return "".join(
        f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>'
        for start, end in ((LEFT + BOX, MIDDLE), (MIDDLE + BOX, RIGHT))
    )


def heading(x: int, text: str, note: str) -> str:
    centre = x + BOX // 2
    return (
        f'<text x="{centre}" y="22" text-anchor="middle" class="title">{text}</text>'
        f'<text x="{centre}" y="40" text-anchor="middle" class="note">{note}</text>'
    )


def main() -> None:
    height = TOP + ROW * 8 + 8
    out: List[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" style="fill: white; stroke: none"/>',
        heading(LEFT, "image power", "a program and all it needs"),
        heading(MIDDLE, "registry, disk, cache", "what both have is there once"),
        heading(RIGHT, "image calculator", "another image"),
    ]
    for row, name in enumerate(SHARED):
        out.append(link(row))
        out.extend(box(x, row, name, "both") for x in (LEFT, MIDDLE, RIGHT))
    out += [box(LEFT, row, name, "left") for row, name in enumerate(("ocamlfind", "power", "state"), len(SHARED))]
    out.append(box(RIGHT, len(SHARED), "state", "right"))
    print("\n".join([*out, "</svg>"]))


if __name__ == "__main__":
    main()
