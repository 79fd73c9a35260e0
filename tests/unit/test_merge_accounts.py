"""Accounts that several layers add, in one image."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest

from opam_sandbox.layer.merge_accounts import merge

BASE = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nold:x:5:60:old:/:/bin/sh\n",
    "group": "root:x:0:\naudio:x:29:\n",
    "shadow": "root:*:3652:0:99999:7:::\n",
}
OPAM = {
    name: text + line
    for (name, text), line in zip(BASE.items(), ("opam:x:1000:1000::/:/bin/sh\n", "opam:x:1000:\n", "opam:*::\n"))
}


def write(root: Path, files: Dict[str, str]) -> Path:
    (root / "etc").mkdir(parents=True)
    for name, text in files.items():
        (root / "etc" / name).write_text(text)
        (root / "etc" / name).chmod(0o640 if "shadow" in name else 0o644)
    return root


def image(top: Path, *added: Dict[str, str]) -> Path:
    """Layers of which each adds lines to opam's root's files, and a view in which the topmost's files are seen."""
    layers = [write(top / "base", BASE), write(top / "opam", OPAM)]
    for number, lines in enumerate(added):
        layers.append(write(top / f"layer{number}", {name: OPAM.get(name, "") + text for name, text in lines.items()}))
    seen = {
        name: (layer / "etc" / name).read_text()
        for layer in layers
        for name in (*BASE, "gshadow")
        if (layer / "etc" / name).exists()
    }
    view = write(top / "view", seen)
    (top / "order").write_text("\n".join(map(str, layers)))
    return view


def layers_of(view: Path) -> List[Path]:
    return [Path(line) for line in (view.parent / "order").read_text().splitlines()]


def lines(view: Path, name: str) -> List[str]:
    return (view / "etc" / name).read_text().splitlines()


def test_one_layer_needs_nothing(tmp_path: Path) -> None:
    view = image(tmp_path, {"passwd": "a:x:100:60::/:/bin/sh\n"}, {})
    before = (view / "etc/passwd").stat().st_mtime_ns
    assert merge(view, layers_of(view)) == []
    assert (view / "etc/passwd").stat().st_mtime_ns == before


def test_what_lies_beside_is_added(tmp_path: Path) -> None:
    view = image(
        tmp_path,
        {"passwd": "a:x:100:100::/:/bin/sh\n", "group": "a:x:100:\n", "shadow": "a:!:1::::::\n"},
        {"passwd": "b:x:101:101::/:/bin/sh\n", "group": "b:x:101:\n", "shadow": "b:!:1::::::\n"},
    )
    assert merge(view, layers_of(view)) == ["group", "passwd", "shadow"]
    assert lines(view, "passwd") == [*OPAM["passwd"].splitlines(), "b:x:101:101::/:/bin/sh", "a:x:100:100::/:/bin/sh"]
    assert lines(view, "shadow")[-2:] == ["b:!:1::::::", "a:!:1::::::"]
    assert (view / "etc/shadow").stat().st_mode & 0o777 == 0o640


def test_the_same_number_is_given_once(tmp_path: Path) -> None:
    """Both were built where 100 was free. The group of an account goes with it."""
    view = image(
        tmp_path,
        {"passwd": "a:x:100:100::/:/bin/sh\n", "group": "a:x:100:\n"},
        {"passwd": "b:x:100:100::/:/bin/sh\n", "group": "b:x:100:\n"},
    )
    merge(view, layers_of(view))
    assert lines(view, "passwd")[-2:] == ["b:x:100:100::/:/bin/sh", "a:x:101:101::/:/bin/sh"]
    assert lines(view, "group")[-2:] == ["b:x:100:", "a:x:101:"]


def test_a_group_of_the_base_keeps_its_number_and_gets_all_members(tmp_path: Path) -> None:
    view = image(
        tmp_path,
        {"passwd": "a:x:100:29::/:/bin/sh\n"},
        {"passwd": "b:x:100:29::/:/bin/sh\n"},
    )
    for layer, member in zip(layers_of(view)[2:], "ab"):
        (layer / "etc/group").write_text(OPAM["group"].replace("audio:x:29:", f"audio:x:29:{member}"))
        (layer / "etc/gshadow").write_text(f"audio:*::{member}\n")
    (view / "etc/group").write_text((layers_of(view)[-1] / "etc/group").read_text())
    (view / "etc/gshadow").write_text("audio:*::b\n")
    assert merge(view, layers_of(view)) == ["group", "passwd", "gshadow"]
    assert "audio:x:29:b,a" in lines(view, "group")
    assert lines(view, "gshadow") == ["audio:*::b,a"]
    assert lines(view, "passwd")[-1] == "a:x:101:29::/:/bin/sh"


def test_a_layer_upon_another_changes_nothing(tmp_path: Path) -> None:
    """What it was built on is in its file."""
    first = "a:x:100:60::/:/bin/sh\n"
    view = image(tmp_path, {"passwd": first}, {"passwd": first + "b:x:101:60::/:/bin/sh\n"})
    assert merge(view, layers_of(view)) == []


def test_what_the_topmost_removed_from_the_base_stays_away(tmp_path: Path) -> None:
    view = image(tmp_path, {"passwd": "a:x:100:60::/:/bin/sh\n"}, {"passwd": ""})
    top = layers_of(view)[-1] / "etc/passwd"
    top.write_text(OPAM["passwd"].replace("old:x:5:60:old:/:/bin/sh\n", ""))
    (view / "etc/passwd").write_text(top.read_text())
    merge(view, layers_of(view))
    assert [line.partition(":")[0] for line in lines(view, "passwd")] == ["root", "opam", "a"]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_nothing_is_read_through_links(tmp_path: Path, what: str) -> None:
    secret = write(tmp_path / "host", {"passwd": "secret:x:7:7::/:/bin/sh\n"})
    view = image(tmp_path / "image", {"passwd": "a:x:100:60::/:/bin/sh\n"}, {"passwd": "b:x:101:60::/:/bin/sh\n"}, {})
    linking = layers_of(view)[-1]
    if what == "file":
        (linking / "etc/passwd").symlink_to(secret / "etc/passwd")
    else:
        (linking / "etc").rmdir()
        (linking / "etc").symlink_to(secret / "etc")
    merge(view, layers_of(view))
    assert "secret" not in (view / "etc/passwd").read_text()
    # Nor written.
    (view / "etc/passwd").unlink()
    (view / "etc/passwd").symlink_to(secret / "etc/passwd")
    merge(view, layers_of(view))
    assert (secret / "etc/passwd").read_text() == "secret:x:7:7::/:/bin/sh\n"
