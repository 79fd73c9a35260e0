"""A clone of this checkout with a resolve of small packages: images that are built in seconds where the base is at hand.

What the packages install says what their builds see: environment, limits, signals, ids, clocks' zone, locale. So an image's
digest shows whatever of the caller's surroundings gets into a build.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Sequence

from tests.support.checkout import make_clone
from tests.support.layouts import Layout

BASE = "//3rdparty/debian:trixie-ocaml"
RESOLVE = "small"

# What a package records. Of the environment nothing is left out; of the limits those that change what programs do.
SEEN = (
    "env | sort",
    "id",
    "umask",
    "pwd",
    "date +%Z",
    "locale",
    "grep -E '^(SigBlk|SigIgn|NoNewPrivs|Seccomp|CapBnd|CapEff)' /proc/self/status",
    "ls -l /proc/self/fd | wc -l",
    "hostname",
    "echo ä | wc -m",
)


def opam_file(nonce: str, commands: Sequence[str], lines: int = 200) -> str:
    """Of a package that records what its build sees, and installs some files. Another `nonce` is another package."""
    script = "; ".join([*commands, f"echo {nonce}"])
    return (
        'opam-version: "2.0"\n'
        f'build: [["sh" "-c" {_quote("{ " + script + "; } > seen 2>&1")}] '
        f'["sh" "-c" {_quote(f"i=0; while [ $i -lt {lines} ]; do echo $i > file$i; i=$((i+1)); done")}]]\n'
        'install: [["sh" "-c" "mkdir -p %{lib}%/%{name}% && cp seen file* %{lib}%/%{name}%/"]]\n'
    )


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def lockfile(packages: Dict[str, str], depends: Dict[str, List[str]]) -> str:
    """A lockfile of these packages (name -> opam file) without sources."""
    head = (
        f'[metadata]\nlock_version = 1\nkind = "opam"\nresolve = "{RESOLVE}"\nbase = "{BASE}"\n'
        f"requirements = {json.dumps(sorted(packages))}\nconstraints = []\noptions = []\n\n"
    )
    entries = [
        f'[[package]]\nname = "{name}"\nversion = "1"\ndepends = {json.dumps(depends.get(name, []))}\n'
        f"post_depends = []\ndepexts = []\ndebs = []\nopam = {json.dumps(opam, ensure_ascii=False)}\n"
        for name, opam in sorted(packages.items())
    ]
    return head + "\n".join(entries)


@dataclass
class SmallProject:
    """`root`: the clone. `packages`: how many, each of which depends on the one before it."""

    root: Path
    packages: int = 2
    nonce: str = "0"
    seen: Sequence[str] = field(default=SEEN)

    @classmethod
    def make(cls, root: Path, packages: int = 2, seen: Sequence[str] = SEEN) -> "SmallProject":
        project = cls(make_clone(root), packages, seen=seen)
        settings = (root / "pants.toml").read_text()
        for table, value in (("opam.resolves", f"3rdparty/opam/{RESOLVE}.lock"), ("opam.resolves_to_base", BASE)):
            settings = settings.replace(f"[{table}]\n", f'[{table}]\n{RESOLVE} = "{value}"\n')
        (root / "pants.toml").write_text(settings)
        (root / "small").mkdir()
        (root / "small/BUILD").write_text(
            f'opam_packages(name="{RESOLVE}", resolve="{RESOLVE}")\n'
            f'opam_requirement(name="r", resolve="{RESOLVE}", requirements={json.dumps(project.names)})\n'
            f'oci_package_image(name="image", packages=["small:{RESOLVE}#{project.names[-1]}"], cmd=["true"])\n'
        )
        project.change("0")
        return project

    @property
    def names(self) -> List[str]:
        return [f"small{number}" for number in range(self.packages)]

    @property
    def layout(self) -> Layout:
        return Layout(self.root / "dist/small/image")

    def change(self, nonce: str) -> None:
        """Make all packages other ones, which no cache has."""
        self.nonce = nonce
        names = self.names
        opam = {name: opam_file(nonce, self.seen) for name in names}
        depends = {name: [before] for before, name in zip(names, names[1:])}
        path = self.root / "3rdparty/opam" / f"{RESOLVE}.lock"
        temporary = path.with_suffix(".new")
        temporary.write_text(lockfile(opam, depends))
        os.replace(temporary, path)

    def digest(self) -> str:
        """Of the image's manifest, as it lies in dist/."""
        index = json.loads((self.layout.path / "index.json").read_text())
        return str(index["manifests"][0]["digest"])
