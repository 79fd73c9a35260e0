"""The page about depexts that were tried."""

from __future__ import annotations

from typing import Any, Dict


def table(results: Dict[str, Dict[str, Any]], users: Dict[str, int]) -> str:
    """All results as a page."""
    good = sorted(name for name, found in results.items() if not found["problems"])
    absent = {name: found for name, found in sorted(results.items()) if not found["locked"]}
    bad = {name: found for name, found in sorted(results.items()) if found["locked"] and found["problems"]}
    unknown = [name for name, found in absent.items() if found["problems"] == ["unknown"]]
    counts = (
        f"{len(unknown)} of them are unknown to this release, and {len(absent) - len(unknown)} cannot be installed for other "
        f"reasons. Of the other {len(users) - len(absent)}, {len(good) + len(bad)} were tried until now: {len(good)} install, "
        f"with the same bytes twice and nothing to complain of; {len(bad)} have a problem."
    )
    lines = [
        "# Debian packages as depexts",
        "",
        "What `tests/sweeps/depexts.py` found: each Debian package below was locked as the depext of an opam package on the base",
        "`3rdparty/debian:trixie`, its layer was built twice, and the image was asked by `dpkg --audit`, `dpkg --verify` and",
        "`apt-get check`.",
        "",
        f"The public opam repository's packages name {len(users)} Debian packages. {counts}",
        "",
        "## Install and are the same twice",
        "",
        ", ".join(f"{name} ({results[name]['debs']})" for name in good) + ".",
        "",
        "In brackets: how many .debs beyond the base.",
        "",
    ]
    other = {name: found for name, found in absent.items() if name not in unknown}
    for title, part in (("Have a problem", bad), ("Are known and cannot be installed", other)):
        lines += [f"## {title}", "", "| Debian package | named by | why |", "|---|---|---|"]
        lines += [f"| {name} | {users.get(name, 0)} | {'; '.join(found['problems'])} |" for name, found in part.items()]
        lines += [] if part else ["| none | | |"]
        lines.append("")
        if part is bad and part:
            lines += [""]
    lines += [
        "## Are unknown to this release",
        "",
        "Their opam packages name them for other releases or distributions. `generate-lockfiles` says so.",
        "",
        ", ".join(unknown) + ".",
        "",
    ]
    return "\n".join(lines)
