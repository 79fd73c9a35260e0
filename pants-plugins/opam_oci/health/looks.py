"""How each status looks: a word, a mark, and colours that stand apart for colour-blind readers, too.

The colours are of Okabe and Ito's palette, made light as a background; the mark and the word say the same without them.
"""

from __future__ import annotations

from dataclasses import dataclass

from opam_oci.health.results import FailureKind, HealthReport, RootResult, Status


@dataclass(frozen=True)
class Look:
    """fill and line: colours of a box on white, "#rrggbb"."""

    word: str
    mark: str
    fill: str
    line: str


LOOKS = {
    Status.SUCCESS: Look("built", "✓", "#d3ece4", "#00664c"),
    Status.FAILURE: Look("failed", "✗", "#f6d2b8", "#a33f00"),
    Status.TIMED_OUT: Look("timed out", "∞", "#f9e2bf", "#7d5200"),
    Status.DEPENDENCY_FAILED: Look("a dependency failed", "↑", "#cfe2f3", "#00507f"),
    Status.NO_SOLUTION: Look("no solution", "?", "#f1dbe8", "#8a3f68"),
    Status.NO_SOURCE: Look("no source", "↓", "#e5e5e5", "#4a4a4a"),
    Status.NO_DEPEXT: Look("no depext", "⊘", "#fbf7c5", "#675f00"),
    Status.CANCELLED: Look("not tried", "…", "#f4f4f4", "#5a5a5a"),
    Status.NOT_BUILT: Look("not built yet", "·", "#ffffff", "#5a5a5a"),
}
KINDS = {
    None: "",
    FailureKind.BUILD: "build",
    FailureKind.TEST: "tests",
    FailureKind.DEPEXT: "a Debian package is missing",
    FailureKind.TRANSIENT: "machine or network",
}


def seconds_text(seconds: float | None) -> str:
    """As in "3.2 s", "4 min 10 s" or "2 h 3 min"; "" where it is not known."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def root_title(root: RootResult) -> str:
    """As in "lwt.5.6.1 (ocaml=5.3.0)"."""
    return f"{root.full_name} ({root.compiler})" if root.compiler else root.full_name


def run_line(report: HealthReport) -> str:
    """What was checked, on what, and how long it took."""
    took = f" in {seconds_text(report.seconds)}" if report.seconds is not None else ""
    return f"{len(report.roots)} roots and {len(report.packages)} packages on {report.base}{took}"
