"""What is documented, in which order, and what the first page finds: all that is not odoc's own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from opam_sandbox.documenting import library, order, pages, search, units
from opam_sandbox.documenting.odoc import Odoc
from opam_sandbox.documenting.requests import DocumentedPackage
from opam_sandbox.documenting.units import Unit
from opam_sandbox.errors import ToolError

LIB = "/home/opam/.opam/default/lib"


def package(name: str, synopsis: str = "") -> DocumentedPackage:
    return {"name": name, "version": "1.0", "synopsis": synopsis, "layer": "in/2"}


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("lwt", "lwt"),
        ("lwt/unix", "lwt.unix"),
        ("ocaml", "stdlib"),
        ("ocaml/unix", "unix"),
        ("ocaml/compiler-libs", "compiler-libs"),
        ("lwt/__private__/x", ""),
        ("lwt/.hidden", ""),
        ("a b", ""),
        ("-I", ""),
        ("a:b", ""),
        ("", ""),
    ],
)
def test_names_of_libraries(directory: str, name: str) -> None:
    assert units.library_name(directory) == name


def test_the_interface_with_comments_is_taken_where_there_is_one() -> None:
    names = [
        "a/x.cmi",
        "a/x.cmt",
        "a/x.cmti",
        "a/y.cmi",
        "a/y.cmt",
        "a/z.cmi",
        "a/z.ml",
        "a/b-c.cmi",
        "top.cmi",
        "a/a__w.cmti",
    ]
    found = units.modules("p", LIB, names)
    assert [unit.file[len(LIB) + 1 :] for unit in found] == ["a/a__w.cmti", "a/x.cmti", "a/y.cmt", "a/z.cmi"]
    assert [unit.is_hidden for unit in found] == [True, False, False, False]
    [cse] = units.modules("ocaml-system", "/usr/lib/ocaml", ["CSE.cmti"], prefix="ocaml")
    assert (cse.module, cse.parent, cse.odoc) == ("CSE", "ocaml-system/stdlib", "ocaml-system/stdlib/cSE.odoc")


def test_pages_of_packages() -> None:
    found = units.pages(
        "p", "/doc/p", ["README.md", "odoc-pages/index.mld", "odoc-pages/a/b.mld", "odoc-pages/a b.mld", "x.mld"]
    )
    assert [(unit.odoc, unit.file) for unit in found] == [
        ("p/a/page-b.odoc", "/doc/p/odoc-pages/a/b.mld"),
        ("p/page-index.odoc", "/doc/p/odoc-pages/index.mld"),
    ]


def unit(name: str, library_of: str = "l") -> Unit:
    return Unit("p", library_of, name, f"/{library_of}/{name}.cmti")


def test_each_module_comes_after_those_that_it_names() -> None:
    a, b, c, other = unit("a"), unit("b"), unit("c"), unit("a", "m")
    said: Dict[Unit, List[order.Interface]] = {
        a: order.parse("A 11\nStdlib 99\n"),
        b: order.parse("A 11\nB 22\n"),
        c: order.parse("C 33\nB 22\nA 44\n"),
        other: order.parse("A 44\n"),
    }
    depends = order.dependencies(said)
    assert depends == {a: [], b: [a], c: [b, other], other: []}
    steps = order.levels(depends)
    assert steps == [[a, other], [b], [c]]
    assert order.search_paths(depends, steps)[c] == ["p/l", "p/m"]
    with pytest.raises(ToolError, match="in a circle: /l/a.cmti, /l/b.cmti"):
        order.levels({a: [b], b: [a]})


def test_a_copy_in_the_same_library_comes_first() -> None:
    mine, theirs, user = unit("a", "m"), unit("a", "l"), unit("b", "m")
    said = {mine: [("A", "1")], theirs: [("A", "1")], user: [("B", "2"), ("A", "1")]}
    assert order.dependencies(said)[user] == [mine]


def test_a_package_gets_the_pages_that_it_lacks() -> None:
    own = [unit("x"), unit("x__y"), Unit("p", "", "guide", "/g.mld", is_page=True)]
    found = library.describe(package("p"), (), own)
    assert sorted(found.own_pages) == ["p/index.mld", "p/l/index.mld"]
    assert found.all_shown == ("p/page-index.odoc", "p/l/x.odoc", "p/page-guide.odoc", "p/l/page-index.odoc")
    with_index = library.describe(package("p"), (), [*own, Unit("p", "", "index", "/i.mld", is_page=True)])
    assert sorted(with_index.own_pages) == ["p/l/index.mld"] and with_index.shown.count("p/page-index.odoc") == 1
    assert "no modules" in library.describe(package("p"), (), []).own_pages["p/index.mld"]


def test_text_is_text_on_pages() -> None:
    nasty = "a {!x} [y] <script>%} \\ @z"
    page = pages.first_page(nasty, [package("p", nasty)], "", ["s.js"])
    heading, _, rest = page.partition("\n")
    assert heading == "{0 a \\{!x\\} \\[y\\] <script>%\\} \\\\ \\@z}"
    assert rest.count("%}") == 1 and rest.rstrip().endswith("%}") and "&lt;script&gt;&#37;}" in rest
    assert pages.package_page(package("p", nasty), {}).count("\\{!x\\}") == 1


def test_the_style_is_whole() -> None:
    style = search.data_file(search.STYLE)
    assert "%" in style and "%}" not in style and f"<style>{style}</style>" in pages.first_page("", [], style, [])


@pytest.fixture
def odoc(tmp_path: Path) -> Odoc:
    """Over a directory of scratch files, as a view has one."""
    (tmp_path / "tmp").mkdir()
    view: Any = SimpleNamespace(overlay=SimpleNamespace(scratch_files=tmp_path, opam=None))
    return Odoc(view, {}, 1)


def test_what_is_no_regular_file_is_not_taken(odoc: Odoc, tmp_path: Path) -> None:
    work = tmp_path / "tmp/odoc"
    odoc.write([("html/a/index.html", "page")])
    assert odoc.names("html") == ["a/index.html"] and odoc.read("html/a/index.html") == b"page"
    (work / "html/z.html").symlink_to("/etc/passwd")
    assert odoc.names("html") == ["a/index.html", "z.html"]
    with pytest.raises(ToolError, match="html/z.html, or something else than a regular file"):
        odoc.read("html/z.html")
    (work / "other").symlink_to("/etc")
    with pytest.raises(ToolError, match="wrote no directory other"):
        odoc.names("other")
    work.rename(tmp_path / "moved")
    work.symlink_to(tmp_path / "moved")
    with pytest.raises(ToolError):
        odoc.read("html/a/index.html")
    with pytest.raises(ToolError, match="wrote no directory html"):
        odoc.names("html")


def test_entries() -> None:
    def one(kind: str, name: str, url: str, prefix: str = "", comment: str = "") -> Dict[str, str]:
        return {"kind": kind, "name": name, "url": url, "prefixname": prefix, "comment": comment}

    index = [
        one("module", "M", "/p/l/M/index.html", comment="All of it.\nMore."),
        one("module", "M", "/p/l/M/index.html", comment="Interface"),
        one("doc", "x", "/p/l/M/index.html#x"),
        one("value", "é", "/p/l/M/index.html#val-e", "M", "w " * 200),
    ]
    found = search.entries(json.dumps(index).encode(), "p")
    assert found[0] == ("module", "M", "p/l/M/index.html", "All of it.")
    assert [entry[1] for entry in found] == ["M", "M.é"] and len(found[1][3]) <= 120 and found[1][3].endswith("w...")
    script = search.entries_script(found).decode("ascii")
    assert json.loads(script[len("var odocEntries = ") :].rstrip().rstrip(";")) == [list(entry) for entry in found]
    for wrong in (
        b"",
        b"{",
        b"[1]",
        b'[{"kind": "value"}]',
        b'[{"kind":1,"name":"","url":"","prefixname":"","comment":""}]',
    ):
        with pytest.raises(ToolError, match="p: odoc's index is none"):
            search.entries(wrong, "p")
