"""opam's package formulas and filters, evaluated for one solution: which packages of it does a package depend on?

Sources: opam manual, "Package formulas" and "Filters"; versions compare as in Debian policy 5.6.12, which opam follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from opam_sandbox.opamfile import Binary, Group, Ident, Int, ListOf, Option_, Prefix, Str, Value

# A variable's value; None is "undefined", which filters treat as unknown.
Variables = Mapping[str, Union[bool, str]]
_Truth = Optional[bool]
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


def compare_versions(left: str, right: str) -> int:
    """Negative, zero or positive, as `left` is older than, equal to or newer than `right`."""
    # What a version lacks counts as no text and the number 0: before a letter, after a `~`.
    for one, other in zip_longest(_split(left), _split(right), fillvalue=((0,), 0)):
        if one != other:
            return -1 if one < other else 1
    return 0


def _split(version: str) -> List[Tuple[Tuple[int, ...], int]]:
    """Alternating (text, number) pairs; in a text `~` sorts before its end, letters before everything else."""
    return [
        (tuple(_order(char) for char in text) + (0,), int(number or 0))
        for text, number in re.findall(r"([^0-9]*)([0-9]*)", version)
        if text or number
    ]


def version_key(version: str) -> Any:
    """A key that sorts as `compare_versions` compares."""
    return cmp_to_key(compare_versions)(version)


def _order(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _compare(op: str, left: str, right: str) -> bool:
    order = compare_versions(left, right)
    return {
        "=": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[op]


def evaluate(value: Value, variables: Variables, version: Optional[str] = None) -> _Truth:
    """Truth of a filter; None where it rests on an undefined variable. `version`: what a bare comparison (`>= "1.0"`)
    compares with."""
    if isinstance(value, Ident):
        if value.name in ("true", "false"):
            return value.name == "true"
        found = variables.get(value.name)
        return found if isinstance(found, bool) else None if found is None else found == "true"
    if isinstance(value, Group):
        return _all(evaluate(item, variables, version) for item in value.items)
    if isinstance(value, Binary):
        left, right = value.left, value.right
        if value.op == "&":
            return _all(evaluate(side, variables, version) for side in (left, right))
        if value.op == "|":
            sides = [evaluate(side, variables, version) for side in (left, right)]
            return True if True in sides else None if None in sides else False
        if value.op in _COMPARISONS:
            a, b = _text(left, variables), _text(right, variables)
            return None if a is None or b is None else _compare(value.op, a, b)
        return None
    if isinstance(value, Prefix):
        if value.op == "!":
            truth = evaluate(value.value, variables, version)
            return None if truth is None else not truth
        if value.op in _COMPARISONS:
            wanted = _text(value.value, variables)
            return None if version is None or wanted is None else _compare(value.op, version, wanted)
        if value.op == "?":
            return isinstance(value.value, Ident) and value.value.name in variables
    if isinstance(value, Str):
        return value.value == "true"
    return None


def _all(truths: Iterator[_Truth]) -> _Truth:
    result: _Truth = True
    for truth in truths:
        if truth is False:
            return False
        if truth is None:
            result = None
    return result


def _text(value: Value, variables: Variables) -> Optional[str]:
    if isinstance(value, Str):
        return re.sub(r"%\{([^}]*)\}%", lambda match: str(variables.get(match.group(1), "")), value.value)
    if isinstance(value, Int):
        return str(value.value)
    if isinstance(value, Ident):
        found = variables.get(value.name)
        return None if found is None else {True: "true", False: "false"}[found] if isinstance(found, bool) else found
    return None


@dataclass(frozen=True)
class Dependencies:
    """Names in the solution: `build` must be there before the package is built, `post` only beside it afterwards."""

    build: Tuple[str, ...]
    post: Tuple[str, ...]


def dependencies(
    formulas: Sequence[Value], package: str, version: str, solution: Mapping[str, str], variables: Variables
) -> Dependencies:
    """What `depends` and `depopts` of a package mean within a solution (name -> version).

    Every package of the solution that a formula names and whose constraint holds counts, on either side of an `|`.
    """
    build: Set[str] = set()
    post: Set[str] = set()
    own: Dict[str, Union[bool, str]] = {**variables, "name": package, "version": version, "_:version": version}
    for formula in formulas:
        for name, filters in _atoms(formula):
            chosen = solution.get(name)
            if chosen is None or name == package:
                continue
            if _holds(filters, {**own, "post": False}, chosen):
                build.add(name)
            elif _holds(filters, {**own, "post": True}, chosen):
                post.add(name)
    return Dependencies(tuple(sorted(build)), tuple(sorted(post - build)))


def _holds(filters: Sequence[Value], variables: Variables, chosen: str) -> bool:
    # What is unknown here was decided by opam when it took the package into the solution.
    return all(evaluate(item, variables, chosen) is not False for item in filters)


def _atoms(value: Value) -> Iterator[Tuple[str, Tuple[Value, ...]]]:
    if isinstance(value, Str):
        yield value.value, ()
    elif isinstance(value, Option_):
        for name, filters in _atoms(value.value):
            yield name, filters + value.filters
    elif isinstance(value, (ListOf, Group)):
        for item in value.items:
            yield from _atoms(item)
    elif isinstance(value, Binary):
        yield from _atoms(value.left)
        yield from _atoms(value.right)


def depexts(value: Value, variables: Variables) -> List[str]:
    """The system packages that a `depexts` field names for these os variables, sorted."""
    names: Set[str] = set()
    for item in value.items if isinstance(value, ListOf) else (value,):
        filters = item.filters if isinstance(item, Option_) else ()
        if all(evaluate(one, variables) is True for one in filters):
            names.update(_strings(item))
    return sorted(names)


def _strings(value: Value) -> Iterator[str]:
    if isinstance(value, Str):
        yield value.value
    elif isinstance(value, (ListOf, Group)):
        for item in value.items:
            yield from _strings(item)
    elif isinstance(value, Option_):
        yield from _strings(value.value)


def strings(value: Optional[Value]) -> List[str]:
    """The strings of a field that holds one string or a list of them."""
    return [] if value is None else list(_strings(value))


def idents(value: Optional[Value]) -> Set[str]:
    """The identifiers of a field that holds one or a list of them (`flags`)."""
    if isinstance(value, Ident):
        return {value.name}
    if isinstance(value, (ListOf, Group)):
        return {name for item in value.items for name in idents(item)}
    return set()
