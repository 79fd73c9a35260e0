"""Depexts: the base's real dpkg installs them in an order that it takes, and its records are right in every view."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest

from opam_sandbox.layer.description import Layer
from tests.support.debian_layers import Workshop, make_deb
from tests.unit.conftest import FAKE_OPAM, Namespaces, add_programs, make_base_layer, make_opam_root

_PROGRAMS = (
    "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "dpkg-divert", "dpkg-statoverride", "dpkg-trigger", "update-alternatives",
    "tar", "rm", "mv", "ln", "mkdir", "chmod", "chgrp", "stat", "readlink", "sed", "start-stop-daemon",
)  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path, namespaces: Namespaces) -> Sequence[Layer]:
    """A base with dpkg, and a script as opam."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this machine lacks dpkg-deb")
    top = tmp_path_factory.mktemp("ground")
    shutil.copytree(tiny_root, top / "tiny", symlinks=True)
    add_programs(top / "tiny", _PROGRAMS)
    for name in (
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/alternatives",
        "etc/alternatives",
        "var/log",
    ):
        (top / "tiny" / name).mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("var/lib/dpkg/status", ""),
        ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ):
        (top / "tiny" / name).write_text(text)
    stub = "#!/bin/sh\nexit 0\n"
    scripts = {"opam": FAKE_OPAM, "ldconfig": stub, "diff": stub}
    return [make_base_layer(top / "base", top / "tiny", scripts), make_opam_root(top / "opam-root")]


@pytest.fixture
def workshop(tmp_path: Path, ground: Sequence[Layer]) -> Workshop:
    return Workshop(tmp_path, ground)


def installed(workshop: Workshop, layers: Sequence[Layer]) -> Dict[str, str]:
    """Name -> state of every Debian package, as dpkg in the image has it."""
    status, text = workshop.see(layers, "dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\n")
    assert status == 0, text
    return dict(line.split() for line in text.splitlines())


def deb(workshop: Workshop, name: str, files: Dict[str, str], fields: str = "", **more: Any) -> Dict[str, Any]:
    return make_deb(workshop.top, name, files, fields, **more)


def script(text: str) -> str:
    return f"#!/bin/sh\nset -e\n{text}\n"


def clean(workshop: Workshop, layers: Sequence[Layer]) -> None:
    for option in ("--audit", "--verify"):
        assert workshop.see(layers, "dpkg", option) == (0, "")


def test_what_is_pre_depended_on_comes_first(workshop: Workshop) -> None:
    """Names in the wrong order; a circle of Depends behind the Pre-Depends; one that waits for one that waits."""
    runs = script("/bin/z-tool; echo ran > /usr/by-$DPKG_MAINTSCRIPT_PACKAGE")
    debs = [
        deb(workshop, "a", {}, "Pre-Depends: b, virtual (>= 2)\n", scripts={"preinst": runs}),
        deb(workshop, "b", {}, "Pre-Depends: z:any (>= 1) | nothing\nDepends: d\n", scripts={"preinst": runs}),
        deb(workshop, "c", {}, "Depends: z\nProvides: virtual (= 2)\n"),
        deb(workshop, "d", {}, "Depends: b\n"),
        deb(workshop, "z", {"bin/z-tool": "#!/bin/sh\n[ -e /usr/z-is-ready ]\n"}, "Depends: c\nMulti-Arch: allowed\n",
            scripts={"postinst": script(": > /usr/z-is-ready")}),
    ]  # fmt: skip
    layer = workshop.build("p", debs)
    image = [layer, workshop.state([layer])]
    assert installed(workshop, image) == {name: "ii" for name in "abcdz"}
    assert workshop.see(image, "ls", "/usr/by-a", "/usr/by-b")[0] == 0
    clean(workshop, image)
    assert workshop.build("p", debs).digest == layer.digest


def test_a_deadlock_is_said(workshop: Workshop) -> None:
    debs = [deb(workshop, "a", {}, "Pre-Depends: b (>= 1)\n"), deb(workshop, "b", {}, "Pre-Depends: a\n")]
    with pytest.raises(
        AssertionError, match=r"p\.1: its depexts cannot be installed in any order: a pre-depends on b \(>= 1\)"
    ):
        workshop.build("p", debs)


def test_triggers_of_a_layer_below(workshop: Workshop) -> None:
    """A path's and a named one: who waits for them is told, in the layer above and in the image."""
    note = script('[ "$1" != triggered ] || echo "$2" >> /var/triggered')
    waits = deb(
        workshop, "waits", {}, scripts={"postinst": note, "triggers": "interest-noawait /usr/share/x\ninterest named\n"}
    )
    below = workshop.build("below", [waits])
    tells = [
        deb(workshop, "tells", {"usr/share/x/file": "x"}),
        deb(workshop, "calls", {}, scripts={"postinst": script("dpkg-trigger named")}),
    ]
    above = workshop.build("above", tells, [below])
    image = [below, above, workshop.state([below, above])]
    status, text = workshop.see(
        image, "cat", "/var/triggered", "/var/lib/dpkg/triggers/named", "/var/lib/dpkg/triggers/File"
    )
    assert status == 0 and sorted(text.split("\n")[0].split()) == ["/usr/share/x", "named"]
    assert text.split("\n")[1:] == ["waits", "/usr/share/x waits/noawait", ""]
    assert installed(workshop, image) == {"waits": "ii", "tells": "ii", "calls": "ii"}
    clean(workshop, image)


