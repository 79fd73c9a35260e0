"""Shows the logs of builds."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildLogRequest:
    """Asks to print a build log, once per run."""

    package: str
    text: str


@dataclass(frozen=True)
class BuildLogShown:
    """The log is printed."""


# Not cached: with the option set, logs are shown in every run, also those of layers that come from a cache.
@uncacheable_rule
async def print_build_log(request: BuildLogRequest) -> BuildLogShown:
    """Print a log as one message."""
    logger.info(f"Build log of {request.package}:\n{request.text.rstrip()}")
    return BuildLogShown()


def rules() -> list[object]:
    return [*collect_rules()]
