"""`opam_docs`: Debian's odoc documents two small packages of Debian's OCaml, and Chromium shows what it made."""

from __future__ import annotations

import hashlib
import os
import re
from html import unescape
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple
from urllib.parse import unquote

import pytest

from bench.scratch_project import ScratchProject
from tests.support.browser import Browser

SOURCES = {
    "alpha": (
        "",
        "(** Numbers of their own. *)\n\ntype t\n(** A number. *)\n\nval make : int -> t\n",
        "type t = int\nlet make x = x\n",
    ),
    "beta": (
        '"alpha"',
        "(** Uses {!Alpha.make}. *)\n\nval twice : Alpha.t -> Alpha.t * Alpha.t\n(** Two {e of one}. *)\n",
        "let twice x = (x, x)\n",
    ),
}
CONF = 'flags: conf\nbuild: ["odoc" "--version"]\ndepexts: ["ocaml-odoc"] {os-family = "debian"}\n'
DOCS = "3rdparty/opam:default"
ROWS = """Array.from(document.querySelectorAll("#packages tbody tr"))
    .map((row) => Array.from(row.cells, (cell) => cell.textContent))"""
TYPE = """(async () => {
  const field = document.getElementById("search");
  field.value = %r;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return Array.from(document.querySelectorAll("#results a")).map((link) => [link.textContent, link.href]);
})()"""


def repository() -> Iterator[Tuple[str, str]]:
    yield "repository/packages/conf-odoc/conf-odoc.1/opam", f'opam-version: "2.0"\n{CONF}'
    for name, (depends, interface, implementation) in SOURCES.items():
        texts = {f"{name}.mli": interface, f"{name}.ml": implementation}
        files = " ".join(
            f'["{file}" "sha256={hashlib.sha256(text.encode()).hexdigest()}"]' for file, text in texts.items()
        )
        build = f"ocamlc -bin-annot -I %{{lib}}%/alpha -c {name}.mli {name}.ml"
        install = f"mkdir -p %{{lib}}%/{name} && cp {name}.mli {name}.cm* %{{lib}}%/{name}"
        yield (
            f"repository/packages/{name}/{name}.1/opam",
            f'opam-version: "2.0"\nsynopsis: "About {name}"\ndepends: [{depends}]\nextra-files: [{files}]\n'
            f'build: ["sh" "-c" "{build}"]\ninstall: ["sh" "-c" "{install}"]\n',
        )
        for file, text in texts.items():
            yield f"repository/packages/{name}/{name}.1/files/{file}", text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    project = ScratchProject(tmp_path_factory.mktemp("docs") / "project", ["default"], base="trixie-ocaml")
    build = 'opam_packages(name="default")\nopam_requirement(name="roots", requirements=["beta", "conf-odoc"])\n'
    targets = (
        f'opam_docs(name="docs", packages=["{DOCS}#beta"], odoc="{DOCS}#conf-odoc", title="Two of them")\n'
        f'opam_docs(name="none", packages=["{DOCS}#beta"], odoc="{DOCS}#alpha")\n'
    )
    project.write({**dict(repository()), "3rdparty/opam/BUILD": build, "BUILD": targets})
    project.must("generate-lockfiles", "--resolve=default")
    yield project
    project.stop_daemon()


@pytest.fixture(scope="module")
def docs(project: ScratchProject) -> Path:
    run = project.must("package", "//:docs")
    assert "documentation of 2 packages" in run.output
    return project.directory / "dist/docs"


def links_of(page: Path) -> List[str]:
    return [unescape(link) for link in re.findall(r'(?:href|src)="([^"]*)"', page.read_text())]


def ids_of(page: Path) -> Set[str]:
    return {unescape(one) for one in re.findall(r'id="([^"]*)"', page.read_text())}


def test_every_link_leads_somewhere(docs: Path) -> None:
    ids: Dict[Path, Set[str]] = {}
    count = 0
    for page in sorted(docs.rglob("*.html")):
        for link in links_of(page):
            assert not link.startswith(("/", "http")), f"{page}: {link} is not of these pages"
            path, _, anchor = link.partition("#")
            target = Path(os.path.normpath(page.parent / unquote(path))) if path else page
            assert target.is_file() and docs in target.parents, f"{page}: {link} leads nowhere"
            if anchor:
                found = ids.setdefault(target, ids_of(target))
                assert unquote(anchor) in found, f"{page}: {link} leads to nothing on its page"
            count += 1
    assert count > 20
    assert "../../../alpha/alpha/Alpha/index.html#type-t" in links_of(docs / "beta/beta/Beta/index.html")
    assert "../../../alpha/alpha/Alpha/index.html#val-make" in links_of(docs / "beta/beta/Beta/index.html")


def test_a_browser_shows_it(docs: Path, browser: Browser) -> None:
    """From the disk: the list of packages, the search, a module and what it names of another package."""
    browser.errors.clear()
    browser.open((docs / "index.html").as_uri(), 1000)
    assert browser.evaluate("document.querySelector('h1').textContent") == "Two of them"
    assert browser.evaluate(ROWS) == [["alpha", "1", "About alpha"], ["beta", "1", "About beta"]]
    found = browser.evaluate(TYPE % "TWICE")
    assert [name for name, _ in found] == ["Beta.twice"] and found[0][1].startswith("file://")
    assert [name for name, _ in browser.evaluate(TYPE % "alpha")][0] == "Alpha"
    assert browser.evaluate(TYPE % "no such thing") == []
    assert browser.evaluate("document.getElementById('found').textContent") == "0 found"
    browser.open(found[0][1], 1000)
    spec = "document.getElementById('val-twice')"
    assert "twice : Alpha.t" in browser.evaluate(f"{spec}.textContent")
    browser.open(browser.evaluate(f"{spec}.querySelector('a[href*=type-t]').href"), 1000)
    assert "Module Alpha" in browser.evaluate("document.querySelector('h1').textContent")
    browser.open(browser.evaluate("document.querySelector('nav.odoc-nav a[href$=\"../../index.html\"]').href"), 1000)
    assert browser.errors == []


def test_a_package_without_odoc(project: ScratchProject) -> None:
    run = project.pants("package", "//:none")
    assert run.status == 1 and "there is no program odoc" in run.output and "Traceback" not in run.output
    assert not (project.directory / "dist/none").exists()
