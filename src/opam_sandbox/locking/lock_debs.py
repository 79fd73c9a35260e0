"""Depexts of a resolve as .debs: one installation of Debian that has all of them, and of it what each opam package needs.

apt is asked once for all packages' depexts together, as opam asks it, since one image may have all of them. So of several ways
to install one package's depexts that one is taken that goes with the others', and versions agree. What cannot be installed
together is found here, by asking apt about fewer packages until those are left that are in each other's way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Sequence, Set

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.apt import Apt, LockedDeb

_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9-]+)?")
_RECORD = (
    "To write the lockfile all the same, set [opam].out_of_reach to 'record': the package then cannot be built from it."
)

# `name.version` of an opam package -> its depexts.
Wanted = Mapping[str, Sequence[str]]


@dataclass
class Answer:
    """`own`: the names of all .debs that a package's depexts need; `out_of_reach`: why a package's cannot be installed."""

    debs: List[LockedDeb] = field(default_factory=list)
    own: Dict[str, Set[str]] = field(default_factory=dict)
    out_of_reach: Dict[str, str] = field(default_factory=dict)


def resolve(apt: Apt, wanted: Wanted, record: bool) -> Answer:
    """What `apt` installs for all of `wanted`. Raises ToolError with apt's reason, or has it in the answer if `record`."""
    answer = Answer()
    left = dict(wanted)
    for title, names in wanted.items():
        try:
            check_names(names)
        except ToolError as error:
            _refuse(answer, left, {title: str(error)}, record)
    while left:
        try:
            answer.debs = apt.resolve(_together(left))
            break
        except ToolError:
            alone = {title: why for title, why in ((title, _why_not(apt, left, [title])) for title in left) if why}
            if alone:
                _refuse(answer, left, alone, record)
            else:
                _refuse_conflict(apt, answer, left, record)
    among = apt.among(answer.debs)
    for title, names in left.items():
        answer.own[title] = set(among.resolve(names))
    used = set().union(*answer.own.values())
    answer.debs = [deb for deb in answer.debs if deb.name in used]
    return answer


def check_names(depexts: Sequence[str]) -> None:
    """Raise ToolError for what apt takes for something else: a file of this machine, a pattern, `NAME-` (remove it)."""
    for name in depexts:
        if not _DEBIAN_NAME.fullmatch(name):
            raise ToolError(f"{name!r:.200} is not the name of a Debian package")


def _together(wanted: Wanted) -> List[str]:
    return sorted({name for names in wanted.values() for name in names})


def _why_not(apt: Apt, wanted: Wanted, titles: Sequence[str]) -> str:
    """Why these packages' depexts cannot be installed; "" if they can."""
    try:
        apt.resolve(_together({title: wanted[title] for title in titles}))
    except ToolError as error:
        return str(error)
    return ""


def _refuse(answer: Answer, left: Dict[str, Sequence[str]], reasons: Mapping[str, str], record: bool) -> None:
    if not record:
        texts = [f"{title}: its depexts: {why}{_advice(why)}" for title, why in reasons.items()]
        raise ToolError("\n".join([*texts, _RECORD]))
    for title, why in reasons.items():
        answer.out_of_reach[title] = " ".join(why.split())
        del left[title]


def _advice(why: str) -> str:
    if "is a virtual package provided by" in why:
        return "\n  An overlay repository can have the opam package with one of those as its depext."
    if "need to be removed but remove is disabled" in why:
        return (
            "\n  What would be removed is of the base: leave it out of the base's `packages`, or name another depext."
        )
    return ""


def _refuse_conflict(apt: Apt, answer: Answer, left: Dict[str, Sequence[str]], record: bool) -> None:
    culprits = smallest_conflict(list(left), lambda titles: bool(_why_not(apt, left, titles)))
    why = _why_not(apt, left, culprits)
    listed = ", ".join(f"{title} ({', '.join(left[title])})" for title in culprits)
    text = f"the depexts of {listed} cannot be installed together: {why}"
    if record:
        _refuse(answer, left, {culprits[-1]: text}, record)
        return
    raise ToolError(
        f"{text}\nAll packages of a resolve share one installation of Debian. Lock these in different resolves, or give one of "
        f"them other depexts in an overlay repository.\n{_RECORD}"
    )


def smallest_conflict(items: Sequence[str], fails: Callable[[Sequence[str]], bool]) -> List[str]:
    """A part of `items` that fails together, of which nothing can be left out. All of `items` fail; what fails, fails with more.

    Asks about k * log2(n / k) times for k of n items (QuickXplain, Junker 2004).
    """

    def search(sure: List[str], grew: bool, rest: List[str]) -> List[str]:
        if grew and fails(sure):
            return []
        if len(rest) == 1:
            return rest
        first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        of_second = search([*sure, *first], bool(first), second)
        of_first = search([*sure, *of_second], bool(of_second), first)
        return [*of_first, *of_second]

    found = search([], False, list(items))
    return [item for item in items if item in found]