DIVERTS = script("[ $1 != install ] || dpkg-divert --package new --divert /usr/tool.old --rename --add /usr/tool")


@pytest.mark.parametrize(
    "order", ["diverter below", "diverter above", "beside", "beside, the other first", "one layer"]
)
def test_a_diversion(workshop: Workshop, order: str) -> None:
    """However the layers lie, the image is what dpkg makes of both packages."""
    new = deb(workshop, "new", {"usr/tool": "new"}, scripts={"preinst": DIVERTS})
    old = deb(workshop, "old", {"usr/tool": "old"})
    if order == "one layer":
        layers = [workshop.build("p", [new, old])]
    elif order == "diverter below":
        layers = [workshop.build("n", [new])]
        layers.append(workshop.build("o", [old], layers))
    elif order == "diverter above":
        layers = [workshop.build("o", [old])]
        layers.append(workshop.build("n", [new], layers))
    else:
        layers = [workshop.build("n", [new]), workshop.build("o", [old])]
        if order != "beside":
            layers.reverse()
    user = deb(
        workshop,
        "user",
        {},
        "Depends: new, old\n",
        scripts={"postinst": script("cat /usr/tool /usr/tool.old > /usr/seen")},
    )
    top = workshop.build("u", [user], layers)
    for image in ([*layers, workshop.state(layers)], [*layers, top, workshop.state([*layers, top])]):
        expected = "newold" + ("newold" if top in image else "")
        seen = ["/usr/seen"] if top in image else []
        assert workshop.see(image, "cat", "/usr/tool", "/usr/tool.old", *seen) == (0, expected)
        assert workshop.see(image, "dpkg-divert", "--list") == (0, "diversion of /usr/tool to /usr/tool.old by new\n")
        clean(workshop, image)


def test_diversions_that_contradict(workshop: Workshop) -> None:
    other = DIVERTS.replace("--package new", "--package other").replace("tool.old", "tool.other")
    layers = [
        workshop.build("n", [deb(workshop, "new", {}, scripts={"preinst": DIVERTS})]),
        workshop.build("o", [deb(workshop, "other", {}, scripts={"preinst": other})]),
    ]
    with pytest.raises(
        AssertionError, match=r"divert /usr/tool, each in its own way \(/usr/tool.old new; /usr/tool.other other\)"
    ):
        workshop.state(layers)


def test_a_statoverride_of_another_layer(workshop: Workshop) -> None:
    add = "dpkg-statoverride --add root root 0711 /usr/place"
    one = workshop.build("o", [deb(workshop, "one", {"usr/one": ""}, scripts={"postinst": script(add)})])
    two = workshop.build("t", [deb(workshop, "two", {"usr/place/file": "x"})])
    for layers in ([one, two], [two, one]):
        image = [*layers, workshop.state(layers)]
        assert workshop.see(image, "dpkg-statoverride", "--list") == (0, "root root 711 /usr/place\n")
        assert workshop.see(image, "stat", "-c", "%a", "/usr/place") == (0, "711\n")
        clean(workshop, image)


def alternative(workshop: Workshop, name: str, priority: int, more: str = "") -> Layer:
    call = f"update-alternatives --install /usr/editor editor /usr/{name} {priority} {more}"
    package = deb(
        workshop, name, {f"usr/{name}": name, f"usr/{name}.1": f"{name}'s"}, scripts={"postinst": script(call)}
    )
    return workshop.build(name, [package])


def test_alternatives_of_layers_beside_one_another(workshop: Workshop) -> None:
    """All are known, and the best one is chosen, whichever layer is on top."""
    slave = "--slave /usr/editor.1 editor.1 /usr/{}.1"
    layers = [
        alternative(workshop, "high", 50, slave.format("high")),
        alternative(workshop, "low", 10),
        alternative(workshop, "middle", 30, slave.format("middle")),
    ]
    texts = []
    for order in (layers, layers[::-1]):
        image = [*order, workshop.state(order)]
        assert workshop.see(image, "cat", "/usr/editor", "/usr/editor.1") == (0, "highhigh's")
        status, text = workshop.see(image, "update-alternatives", "--query", "editor")
        assert status == 0 and re.findall("Alternative: (.*)\nPriority: (.*)", text) == [
            ("/usr/high", "50"), ("/usr/low", "10"), ("/usr/middle", "30")
        ]  # fmt: skip
        texts.append(workshop.see(image, "cat", "/var/lib/dpkg/alternatives/editor"))
        clean(workshop, image)
    assert texts[0] == texts[1] and texts[0][0] == 0
