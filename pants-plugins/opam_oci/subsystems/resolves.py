"""What the options of both kinds of resolves share."""

from __future__ import annotations


class UnknownResolveError(Exception):
    """A `resolve` that no option defines."""


def find_lockfile(resolve: str, resolves: dict[str, str], option: str, origin: str) -> str:
    """The path of a resolve's lockfile. Raises UnknownResolveError; `option` and `origin` say what defines and what names it."""
    if resolve not in resolves:
        known = ", ".join(sorted(resolves)) or "none"
        raise UnknownResolveError(
            f"The resolve `{resolve}`, named by {origin}, is not defined. Defined in `{option}`: {known}."
        )
    return resolves[resolve]
