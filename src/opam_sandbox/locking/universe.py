"""opam's packages as it describes them to a solver: the CUDF text of `opam config cudf-universe`.

In CUDF versions are numbers. opam numbers all versions of a name that a repository has, or that a formula names, in their order.
Source: "Common Upgradeability Description Format (CUDF) 2.0", and what opam 2.3 writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Sequence, Set, Tuple
from urllib.parse import unquote

from opam_sandbox.debian_versions import compare_versions
from opam_sandbox.errors import ToolError

# One that no version has.
BEYOND = 1 << 40
# What opam writes of packages without saying so in the first line, which the parser asks for.
_UNDECLARED = b"opam-query: nat = [0], missing-depexts: nat = [0], avoid-version: nat = [0]"
_COMMENT = re.compile(r"#v2v:([^:\s]+):([0-9]+)=(\S+)\s*$")
_ALTERNATIVE = re.compile(r"(\S+)(?: (=|!=|>=|>|<=|<) ([0-9]+))?$")

Bound = Tuple[str, str]


@dataclass(frozen=True)
class Alternative:
    """A package that meets a dependency: CUDF's name, and an operator and a number ("" and 0 for any version)."""

    name: str
    operator: str
    number: int

    def accepts(self, number: int) -> bool:
        """Whether a version's number is within the bound."""
        return {
            "": True,
            "=": number == self.number,
            "!=": number != self.number,
            ">=": number >= self.number,
            ">": number > self.number,
            "<=": number <= self.number,
            "<": number < self.number,
        }[self.operator]


@dataclass
class Name:
    """What is known of a name: number -> version, of all and of those that are available; which of these are to be avoided;
    number -> its dependencies as CUDF has them."""

    cudf: str
    versions: Dict[int, str] = field(default_factory=dict)
    available: Dict[int, str] = field(default_factory=dict)
    avoided: List[int] = field(default_factory=list)
    depends: Dict[int, str] = field(default_factory=dict)


class Universe:
    """All packages that are available in a base. Names are opam's."""

    def __init__(self, text: bytes) -> None:
        self.names: Dict[str, Name] = {}
        self._own: Dict[str, str] = {}
        comments: List[Tuple[str, int, str]] = []
        for paragraph in text.decode("utf-8", "surrogateescape").split("\n\n"):
            if paragraph.startswith("package: "):
                self._add(dict(_fields(paragraph)))
            comments += [
                (found[1], int(found[2]), found[3]) for found in map(_COMMENT.match, _comments(paragraph)) if found
            ]
        for own, number, version in comments:
            # Of a name without any package that is available, CUDF's name is not said: no answer has it, only reasons.
            self.names.setdefault(own, Name(own)).versions[number] = version

    def _add(self, values: Dict[str, str]) -> None:
        try:
            own, version, number = values["opam-name"], values["opam-version"], int(values["version"])
            name = self.names.setdefault(own, Name(values["package"]))
        except (KeyError, ValueError) as error:
            raise ToolError(f"opam's description of its packages is not understood: {error!r:.200}") from None
        self._own[values["package"]] = own
        name.versions[number] = version
        name.available[number] = version
        name.depends[number] = values.get("depends", "")
        if values.get("avoid-version") == "1":
            name.avoided.append(number)

    def available(self) -> Set[Tuple[str, str]]:
        """(name, version) of all of them."""
        return {(name, version) for name, known in self.names.items() for version in known.available.values()}

    def own_name(self, cudf: str) -> str:
        """opam's name for CUDF's, which has `%5f` for what CUDF knows no character of."""
        return self._own.get(cudf) or unquote(cudf, errors="surrogateescape")

    def newest(self, name: str) -> List[int]:
        """The numbers of the available versions, newest first, those that are to be avoided last."""
        known = self.names.get(name, Name(name))
        return sorted(known.available, key=lambda number: (number in known.avoided, -number))

    def alternatives(self, name: str, number: int) -> Iterator[Alternative]:
        """All that the dependencies of a version name, on either side of an `|`."""
        for text in re.split(r" [,|] ", self.names[name].depends.get(number, "")):
            found = _ALTERNATIVE.match(text.strip())
            if found:
                yield Alternative(found[1], found[2] or "", int(found[3] or 0))

    def bound(self, name: str, bound: Bound) -> str:
        """A bound in opam's words as `NAME OPERATOR NUMBER`, in CUDF's."""
        operator, version = bound
        known = self.names.get(name, Name(name))
        rising = sorted(known.versions)

        def first(strictly: bool) -> int:
            for number in rising:
                order = compare_versions(known.versions[number], version)
                if order > 0 or (order == 0 and not strictly):
                    return number
            return BEYOND

        if operator in ("=", "!="):
            same = [number for number in rising if compare_versions(known.versions[number], version) == 0]
            return f"{known.cudf} {operator} {same[0] if same else BEYOND}"
        # The first one that is past the bound says it, as the version itself may have no number.
        return f"{known.cudf} {'>=' if operator in ('>=', '>') else '<'} {first(operator in ('>', '<='))}"

    def bounds(self, name: str, bounds: Sequence[Bound]) -> List[str]:
        """Each of them."""
        return [self.bound(name, one) for one in bounds]


def declared(text: bytes) -> bytes:
    """opam's text with all properties in its first line, as the solver's parser wants it."""
    return re.sub(rb"(?m)^property: ", b"property: " + _UNDECLARED + b", ", text, count=1)


def _fields(paragraph: str) -> Iterator[Tuple[str, str]]:
    for line in paragraph.split("\n"):
        key, colon, value = line.partition(": ")
        if colon:
            yield key, value


def _comments(paragraph: str) -> Iterator[str]:
    return (line for line in paragraph.split("\n") if line.startswith("#v2v:"))
