"""The page about depexts that were tried."""

from __future__ import annotations

from typing import Any, Dict, List

_INTRODUCTION = """\
# Debian packages as depexts

What `tests/sweeps/depexts.py` found: each Debian package below was locked as the depext of an opam package on the base
`3rdparty/debian:trixie`, its layer was built twice, and the image was asked by `dpkg --audit`, `dpkg --verify` and
`apt-get check`. Layers and what their descriptions say are compared.
"""
_COVERED = """\
A package is *covered by* another one if that was tried, with the same bytes twice and nothing to complain of, and needed all the
.debs that this one needs, and none of these has scripts or triggers (but for the linker's cache, which is no layer's). dpkg
unpacks such .debs and does nothing else, whatever is installed with them. Packages of 0 .debs are in the base already.
"""
_MENDED = """\
What such runs found is put right by rules: machine ids, the dates in Java's keystore, the access list of systemd's journal, TeX's
formats and list of files. [What maintainer scripts make](maintainer-scripts.md) has all of them, and why.
"""


def table(results: Dict[str, Dict[str, Any]], users: Dict[str, int]) -> str:
    """All results as a page. `users`: each depext, and how many opam packages name it."""
    good = {name: found for name, found in sorted(results.items()) if found["locked"] and not found["problems"]}
    absent = {name: found for name, found in sorted(results.items()) if not found["locked"]}
    bad = {name: found for name, found in sorted(results.items()) if found["locked"] and found["problems"]}
    unknown = [name for name, found in absent.items() if found["problems"] == ["unknown"]]
    other = {name: found for name, found in absent.items() if name not in unknown}
    left = sorted(set(users) - set(results))
    covered = sum("covered" in found for found in good.values())
    empty = sum(not found["debs"] for found in good.values())
    counts = (
        f"The public opam repository's packages name {len(users)} Debian packages. {len(unknown)} of them are unknown to this "
        f"release, and {len(other)} cannot be installed for other reasons. Of the other {len(users) - len(absent)}:"
    )
    lines = [
        _INTRODUCTION,
        counts,
        "",
        f"- {len(good) - covered - empty} were built and are right,",
        f"- {covered} are covered by one of these,",
        f"- {empty} are in the base,",
        f"- {len(bad)} have a problem,",
        f"- {len(left)} were not tried yet.",
        "",
        _MENDED,
        *_problems("Have a problem", bad, users),
        *_problems("Are known and cannot be installed", other, users),
        "## Are right",
        "",
        _COVERED,
        "| Debian package | .debs beyond the base | covered by |",
        "|---|---|---|",
        *(f"| {name} | {found['debs']} | {found.get('covered', '')} |" for name, found in good.items()),
        "",
        "## Were not tried yet",
        "",
        (", ".join(left) or "none") + ".",
        "",
        "## Are unknown to this release",
        "",
        "Their opam packages name them for other releases or distributions. `generate-lockfiles` says so.",
        "",
        (", ".join(unknown) or "none") + ".",
        "",
    ]
    return "\n".join(lines)


def _problems(title: str, part: Dict[str, Dict[str, Any]], users: Dict[str, int]) -> List[str]:
    rows = [f"| {name} | {users.get(name, 0)} | {'; '.join(found['problems'])} |" for name, found in part.items()]
    return [f"## {title}", "", "| Debian package | named by | why |", "|---|---|---|", *(rows or ["| none | | |"]), ""]
