"""The example images that benchmarks build, and the changes of their lockfiles that they make in clones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from opam_oci.resolves.lockfile import Deb, DebianLock, LockedPackage, OpamLock
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock


@dataclass(frozen=True)
class Example:
    """An image target `//images:<name>`. leaf, middle: packages of it, one that nothing needs and one that much needs.

    more: a small .deb that can be added to the base, as (name, the lockfile that has it).
    second: packages of another image that has all but one of the layers."""

    name: str
    resolve: str
    base: str
    roots: Tuple[str, ...]
    leaf: str
    middle: str
    more: Tuple[str, str]
    second: Tuple[str, ...]

    @property
    def address(self) -> str:
        return f"//images:{self.name}"

    @property
    def opam_lock_file(self) -> str:
        return f"3rdparty/opam/{self.resolve}.lock"

    @property
    def debian_lock_file(self) -> str:
        return f"3rdparty/debian/{self.base}.lock"

    def opam_lock(self, root: Path) -> OpamLock:
        return read_opam_lock(self.opam_lock_file, self.resolve, (root / self.opam_lock_file).read_bytes())

    def debian_lock(self, root: Path) -> DebianLock:
        return read_debian_lock(self.debian_lock_file, self.base, (root / self.debian_lock_file).read_bytes())

    def added_deb(self, root: Path) -> Deb:
        """The .deb that `change_base` adds."""
        name, path = self.more
        content = (root / path).read_bytes()
        if path.startswith("3rdparty/opam/"):
            return read_opam_lock(path, Path(path).stem, content).debs[name]
        return read_debian_lock(path, Path(path).stem, content).debs[name]

    def packages(self, root: Path) -> Tuple[LockedPackage, ...]:
        """The image's packages, dependencies first."""
        lock = self.opam_lock(root)
        return tuple(lock.packages[name] for name in lock.image_closure(self.roots))


EXAMPLES = {
    "hello": Example(
        name="hello",
        resolve="system",
        base="trixie-ocaml",
        roots=("ocamlfind", "react"),
        leaf="react",
        middle="ocaml-config",
        more=("adduser", "3rdparty/opam/default.lock"),
        second=("ocamlfind", "topkg"),
    ),
    "0install": Example(
        name="0install",
        resolve="default",
        base="trixie",
        roots=("0install",),
        leaf="0install",
        middle="dune",
        more=("libncurses6", "3rdparty/debian/trixie-ocaml.lock"),
        second=("0install-solver", "lwt_react", "ocurl", "sha", "xmlm", "yojson"),
    ),
}


class CannotChange(Exception):
    """A lockfile has not what a benchmark means to change in it."""


def change_package(root: Path, example: Example, name: str, word: str) -> None:
    """Add a message to a package's locked opam file: to a build it is another package, and so is what stands on it."""
    path = root / example.opam_lock_file
    text = path.read_text()
    pattern = re.compile(rf'(^\[\[package\]\]\nname = "{re.escape(name)}"\n.*?^opam = """\n)', re.MULTILINE | re.DOTALL)
    changed, count = pattern.subn(lambda found: f'{found[1]}post-messages: "{word}"\n', text, count=1)
    if count != 1:
        raise CannotChange(f"{path} has no package {name}")
    path.write_text(changed)


def change_base(root: Path, example: Example) -> None:
    """Add a .deb to the base, in its target and its lockfile."""
    name, source = example.more
    found = re.search(
        rf'^\[\[deb\]\]\nname = "{re.escape(name)}"\n.*?(?=\n\n|\Z)', (root / source).read_text(), re.M | re.S
    )
    path = root / example.debian_lock_file
    text = re.sub(r"(?m)^tables = (\d+)$", lambda stated: f"tables = {int(stated[1]) + 1}", path.read_text(), count=1)
    if not found or f'name = "{name}"' in text:
        raise CannotChange(f"{name} cannot be added to {path}")
    listed = re.search(r"^packages = \[\n(.*?)^\]", text, re.M | re.S)
    if not listed:
        raise CannotChange(f"{path} lists no packages")
    packages = sorted({*re.findall(r'"([^"]+)"', listed[1]), name})
    lines = "".join(f'  "{package}",\n' for package in packages)
    path.write_text(f"{text[: listed.start(1)]}{lines}{text[listed.end(1) :].rstrip()}\n\n{found[0].strip()}\n")
    build = root / "3rdparty/debian/BUILD"
    targets = build.read_text()
    target = re.search(rf'debian_rootfs\([^)]*name="{re.escape(example.base)}"[^)]*\)', targets)
    if not target:
        raise CannotChange(f"{build} has no target {example.base}")
    listing = ", ".join(f'"{package}"' for package in packages)
    new = f'debian_rootfs(name="{example.base}", suite="trixie", packages=[{listing}])'
    build.write_text(targets.replace(target[0], new))
