"""`opam-which`: who has a file, who hides it. The sandbox tool is fake_tool.py, where it is asked."""

from __future__ import annotations

import json
from typing import Any, Iterable

import pytest
from pants.engine.fs import EMPTY_DIGEST
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.goals.opam_which import OpamWhich, as_line
from opam_oci.layers.contents import Contents, Entry, Union
from opam_oci.sandbox.layer import Layer
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project

PATH = "/home/opam/.opam/default/bin:/usr/bin:/bin"


def contents(name: str, *paths: "str | Entry", hides: Iterable[str] = (), kind: str = "package") -> Contents:
    """A layer with files (a slash at the end: a directory; `a -> b`: a link)."""
    layer = Layer(kind, name, "1" if kind == "package" else "", "", "", 1, "", EMPTY_DIGEST, "")
    entries = []
    for path in paths:
        if isinstance(path, Entry):
            entries.append(path)
        elif path.endswith("/"):
            entries.append(Entry(path[:-1], "directory", "0755", 0, 0, 0, ""))
        else:
            name, _, target = path.partition(" -> ")
            entries.append(Entry(name, "link" if target else "file", "0644", 0, 0, 0 if target else 5, target))
    return Contents(layer, tuple(entries), tuple(hides))


def holders(union: Union, path: str) -> Any:
    return [(one.layer, one.hidden_by, one.removed) for one in union.holders[path]]


def test_who_hides_what() -> None:
    union = Union(
        [
            contents(
                "trixie", "usr/", "usr/a", "usr/b", "srv/", "srv/x", "srv/y", "etc/", "etc/d/", "etc/d/f", kind="base"
            ),
            contents("p", "usr/", "usr/a", hides=["usr/b"]),
            contents("q", "usr/b", "srv/", "srv/y", "etc/d", hides=["srv/"]),
        ]
    )
    assert holders(union, "usr/a") == [("base trixie", "p.1", False), ("p.1", "", False)]
    assert holders(union, "usr/b") == [("base trixie", "p.1", True), ("q.1", "", False)]
    assert holders(union, "usr") == [("base trixie", "", False), ("p.1", "", False)]
    assert holders(union, "srv/x") == [("base trixie", "q.1", True)]
    assert holders(union, "srv/y") == [("base trixie", "q.1", False), ("q.1", "", False)]
    assert holders(union, "etc/d/f") == [("base trixie", "q.1", True)]
    assert union.seen("srv/x") is None and union.seen("usr/b") is not None


def test_a_removed_directory_takes_all_with_it() -> None:
    union = Union([contents("trixie", "a/", "a/b/", "a/b/c", "ab", kind="base"), contents("p", hides=["a"])])
    assert [path for path in union.holders if union.seen(path)] == ["ab"]


def test_commands_and_patterns() -> None:
    union = Union(
        [
            contents("trixie", "bin -> usr/bin", "usr/bin/ls", "usr/bin/sed", kind="base"),
            contents("p", "home/opam/.opam/default/bin/sed", "usr/lib/x/libssl.so -> libssl.so.3"),
            contents("q", hides=["home/opam/.opam/default/bin/sed"]),
        ]
    )
    assert union.find("ls", PATH) == ["usr/bin/ls"]
    assert union.find("/bin/ls", PATH) == ["usr/bin/ls"]
    assert union.find("/bin/../bin/./ls", PATH) == ["usr/bin/ls"]
    # The first that is seen.
    assert union.find("sed", PATH) == ["usr/bin/sed"]
    assert union.find("/usr/*/libssl*", PATH) == ["usr/lib/x/libssl.so"]
    assert union.find("libss[l].so", PATH) == ["usr/lib/x/libssl.so"]
    assert union.find("none", PATH) == union.find("/none", PATH) == union.find("/no*ne", PATH) == []
    assert union.find("/usr/lib/x/libssl.so", PATH) == ["usr/lib/x/libssl.so"]


def test_links_in_a_circle() -> None:
    union = Union([contents("trixie", "a -> b", "b -> a", kind="base")])
    assert union.find("/a/x", PATH) == []


def test_a_line() -> None:
    entry = Entry("x", "file", "4755", 0, 1000, 12, "")
    union = Union([contents("trixie", entry, kind="base"), contents("p", hides=["x"])])
    assert as_line(union.holders["x"][0]) == "  base trixie  -rwxr-xr-x set-uid 0:1000 12 bytes  (removed by p.1)"


def which(runner: RuleRunner, *args: str) -> GoalRuleResult:
    return runner.run_goal_rule(OpamWhich, global_args=OPTIONS, args=args)


def test_the_goal(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(
        project(
            Pkg("a", depends=["b"], opam="has=usr/bin/tool hides=etc/f"), Pkg("b", opam="has=usr/bin/tool has=etc/f"),
            image=image("a"),
        )
    )  # fmt: skip
    found = which(rule_runner, "images:image", "--", "tool", "/state")
    assert found.exit_code == 0, found.stderr
    assert found.stdout.splitlines() == [
        "/usr/bin/tool",
        "  a.1  -rwxr-xr-x 1000:1000 7 bytes",
        "  b.1  -rwxr-xr-x 1000:1000 7 bytes  (hidden by a.1)",
        "/state",
        "  state  -rwxr-xr-x 1000:1000 7 bytes",
    ]
    gone = which(rule_runner, "--format=json", "images:image", "--", "/etc/f", "nothing")
    assert gone.exit_code == 1
    assert "images:image: no layer shows /etc/f" in gone.stderr and "no layer shows nothing" in gone.stderr
    first, second = json.loads(gone.stdout)
    assert (first["target"], first["file"], first["paths"][0]["seen"]) == ("images:image", "/etc/f", False)
    [layer] = first["paths"][0]["layers"]
    assert (layer["layer"], layer["hidden_by"], layer["removed"], layer["mode"]) == ("b.1", "a.1", True, "0755")
    assert second["paths"] == []
    package = which(rule_runner, "3rdparty/opam:default#b", "3rdparty/opam:default#a", "--", "/trixie")
    assert package.exit_code == 0
    assert package.stdout.count("  base trixie  ") == 2 and "3rdparty/opam:default#a:\n/trixie\n" in package.stdout


def test_what_makes_no_sense(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(Pkg("a", opam="fail")))
    for args, text in (
        (("3rdparty/opam:default#a",), "is told what to look for"),
        (("3rdparty/debian:trixie", "--", "x"), "none is named"),
        (("3rdparty/opam:default#a", "--", "x"), "a.1 was not built: error: a does not compile"),
    ):
        with pytest.raises(Exception, match=text):
            which(rule_runner, *args)
