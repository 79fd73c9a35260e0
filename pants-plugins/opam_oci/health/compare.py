"""Two health checks, before and after a change: what the change broke, and what it mended."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from opam_oci.health.facts import OWN_FAILURES, UNTRIED, causes, is_accepted, kind_of, reason_of
from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status

# Numbers, times and hashes in a reason differ between runs of the same failure.
_CHANGING = re.compile(r"[0-9a-f]{7,}|\d+")


@dataclass(frozen=True)
class Change:
    """One root in both runs. before, after: None where that run did not have it. kind: why it fails now."""

    before: RootResult | None
    after: RootResult | None
    kind: FailureKind | None = None

    @property
    def root(self) -> RootResult:
        """The newer of the two."""
        root = self.after or self.before
        assert root is not None
        return root

    @property
    def version_change(self) -> str:
        """As in "1.0 -> 1.1"; "" where the version is the same, or one of them has none."""
        old, new = (side.version if side else "" for side in (self.before, self.after))
        return f"{old} -> {new}" if old and new and old != new else ""


@dataclass(frozen=True)
class Blocked:
    """Roots that were built before, and now are not because this package fails."""

    cause: PackageResult
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """What differs. Each is sorted by name, and a root is in one of them, but that one with several causes is below each.

    regressions: built before, and now their own builds fail, or they have no solution or no depexts. blocked: built before,
    now stopped by a failure of another package, which is where it is listed. missing_sources: built before, now a source of
    it, or of all that stops it, is nowhere: that is not the change's fault. untried: built before, not tried now. accepted:
    built before, now failing as their opam files accept. fixes: built now only. changed: fail in both, for another reason.
    still_failing: fail in both for the same reason. new, gone: in one run only.
    """

    regressions: tuple[Change, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    missing_sources: tuple[Change, ...] = ()
    untried: tuple[Change, ...] = ()
    accepted: tuple[Change, ...] = ()
    fixes: tuple[Change, ...] = ()
    changed: tuple[Change, ...] = ()
    still_failing: tuple[Change, ...] = ()
    new: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()

    @property
    def others(self) -> tuple[tuple[str, tuple[Change, ...]], ...]:
        """What reports list below regressions and what these stop, each with its title, in this order."""
        return (
            ("Fixed", self.fixes),
            ("New", self.new),
            ("Fail for another reason than before", self.changed),
            ("Not tried, built before", self.untried),
            ("A source is nowhere, built before", self.missing_sources),
            ("Fail now, as their opam files accept", self.accepted),
            ("Still failing", self.still_failing),
            ("Gone", self.gone),
        )

    @property
    def broke_something(self) -> bool:
        """Whether a root that was built before is not, by a failure that counts."""
        return bool(self.regressions or self.blocked)

    @property
    def blocked_roots(self) -> int:
        """How many roots other packages' failures stop now. One with several causes counts once."""
        return len({change.root for group in self.blocked for change in group.changes})


def compare(before: HealthReport, after: HealthReport) -> Comparison:
    """Compare root by root: the same package, version and compiler; where each run has one version of it only, that one."""
    lists: dict[str, list[Change]] = defaultdict(list)
    blocked: dict[str, list[Change]] = defaultdict(list)
    for old, new in _pairs(before, after):
        change = Change(old, new, kind_of(after, new) if new else None)
        place = _place(before, after, change)
        if place != "blocked":
            lists[place].append(change)
            continue
        for cause in causes(after, change.root):
            blocked[cause.id].append(change)
    lists.pop("same", None)
    return Comparison(
        blocked=tuple(
            Blocked(after.packages[id], tuple(changes))
            for id, changes in sorted(blocked.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
        **{place: tuple(changes) for place, changes in lists.items()},
    )


def _pairs(before: HealthReport, after: HealthReport) -> list[tuple[RootResult | None, RootResult | None]]:
    """Which root is which, sorted by name, compiler and version."""
    old = {(root.name, root.compiler, root.version): root for root in before.roots}
    new = {(root.name, root.compiler, root.version): root for root in after.roots}
    versions_before = Counter(key[:2] for key in old)
    versions_after = Counter(key[:2] for key in new)
    lone = {key[:2]: root for key, root in old.items() if versions_before[key[:2]] == versions_after[key[:2]] == 1}
    pairs: list[tuple[RootResult | None, RootResult | None]] = []
    found: set[tuple[str, str, str]] = set()
    for key, root in new.items():
        other = old.get(key) or lone.get(key[:2])
        if other is not None:
            found.add((other.name, other.compiler, other.version))
        pairs.append((other, root))
    pairs += [(root, None) for key, root in old.items() if key not in found]

    def key_of(pair: tuple[RootResult | None, RootResult | None]) -> tuple[str, str, str]:
        root = pair[1] or pair[0]
        assert root is not None
        return root.name, root.compiler, root.version

    return sorted(pairs, key=key_of)


def _place(before: HealthReport, after: HealthReport, change: Change) -> str:
    """The field of Comparison that a root belongs to; "same" where there is nothing to say."""
    old, new = change.before, change.after
    if old is None or new is None:
        return "new" if old is None else "gone"
    if new.status is Status.SUCCESS:
        return "same" if old.status is Status.SUCCESS else "fixes"
    if old.status is not Status.SUCCESS:
        if new.status in UNTRIED:
            return "same"
        alike = _what(before, old) == _what(after, new)
        return "still_failing" if alike else "changed"
    if new.status in UNTRIED:
        return "untried"
    if is_accepted(after, new):
        return "accepted"
    if new.status is Status.NO_SOURCE:
        return "missing_sources"
    found = causes(after, new)
    if not found:
        return "regressions"
    return "missing_sources" if all(cause.status is Status.NO_SOURCE for cause in found) else "blocked"


def _what(report: HealthReport, root: RootResult) -> tuple[object, ...]:
    """What makes two failures the same one."""
    kind = kind_of(report, root)
    if root.status is Status.DEPENDENCY_FAILED:
        return root.status, tuple(sorted({package.name for package in causes(report, root)}))
    own = root.status in OWN_FAILURES or root.status is Status.NO_SOLUTION
    return root.status, kind, _CHANGING.sub("0", reason_of(report, root)) if own else ""
