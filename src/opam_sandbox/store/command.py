"""`usage` and `prune`: the commands for the store of this user."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import List, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.store import report
from opam_sandbox.store.items import Kind
from opam_sandbox.store.kinds import KINDS, PRUNED
from opam_sandbox.store.pruning import Limits, Outcome, prune, read_size


def usage(options: argparse.Namespace) -> int:
    """Print what the store `options.store` holds. Returns 0; raises ToolError, OSError."""
    store, now = _open(options.store), time.time()
    items = [item for kind in KINDS for item in kind.find(store)] if store else []
    data = report.usage_data(os.path.realpath(options.store), KINDS, items, now)
    print(report.as_json(data) if options.format == "json" else report.usage_text(data))
    return 0


def run_prune(options: argparse.Namespace) -> int:
    """Prune the store `options.store` as the options say, and print what went. Returns 0; raises ToolError, OSError."""
    limits = _limits(options)
    kinds = _kinds(options.kind)
    store = _open(options.store)
    if store is None:
        outcome = Outcome([], [], 0, 0)
    else:
        outcome = prune(store, kinds, limits, time.time(), options.dry_run)
    data = report.prune_data(os.path.realpath(options.store), outcome, options.dry_run)
    text = report.as_json(data) if options.format == "json" else report.prune_text(data, options.brief)
    if text:
        print(text)
    return 0


def _open(directory: Path) -> Optional[Store]:
    """None where nothing was kept yet. Raises ToolError for what is no directory, or another user's."""
    if not os.path.lexists(directory):
        return None
    if not directory.is_dir():
        raise ToolError(f"{directory} is not a directory")
    return Store(directory, os.geteuid() != 0)


def _limits(options: argparse.Namespace) -> Limits:
    days, percent = _number(options.days, "--days"), _number(options.percent, "--percent")
    if percent is not None and percent > 100:
        raise ToolError(f"--percent={percent} is more than all")
    size = None
    if options.max_size is not None:
        place: Path = options.store
        while not place.is_dir():
            place = place.absolute().parent
        size = read_size(options.max_size, place)
    return Limits(days, percent, size)


def _number(text: Optional[str], option: str) -> Optional[int]:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ToolError(f"{option}={text!s:.60} is no whole number of days or percent")
    return int(text)


def _kinds(names: Optional[Sequence[str]]) -> List[Kind]:
    unknown = [name for name in names or () if name not in PRUNED]
    if unknown:
        raise ToolError(f"--kind={unknown[0]!s:.60}: what can be pruned is {', '.join(PRUNED)}")
    return [kind for kind in KINDS if not names or kind.name in names]
