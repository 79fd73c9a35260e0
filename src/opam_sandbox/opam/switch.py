"""Paths and environment of opam in every image, and the files that say what a switch has installed."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Sequence, Tuple

from opam_sandbox.layer.capture import EPOCH
from opam_sandbox.layer.ownership import LAST_ENV as _LAST_ENV
from opam_sandbox.layer.ownership import OPAM_ROOT as _OPAM_ROOT
from opam_sandbox.layer.ownership import SWITCH_STATE_DIR as _SWITCH_STATE_DIR
from opam_sandbox.opam.strings import quote

OPAM_ROOT = os.fsdecode(_OPAM_ROOT)
SWITCH_STATE_DIR = os.fsdecode(_SWITCH_STATE_DIR)
LAST_ENV = os.fsdecode(_LAST_ENV)
HOME = "home/opam"
# Where the repository of an image lies: `opam update` reads it again, and nothing else is needed for `opam install`.
REPOSITORY = f"{HOME}/opam-repository"

REPO_FILE = 'opam-version: "2.0"\n'


def environment(jobs: int) -> Dict[str, str]:
    """The whole environment of a build: the same on every machine, but for the number of jobs."""
    return {
        "HOME": f"/{HOME}",
        "USER": "opam",
        "LOGNAME": "opam",
        "SHELL": "/bin/sh",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "DUNE_CACHE": "disabled",
        # Less garbage collection; no result depends on it. A smaller minor heap pays: most programs of a build are
        # so short that making its pages takes longer than collecting does.
        "OCAMLRUNPARAM": "o=200,s=64k",
        "OPAMROOT": f"/{OPAM_ROOT}",
        "OPAMYES": "1",
        "OPAMCONFIRMLEVEL": "unsafe-yes",
        "OPAMCOLOR": "never",
        "OPAMUTF8": "never",
        "OPAMPRECISETRACKING": "1",
        "OPAMNODEPEXTS": "1",
        "OPAMNOSELFUPGRADE": "1",
        "OPAMNOENVNOTICE": "1",
        "OPAMERRLOGLEN": "0",
        "OPAMJOBS": str(jobs),
    }


def debian_environment() -> Dict[str, str]:
    """Of dpkg and the maintainer scripts that it runs, as root."""
    ours = environment(1)
    return {
        "PATH": ours["PATH"],
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "SOURCE_DATE_EPOCH": ours["SOURCE_DATE_EPOCH"],
        # TeX takes the date of its formats from the one above only where it is told to.
        "FORCE_SOURCE_DATE": "1",
    }


def switch_state(installed: Sequence[str], roots: Sequence[str], compiler: Sequence[str] = ()) -> str:
    """The text of .opam-switch/switch-state, without what is empty, as opam writes it. Packages are `name.version`."""

    def listed(packages: Iterable[str]) -> str:
        return "[" + " ".join(quote(package) for package in sorted(packages, key=_place)) + "]"

    fields = {"compiler": compiler, "roots": roots, "installed": installed}
    lines = [f"{name}: {listed(packages)}" for name, packages in fields.items() if packages]
    return "\n".join(['opam-version: "2.0"', *lines, ""])


def _place(package: str) -> Tuple[List[Tuple[str, str]], str]:
    """For sorting as opam sorts: by name alone, so that `a.1` is before `a-b.1`, and of one letter the capital first."""
    name, _, version = package.partition(".")
    return [(letter.lower(), letter) for letter in name], version
