"""Draws docs/grouping.svg: python3 docs/grouping.py > docs/grouping.svg"""

from __future__ import annotations

from typing import List

ROW, LEFT, WIDTH, BAR = 46, 150, 1000, 30
OUT: List[str] = []


def box(x: float, y: float, width: float, text: str, kind: str) -> None:
    OUT.append(f'<rect x="{x}" y="{y}" width="{width}" height="{BAR}" rx="4" class="{kind}"/>')
    OUT.append(f'<text x="{x + width / 2}" y="{y + 20}" text-anchor="middle">{text}</text>')


def label(x: float, y: float, text: str, kind: str = "note") -> None:
    OUT.append(f'<text x="{x}" y="{y}" class="{kind}">{text}</text>')


def main() -> None:
    y = 40
    label(
        20, 22, "Images A (at most 9 layers of packages) and B (at most 20), side by side, bottom layers left", "title"
    )
    held = [("ocaml", "ab"), ("dune", "ab"), ("lwt", "ab"), ("csexp", "ab"), ("cppo", "ab")]
    own_a = [f"a{number}" for number in range(1, 10)]
    own_b = [f"b{number}" for number in range(1, 4)]
    step, width = 58, 54
    label(20, y + 20, "A, one by one")
    for number, (name, _) in enumerate(held):
        box(LEFT + step * number, y, width, name, "both")
    for number, name in enumerate(own_a, len(held)):
        box(LEFT + step * number, y, width, name, "own")
    y += BAR + 26
    label(LEFT, y - 8, "seams between neighbours, and what closing one costs:")
    costs = ["held by both: costs sharing, last"] + [""] * 4 + ["held by A alone: free, first; the names decide which"]
    for number in range(13):
        x = LEFT + step * (number + 1) - 2
        kind = "late" if number < 5 else "soon"
        OUT.append(f'<line x1="{x}" y1="{y}" x2="{x}" y2="{y + 16}" class="{kind}"/>')
    label(LEFT + 20, y + 32, costs[0], "late-note")
    label(LEFT + step * 5 + 10, y + 32, costs[-1], "soon-note")
    y += 58
    label(20, y + 20, "A, grouped")
    for number, (name, _) in enumerate(held):
        box(LEFT + step * number, y, width, name, "both")
    x = LEFT + step * len(held)
    for text, count in (("a1", 1), ("a2 a3 a4", 3), ("a5", 1), ("a6 a7 a8 a9", 4)):
        box(x, y, step * count - 4, text, "own" if count == 1 else "group")
        x += step * count
    y += ROW
    label(20, y + 20, "B, as it was")
    for number, (name, _) in enumerate(held):
        box(LEFT + step * number, y, width, name, "both")
    for number, name in enumerate(own_b, len(held)):
        box(LEFT + step * number, y, width, name, "b")
    y += ROW + 8
    label(
        20,
        y,
        "A change of a3 makes one blob new: a2 a3 a4. A new package a10 on top of A changes three groups at most.",
    )
    label(
        20,
        y + 20,
        "The base, opam's root and the state layer are never joined with packages; they count in max_layers.",
    )
    style = (
        "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.note{fill:#444}.both{fill:#9ecae1;stroke:#3182bd}"
        ".own{fill:#fdd0a2;stroke:#e6550d}.group{fill:#fdae6b;stroke:#a63603;stroke-width:2}.b{fill:#c7e9c0;stroke:#31a354}"
        ".late{stroke:#3182bd;stroke-width:2}.soon{stroke:#e6550d;stroke-width:2;stroke-dasharray:3 2}"
        ".late-note{fill:#3182bd}.soon-note{fill:#a63603}"
    )
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 36}" width="{WIDTH}">')
    print(f'<style>{style}</style><rect width="{WIDTH}" height="{y + 36}" fill="#fff"/>')
    print("\n".join(OUT))
    print("</svg>")


if __name__ == "__main__":
    main()
