"""Files of an opam repository that Pants does not see: found, with the rule that hides them, by the same rules as git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from opam_oci.resolves.hidden_files import IgnoreRule, hidden_files, hidden_message, hiding_rule, ignore_rules

PACKAGE = "overlay/packages/tool/tool.1"


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def test_what_opam_reads_is_missed(tmp_path: Path) -> None:
    read = [f"{PACKAGE}/{name}" for name in ("descr", "files/_build/x", "files/tool.install", "opam", "url")]
    make(tmp_path, *read, f"{PACKAGE}/opam~", "overlay/packages/README", "overlay/opam", f"{PACKAGE}/notes/files.txt")
    assert hidden_files(tmp_path, "overlay", set()) == read
    assert hidden_files(tmp_path, "overlay", set(read) - {read[2]}) == [read[2]]
    assert hidden_files(tmp_path, "nowhere", set()) == []


def test_the_message_names_file_and_rule(tmp_path: Path) -> None:
    make(tmp_path, ".git/info/exclude")
    (tmp_path / ".gitignore").write_text("# mine\n*.install\n")
    hidden = [f"{PACKAGE}/files/tool.install", f"{PACKAGE}/files/_build/x", *(f"{PACKAGE}/files/{n}" for n in "abcd")]
    message = hidden_message("own", "overlay", hidden, ignore_rules(tmp_path, True, ["_build/"]))
    assert f"{PACKAGE}/files/tool.install: hidden by '*.install' in .gitignore, line 2" in message
    assert f"{PACKAGE}/files/_build/x: hidden by '_build/' in `[GLOBAL].pants_ignore`" in message
    assert f"{PACKAGE}/files/a: hidden by your global gitignore" in message and "and 1 more" in message
    assert [rule.origin for rule in ignore_rules(tmp_path, False, ["a"])] == ["`[GLOBAL].pants_ignore`"]


@pytest.mark.parametrize(
    "patterns",
    [
        ["*.install"], ["/a/b/"], ["b/"], ["c.txt/"], ["a/*/c.txt"], ["**/c.txt"], ["a/**"], ["a/**/c.txt"], ["c.tx?"],
        ["c.[st]xt"], ["c.[!t]xt"], ["*.txt", "!c.txt"], ["!c.txt", "*.txt"], ["b/c.txt"], ["#c.txt"], ["\\c.txt"], [""],
        ["a.b"], ["c.txt "], ["/c.txt"], ["a/b/c.txt"], ["[c"],
    ],
)  # fmt: skip
def test_rules_mean_what_they_mean_to_git(tmp_path: Path, patterns: list[str]) -> None:
    make(tmp_path, "a/b/c.txt", "a/tool.install")
    (tmp_path / ".gitignore").write_text("".join(f"{pattern}\n" for pattern in patterns))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, env=env, check=True)
    rules = [IgnoreRule(pattern, "here") for pattern in patterns]
    for path in ("a/b/c.txt", "a/tool.install"):
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=tmp_path, env=env).returncode == 0
        assert (hiding_rule(path, rules) is not None) == ignored, path
