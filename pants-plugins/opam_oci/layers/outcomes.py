"""What outcomes of packages' builds say together."""

from __future__ import annotations

from typing import Iterable

from opam_oci.layers.package import PackageOutcome


def failures_among(outcomes: Iterable[PackageOutcome]) -> tuple[list[str], list[str]]:
    """What failed, each with its message, in the outcomes' order; and `name.version` of what the others wait for, sorted."""
    found = tuple(outcomes)
    failed = [f"{one.package} failed: {one.failed}" for one in found if one.failed is not None]
    return failed, sorted({name for one in found for name in one.blocked_by})
