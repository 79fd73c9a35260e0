"""`verify`: every byte of the unpacked layers, against what was recorded when they were made."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import run_isolated


def run(options: argparse.Namespace) -> int:
    """Verify the store `options.store`. Prints what is damaged, and removes it. Returns 1 if anything was; raises ToolError."""
    directory: Path = options.store
    if not directory.is_dir():
        raise ToolError(f"{directory} is not a directory")
    if os.geteuid() == 0:
        return _verify(directory, rootless=False)
    # As those who unpacked: files of modes that keep their owner out can be read.
    return run_isolated(lambda: _verify(directory, rootless=True), signals=())


def _verify(directory: Path, rootless: bool) -> int:
    damaged = whole = 0
    store = Store(directory, rootless)
    for diff_id, problem in store.verify():
        if problem:
            damaged += 1
            print(f"{diff_id}: {problem}; removed")
        else:
            whole += 1
    print(f"{whole} layers are whole, {damaged} were damaged.", file=sys.stderr)
    for path in store.other_formats():
        print(f"{path} is of another version: delete it if no checkout uses that any more.", file=sys.stderr)
    return 1 if damaged else 0
