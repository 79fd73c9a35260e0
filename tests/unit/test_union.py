"""Layers beside one another: registries and what triggers make are as dpkg and opam would have them, had they installed one
package after the other."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Sequence

import pytest

from opam_sandbox import java_keystore
from opam_sandbox.beside.line_union import unite
from opam_sandbox.beside.registries import is_registry
from opam_sandbox.layer.capture import EPOCH
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.owners import Below
from opam_sandbox.layer.store import Store
from tests.support.debian_layers import Workshop
from tests.unit.test_install_debs import clean, deb, ground, installed, script, workshop  # noqa: F401
from tests.unit.test_java_keystore import keystore

# -- lines


@pytest.mark.parametrize(
    ("before", "first", "second", "united"),
    [
        ("a b", "a b c", "a b d", "a b c d"),
        ("a b", "a b c", "a b c", "a b c"),
        ("a b", "a b c d", "a b d e", "a b c d e"),
        ("a b", "a b d c", "a b c e", "a b d c e"),
        ("a b", "c a b", "a b d", "c a b d"),
        ("a b", "a b", "a", "a"),
        ("a b c", "b c", "a b", "b"),
        ("a b c", "a x c", "a b c d", "a x c d"),
        ("a b c", "a x c", "a x c d", "a x c d"),
        ("a b c", "a x c", "a y c", None),
        ("a b c", "a c", "a y c", None),
        ("a b c d", "a d", "a b x d", None),
        ("", "a", "b", "a b"),
        ("", "H - X x1 - Y y1", "H - X x2 - Y y2", "H - X x1 x2 - Y y1 y2"),
        ("", "H - X x1", "H - X x2 - Y y1", "H - X x1 x2 - Y y1"),
        ("a b", "", "a b c", "c"),
    ],
)
def test_lines(before: str, first: str, second: str, united: "str | None") -> None:
    def text(words: str) -> bytes:
        return "".join("\n" if word == "-" else f"{word}\n" for word in words.split()).encode()

    assert unite(text(before), text(first), text(second)) == (None if united is None else text(united))


def test_a_last_line_without_its_newline() -> None:
    assert unite(b"a", b"a\nb", b"a\nc\n") == b"a\nb\nc\n"
    assert unite(b"a", b"a", b"a\nc") == b"a\nc"


def test_which_are_registries() -> None:
    switch = b"home/opam/.opam/default/"
    for name in (
        b"lib/ocaml/ld.conf",
        b"lib/findlib.conf",
        b"etc/findlib.conf",
        b"lib/findlib.conf.d/x.conf",
        b"share/info/dir",
    ):
        assert is_registry(switch + name) and not is_registry(name)
    for name in (b"etc/shells", b"etc/subuid", b"etc/xml/catalog", b"etc/sgml/x.cat", b"var/lib/xml-core/catalog"):
        assert is_registry(name)
    for name in (b"etc/ssl/x", b"etc/xml/a/b", switch + b"lib/x/META", b"etc/shells/x"):
        assert not is_registry(name)


# -- Debian's

INDEX = script("cd /usr/share/x; echo * > /usr/index")
NAMED = script('[ "$1" != triggered ] || { cd /usr/share/y; echo * > /usr/index; }')


def index(workshop: Workshop, trigger: str = "/usr/share/x", postinst: str = INDEX) -> Dict[str, Any]:  # noqa: F811
    """A package that waits for a trigger, and lists what is in a directory."""
    files = {"usr/share/x/0": "", "usr/share/y/0": ""}
    return deb(workshop, "index", files, scripts={"postinst": postinst, "triggers": f"interest-noawait {trigger}\n"})


def file(workshop: Workshop, name: str, **scripts: str) -> Dict[str, Any]:  # noqa: F811
    return deb(workshop, name, {f"usr/share/{place}/{name}": name for place in "xy"}, scripts=scripts)


def listed(workshop: Workshop, layers: Sequence[Layer]) -> str:  # noqa: F811
    status, text = workshop.see(layers, "sed", "", "/usr/index")
    assert status == 0, text
    return text.strip()


def test_each_has_a_result(workshop: Workshop) -> None:  # noqa: F811
    """In an image, and in the build of a package over both, whose layer has it."""
    waits = index(workshop)
    a, b = (workshop.build(name, [waits, file(workshop, f"f{name}")]) for name in "ab")
    image = [a, b, workshop.state([a, b])]
    assert listed(workshop, image) == "0 fa fb"
    assert installed(workshop, image) == {"index": "ii", "fa": "ii", "fb": "ii"}
    clean(workshop, image)
    assert workshop.state([a, b]).digest == image[-1].digest

    over = workshop.build("over", [], [a, b])
    assert listed(workshop, [a, b, over]) == "0 fa fb"
    more = workshop.build("more", [file(workshop, "fc")], [a, b])
    assert listed(workshop, [a, b, more]) == "0 fa fb fc"
    both = [a, b, more, over]
    assert listed(workshop, [*both, workshop.state(both)]) == "0 fa fb fc"
    alone = workshop.build("alone", [waits, file(workshop, "fd")])
    assert listed(workshop, [*both, alone, workshop.state([*both, alone])]) == "0 fa fb fc fd"


def test_one_waits_and_the_other_brings(workshop: Workshop) -> None:  # noqa: F811
    """No path is held by both."""
    a, b = workshop.build("a", [index(workshop)]), workshop.build("b", [file(workshop, "fb")])
    assert listed(workshop, [a, b]) == "0"
    for order in ([a, b], [b, a]):
        assert listed(workshop, [*order, workshop.state(order)]) == "0 fb"


@pytest.mark.parametrize(
    "scripts", [{"triggers": "activate-noawait named\n"}, {"postinst": script("dpkg-trigger --no-await named")}]
)
def test_a_named_trigger(workshop: Workshop, scripts: Dict[str, str]) -> None:  # noqa: F811
    waits = index(workshop, "named", NAMED)
    a, b = (workshop.build(name, [waits, file(workshop, f"f{name}", **scripts)]) for name in "ab")
    image = [a, b, workshop.state([a, b])]
    assert listed(workshop, image) == "0 fa fb"
    clean(workshop, image)


def test_a_trigger_that_fails(workshop: Workshop) -> None:  # noqa: F811
    waits = index(workshop, postinst=script("[ ! -e /usr/share/x/fa ] || [ ! -e /usr/share/x/fb ]"))
    a, b = (workshop.build(name, [waits, file(workshop, f"f{name}")]) for name in "ab")
    with pytest.raises(AssertionError, match=r"error: dpkg failed .* again \(/usr/share/x\), see build.log"):
        workshop.state([a, b])


def test_layers_over_one_another_run_nothing_again(workshop: Workshop) -> None:  # noqa: F811
    waits = index(workshop, postinst=script('echo "$@" >> /usr/index'))
    a = workshop.build("a", [waits])
    b = workshop.build("b", [file(workshop, "fb")], [a])
    image = [a, b, workshop.state([a, b])]
    assert listed(workshop, image) == "configure \ntriggered /usr/share/x"


@pytest.mark.parametrize("path", ["etc/shells", "etc/subuid", "var/lib/xml-core/catalog", "etc/sgml/x.cat"])
def test_what_scripts_enter_lines_in(workshop: Workshop, path: str) -> None:  # noqa: F811
    """Of a package below, and of two beside one another."""

    def enters(name: str) -> Dict[str, Any]:
        top = path.rpartition("/")[0]
        return deb(workshop, name, {}, scripts={"postinst": script(f"mkdir -p /{top}; echo {name} >> /{path}")})

    below = workshop.build("below", [enters("first")])
    layers: List[Layer] = [below, *(workshop.build(name, [enters(name)], [below]) for name in ("one", "two"))]
    assert workshop.see([*layers, workshop.state(layers)], "sed", "", f"/{path}") == (0, "first\none\ntwo\n")


def test_what_scripts_write_and_nothing_unites(workshop: Workshop) -> None:  # noqa: F811
    a, b = (
        workshop.build(name, [deb(workshop, name, {}, scripts={"postinst": script(f"echo {name} > /usr/registry")})])
        for name in "ab"
    )
    with pytest.raises(AssertionError, match=r"/usr/registry: a\.1 has a file .*, b\.1 has a file"):
        workshop.state([a, b])


def test_an_override_in_one_of_two(workshop: Workshop) -> None:  # noqa: F811
    """Both have the .deb; one has another one besides, which overrides a mode."""
    shared = deb(workshop, "shared", {"usr/tool": "tool"})
    sets = deb(
        workshop, "sets", {}, scripts={"postinst": script("dpkg-statoverride --update --add root root 755 /usr/tool")}
    )
    a, b = workshop.build("a", [shared, sets]), workshop.build("b", [shared])
    for order in ([a, b], [b, a]):
        image = [*order, workshop.state(order)]
        assert workshop.see(image, "sh", "-c", "[ -x /usr/tool ]") == (0, "")


@pytest.mark.parametrize("group", ["0", "1"])
def test_an_override_of_the_owner_in_one_of_two(workshop: Workshop, group: str) -> None:  # noqa: F811
    """As ssl-cert does it to a directory of openssl. In the other layer it is of root or another group. The override holds in an
    image, and in a build over both."""
    shared = deb(workshop, "shared", {"etc/place/file": "f"}, scripts={"postinst": script(f"chgrp {group} /etc/place")})
    sets = deb(
        workshop,
        "sets",
        {},
        scripts={
            "postinst": script(
                "echo certs:x:777: >> /etc/group; dpkg-statoverride --update --add root certs 710 /etc/place"
            )
        },
    )
    a, b = workshop.build("a", [shared, sets]), workshop.build("b", [shared])
    look = ("stat", "-c", "%a %u:%g", "/etc/place")
    store = Store(workshop.top / "store", False)
    for order in ([a, b], [b, a]):
        layers = [*workshop.ground, *order]
        below = Below(store, layers, [os.fsencode(store.path(layer.diff_id)) for layer in reversed(layers)])
        assert below.recorded("etc/place")[1:] == (None, "certs")  # which runtime images ask
        assert workshop.see([*order, workshop.state(order)], *look) == (0, "710 0:777\n")
        over = workshop.build("over", [], order)
        assert workshop.see([*order, over, workshop.state([*order, over])], *look) == (0, "710 0:777\n")
        sees = deb(workshop, "sees", {}, scripts={"postinst": script("stat -c '%a %u:%g' /etc/place > /usr/seen")})
        assert workshop.see([*order, workshop.build("sees", [sees], order)], "sed", "", "/usr/seen") == (
            0,
            "710 0:777\n",
        )


def test_owners_that_no_override_settles(workshop: Workshop) -> None:  # noqa: F811
    a, b = (
        workshop.build(
            name,
            [deb(workshop, name, {"etc/place/f": "f"}, scripts={"postinst": script(f"chgrp {number} /etc/place")})],
        )
        for name, number in (("a", 0), ("b", 7))
    )
    with pytest.raises(AssertionError, match="/etc/place"):
        workshop.state([a, b])


def test_javas_keystore_that_a_trigger_makes_again(workshop: Workshop) -> None:  # noqa: F811
    """It has one date, whenever it was made."""
    store = keystore([(2, "x", 1796000000123, b"c")])
    octal = "".join(f"\\{byte:03o}" for byte in store)
    makes = script(f"mkdir -p /etc/ssl/certs/java; printf '{octal}' > /{java_keystore.PATH}")
    java = index(workshop, postinst=makes)
    a, b = (workshop.build(name, [{**java}, file(workshop, f"f{name}")]) for name in "ab")
    state = workshop.state([a, b])
    for layer in (a, state):
        made = Store(workshop.top / "store", False).get(layer) / java_keystore.PATH
        assert made.read_bytes() == java_keystore.dated(store, EPOCH) != store


def test_what_a_trigger_makes_for_one_machine(workshop: Workshop) -> None:  # noqa: F811
    """It is left out of an image as it is of a layer, and so is the link to it."""
    makes = """mkdir -p /etc/ssh /var/lib/texmf/web2c/tex /usr/lib
        for name in /etc/ssh/ssh_host_x /etc/machine-id /var/lib/texmf/web2c/tex/tex.fmt; do
            sed '' /proc/sys/kernel/random/uuid > $name
        done
        ln -sf ssh_host_x /etc/ssh/link; echo kept > /usr/lib/kept"""
    waits = index(workshop, postinst=script(makes))
    a, b = (workshop.build(name, [{**waits}, file(workshop, f"f{name}")]) for name in "ab")
    state = workshop.state([a, b])
    assert state.diff_id == workshop.state([a, b]).diff_id
    assert workshop.see(
        [a, b, state], "sh", "-c", "echo /etc/ssh/* /var/lib/texmf/web2c/* /usr/lib/kept; sed '' /etc/machine-id"
    ) == (
        0,
        "/etc/ssh/* /var/lib/texmf/web2c/* /usr/lib/kept\n",
    )


def test_what_a_package_makes_when_it_is_configured(workshop: Workshop) -> None:  # noqa: F811
    """Nobody activates its trigger, whose script makes the same again."""
    waits = index(workshop, "never")
    a, b = (workshop.build(name, [file(workshop, f"f{name}"), {**waits}]) for name in "ab")
    assert listed(workshop, [a, b]) == "0 fb"
    image = [a, b, workshop.state([a, b])]
    assert listed(workshop, image) == "0 fa fb"
    over = workshop.build("over", [], [a, b])
    assert over.dpkg.get("triggered") == ["never"] and listed(workshop, [a, b, over]) == "0 fa fb"
