"""What a pull request's job builds, by git and `--changed-since`, in a clone of this repository. No layer is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Set

import pytest

from tests.support.checkout import ROOT, Pants, make_clone, tool


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Pants]:
    """A clone with a daemon of its own: every run but the first is quick."""
    pants = Pants(make_clone(tmp_path / "main"))
    yield pants
    pants.stop()


def commit(root: Path, file: str, old: str, new: str) -> None:
    """Replace text in a file, and commit that."""
    path = root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")
    tool("git", "-C", str(root), *author, "commit", "--quiet", "--all", "--message", f"Change {file}")


def images_since_last_commit(clone: Pants) -> Set[str]:
    """The command of docs/ci.md, with `list` in place of `package`."""
    text = (ROOT / "docs/ci.md").read_text()
    [arguments] = re.findall(r"\./pants (--changed-since=origin/main \S+) package\n", text)
    listed = clone.run(*arguments.replace("origin/main", "HEAD~1").split(), "list").stdout.splitlines()
    return {line for line in listed if re.match(r"images(/|:)", line)}


def test_a_change_touches_the_images_that_are_made_of_it(clone: Pants) -> None:
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")
    tool("git", "-C", str(clone.root), "add", "--all")
    tool("git", "-C", str(clone.root), *author, "commit", "--quiet", "--allow-empty", "--message", "As it is")
    zero_install = {"images:0install", "images:0install-runtime"}
    commit(clone.root, "3rdparty/opam/default.lock", 'version = "2.18"', 'version = "2.19"')
    assert images_since_last_commit(clone) == zero_install
    commit(clone.root, "3rdparty/debian/trixie-slim.lock", "[metadata]", "# changed\n[metadata]")
    assert images_since_last_commit(clone) == {"images:0install-runtime"}
    commit(clone.root, "3rdparty/debian/trixie-ocaml.lock", "[metadata]", "# changed\n[metadata]")
    system = images_since_last_commit(clone)
    assert {"images:hello", "images/kinds:layout", "images/kinds:index"} <= system and not system & zero_install
    commit(clone.root, "3rdparty/opam/overlay/repo", "opam-version", "# changed\nopam-version")
    assert images_since_last_commit(clone) == system | zero_install
    commit(clone.root, "README.md", "\n", "\n\n")
    assert images_since_last_commit(clone) == set()
