"""The docs say what the code says: reference pages, the messages that troubleshooting is about, links of the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opam_oci.target_types import TARGET_TYPES

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"


def generate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the generator in a process of its own: help texts are made when modules are imported."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "pants-plugins")])
    return subprocess.run(
        [sys.executable, str(ROOT / "docs/generate_reference.py"), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 9), reason="types of options are written as Pants 2.17 on Python 3.9 does"
)
def test_committed_pages_are_what_the_code_gives() -> None:
    done = generate("--check")
    assert done.returncode == 0, f"{done.stdout}\nWrite them anew with docs/generate_reference.py, and commit them."


def test_every_target_and_own_field_has_a_section() -> None:
    text = (REFERENCE / "targets.md").read_text()
    for target in TARGET_TYPES:
        assert f"## `{target.alias}`" in text
        for field in target.core_fields:
            named = re.search(rf"#{target.alias}-{field.alias} ".replace("_", "-"), text)
            assert named or f"`{field.alias}`" in text, f"{target.alias} has no word on {field.alias}"


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    """On a copy of the generator with a page that somebody edited."""
    copy = tmp_path / "docs"
    (copy / "reference").mkdir(parents=True)
    (copy / "generate_reference.py").write_text((ROOT / "docs/generate_reference.py").read_text())
    for page in REFERENCE.glob("*.md"):
        (copy / "reference" / page.name).write_text(page.read_text())
    edited = copy / "reference/goals.md"
    edited.write_text(edited.read_text() + "more\n")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "pants-plugins")])
    done = subprocess.run(
        [sys.executable, str(copy / "generate_reference.py"), "--check"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "docs/reference/goals.md is out of date\n")


def source_text() -> str:
    """All code of plugin and tool, with strings that Python joins joined."""
    text = "\n".join(
        path.read_text() for top in ("pants-plugins", "src") for path in sorted((ROOT / top).rglob("*.py"))
    )
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)


# What other programs say, not this one.
NOT_OURS = {"max depth exceeded", "Could not initialize store", "MDB_"}


def test_troubleshooting_is_about_messages_that_exist() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    headings = re.findall(r"^### `(.*)`$", text, re.M)
    phrases = {phrase for heading in headings for phrase in heading.split("`, `")} - NOT_OURS
    assert len(phrases) > 20
    source = source_text()
    missing = sorted(phrase for phrase in phrases if phrase not in source)
    assert not missing, f"no message says {missing}"


def test_links_of_the_readme_lead_to_files() -> None:
    """mkdocs checks the links between the pages of docs/; the README is no page of the site."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    local = [link for link in links if "://" not in link]
    assert len(local) > 10
    assert [link for link in local if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["layers", "grouping"])
def test_pictures_are_what_their_scripts_draw(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / f"docs/{name}.py")], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == (ROOT / f"docs/{name}.svg").read_text()
