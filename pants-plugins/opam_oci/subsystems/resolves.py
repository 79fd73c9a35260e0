"""What the options of both kinds of resolves share."""

from __future__ import annotations


class UnknownResolveError(Exception):
    """A `resolve` that no option defines."""


def find_lockfile(resolve: str, resolves: dict[str, str], option: str, origin: str) -> str:
    if resolve not in resolves:
        known = ", ".join(sorted(resolves)) or "none"
        raise UnknownResolveError(
            f"The resolve `{resolve}`, named by {origin}, is not defined. Defined in `{option}`: {known}."
        )
    return resolves[resolve]
