"""Environment variables of a container: their values may be secrets, so that they come in the environment, not in the request."""

from __future__ import annotations

import os
from typing import Dict, Sequence

# A request lies in Pants' store. What it names NAME has its value in this and NAME.
PREFIX = "OPAM_OCI_RUN_"


def variables(entries: Sequence[str]) -> Dict[str, str]:
    """A request's `env`: `NAME=value`, or `NAME` for what PREFIX and NAME are in this process's environment ("" if nothing)."""
    found = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        found[name] = value if equals else os.environ.get(f"{PREFIX}{name}", "")
    return found


def without_variables() -> Dict[str, str]:
    """This process's environment, but for the values of containers' variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
