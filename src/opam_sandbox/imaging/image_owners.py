"""Files whose accounts have other numbers in an image than where their layer was made: the state layer has them again."""

from __future__ import annotations

import os
from typing import Dict

from opam_sandbox.layer import owners
from opam_sandbox.layer.owners import ROOT, Below, Owner
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View


def give(view: View, below: Below) -> Dict[bytes, Owner]:
    """Copy up what needs another owner in the view, whose accounts are the image's; returns these owners, for `make.Facts`.

    Raises ToolError."""
    given: Dict[bytes, Owner] = {}
    for owned in below.owned(owners.read_accounts([view.root])):
        if owned.wanted == owned.recorded:
            continue
        given[os.fsencode(owned.path)] = owned.wanted
        # Without privileges, the archive alone has owners: it is enough that the file is copied up.
        view_files.give(view.root, owned.path, ROOT if view.overlay.rootless else owned.wanted)
    return given
