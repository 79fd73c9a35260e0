"""Files of an opam repository in the build root that are on disk, but that Pants does not see.

`.gitignore` and `[GLOBAL].pants_ignore` hide files from Pants, and with them patches and `.install` files of packages, without
which the packages are built all the same, and otherwise.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, Iterable, Iterator

_TITLE = re.compile(r"[A-Za-z0-9_+-]+\.[A-Za-z0-9_+.~-]+\Z")
_SHOWN = 5


@dataclass(frozen=True)
class IgnoreRule:
    """A pattern that hides files from Pants, as `.gitignore` has it; `origin` says where it stands."""

    pattern: str
    origin: str


def hidden_files(build_root: Path, location: str, seen: Collection[str]) -> list[str]:
    """The files below `location` that opam would read of packages there, and that are not in `seen`.

    `seen` and the result are paths from the build root; the result is sorted.
    """
    found = []
    for directory, _, names in os.walk(build_root / location / "packages"):
        parts = Path(directory).relative_to(build_root).parts
        in_package = any(_TITLE.match(part) for part in parts)
        in_files = any(_TITLE.match(above) and below == "files" for above, below in zip(parts, parts[1:]))
        for name in names:
            path = "/".join((*parts, name))
            read_by_opam = in_files or (in_package and name in ("opam", "url", "descr"))
            # What a link leads to is of the repository as well, or refused.
            if read_by_opam and path not in seen and not os.path.islink(build_root / path):
                found.append(path)
    return sorted(found)


def ignore_rules(build_root: Path, use_gitignore: bool, pants_ignore: Iterable[str]) -> Iterator[IgnoreRule]:
    """The rules that are in force, weakest first."""
    for file in (".git/info/exclude", ".gitignore") if use_gitignore else ():
        path = build_root / file
        if path.is_file():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                yield IgnoreRule(line, f"{file}, line {number}")
    for pattern in pants_ignore:
        yield IgnoreRule(pattern, "`[GLOBAL].pants_ignore`")


def hiding_rule(path: str, rules: Iterable[IgnoreRule]) -> IgnoreRule | None:
    """The rule that hides a file: the last that matches it, or a directory above it. None if none does."""
    parts = path.split("/")
    found: IgnoreRule | None = None
    for rule in rules:
        pattern = rule.pattern.strip()
        if not pattern or pattern.startswith("#"):
            continue
        shown = pattern.startswith("!")
        matcher = _regex(pattern[shown:].rstrip("/"))
        last = len(parts) - pattern.endswith("/")
        if any(matcher.match("/".join(parts[:end])) for end in range(1, last + 1)):
            found = None if shown else rule
    return found


def _regex(pattern: str) -> re.Pattern[str]:
    anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    text = ""
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            text, at = f"{text}(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            text, at = f"{text}.*", at + 2
        elif pattern[at] in "*?":
            text, at = text + ("[^/]*" if pattern[at] == "*" else "[^/]"), at + 1
        elif pattern[at] == "[" and "]" in pattern[at + 2 :]:
            end = pattern.index("]", at + 2)
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            text, at = f"{text}[{'^' + inside[1:] if inside[0] == '!' else inside}]", end + 1
        else:
            at += pattern[at] == "\\" and at + 1 < len(pattern)
            text, at = text + re.escape(pattern[at]), at + 1
    try:
        return re.compile(("" if anchored else "(?:.*/)?") + text + r"\Z")
    except re.error:
        return re.compile(r"(?!)")


def hidden_message(name: str, location: str, hidden: Collection[str], rules: Iterable[IgnoreRule]) -> str:
    """What to tell a user of hidden files, and of the rules that hide them."""
    known = list(rules)
    lines = []
    for path in list(hidden)[:_SHOWN]:
        rule = hiding_rule(path, known)
        reason = f"{rule.pattern.strip()!r} in {rule.origin}" if rule else "your global gitignore, or an ignore rule"
        lines.append(f"  {path.encode('utf-8', 'replace').decode()}: hidden by {reason}")
    more = f"\n  and {len(hidden) - _SHOWN} more" if len(hidden) > _SHOWN else ""
    return (
        f"Pants does not see all files of the opam repository {name} (`[opam].repositories`, {location}), so that its "
        "packages would be locked without them:\n" + "\n".join(lines) + f"{more}\n"
        "Take the rule back, or add one after it that begins with `!` and shows these files again, or remove them."
    )
