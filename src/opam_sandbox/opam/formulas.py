"""opam's package formulas and filters, evaluated for one solution: which packages of it does a package depend on?

Sources: opam manual, "Package formulas" and "Filters".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from opam_sandbox.debian_versions import compare_versions
from opam_sandbox.opam.opamfile import Binary, Group, Ident, Int, ListOf, Option_, Prefix, Str, Value

# A variable's value; None is "undefined", which filters treat as unknown.
Variables = Mapping[str, Union[bool, str]]
_Truth = Optional[bool]
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


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
        if value.op == "&":
            return _all(evaluate(side, variables, version) for side in operands(value))
        if value.op == "|":
            sides = [evaluate(side, variables, version) for side in operands(value)]
            return True if True in sides else None if None in sides else False
        if value.op in _COMPARISONS:
            a, b = _text(value.left, variables), _text(value.right, variables)
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


def operands(value: Binary) -> List[Value]:
    """What a chain of one operator joins, from left to right. A chain may be longer than a recursion may be deep."""
    found: List[Value] = []
    rest: Value = value
    while isinstance(rest, Binary) and rest.op == value.op:
        found.append(rest.right)
        rest = rest.left
    return [rest, *reversed(found)]


def _interpolated(text: str, variables: Variables) -> str:
    """`text` with the values of variables in the place of `%{NAME}%`."""
    pieces: List[str] = []
    at = 0
    while True:
        # Of several `%{` before a `}%`, the first begins it.
        start = text.find("%{", at)
        end = text.find("}", start + 2) if start >= 0 else -1
        if end < 0:
            return "".join([*pieces, text[at:]])
        if text.startswith("%", end + 1):
            pieces += [text[at:start], str(variables.get(text[start + 2 : end], ""))]
            at = end + 2
        else:
            pieces.append(text[at : end + 1])
            at = end + 1


def _text(value: Value, variables: Variables) -> Optional[str]:
    if isinstance(value, Str):
        return _interpolated(value.value, variables)
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
        for name, filters in atoms(formula):
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


def atoms(value: Value) -> Iterator[Tuple[str, Tuple[Value, ...]]]:
    """(name, filters) of every package that a formula names, on either side of an `|`."""
    if isinstance(value, Str):
        yield value.value, ()
    elif isinstance(value, Option_):
        for name, filters in atoms(value.value):
            yield name, filters + value.filters
    elif isinstance(value, (ListOf, Group)):
        for item in value.items:
            yield from atoms(item)
    elif isinstance(value, Binary):
        for item in operands(value):
            yield from atoms(item)


_NOT_AT_RUN_TIME = {"build", "with-test", "with-doc", "with-dev-setup", "dev"}


def not_at_run_time(formulas: Iterable[Value]) -> Set[str]:
    """The packages that the formulas name for builds, tests, documentation or development only."""
    found: Dict[bool, Set[str]] = {True: set(), False: set()}
    for formula in formulas:
        for name, filters in atoms(formula):
            found[any(_excludes_run_time(item) for item in filters)].add(name)
    return found[True] - found[False]


def _excludes_run_time(value: Value) -> bool:
    """Whether a filter holds only where the package is not needed at run time."""
    if isinstance(value, Ident):
        return value.name in _NOT_AT_RUN_TIME
    if isinstance(value, Binary) and value.op in ("&", "|"):
        return (any if value.op == "&" else all)(_excludes_run_time(item) for item in operands(value))
    return isinstance(value, Group) and any(_excludes_run_time(item) for item in value.items)


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
