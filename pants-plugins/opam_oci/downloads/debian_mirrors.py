"""Which Debian archives files come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from opam_oci.downloads.apt_sources import apt_mirrors
from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule
from opam_oci.subsystems.debian import DebianSubsystem


@dataclass(frozen=True)
class Mirrors:
    """Roots of Debian archives, without a slash at the end, in the order in which they are asked."""

    urls: tuple[str, ...] = field(repr=False)  # they may have passwords


NO_MIRROR = (
    "no Debian mirror is known: apt on this machine has none, so set `[debian].mirrors` to the URL of a Debian archive"
)


# Not cached: apt's configuration lies outside of what Pants watches.
@uncacheable_rule
async def find_mirrors(debian: DebianSubsystem) -> Mirrors:
    """The mirrors of `[debian].mirrors`, or else those of this machine's apt; perhaps none."""
    return Mirrors(tuple(m.rstrip("/") for m in debian.mirrors) or apt_mirrors(Path("/etc/apt")))


def rules() -> list[object]:
    return [*collect_rules()]
