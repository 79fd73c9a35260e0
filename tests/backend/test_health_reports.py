"""The files of a health check: what each says, for any text that packages may have in their names and logs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Tuple

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pants.util.frozendict import FrozenDict

from opam_oci.health import results_json
from opam_oci.health.compare import compare
from opam_oci.health.facts import rank_failures
from opam_oci.health.markdown import write_markdown
from opam_oci.health.paths import safe
from opam_oci.health.read_results import ResultsError, read_results
from opam_oci.health.reports import write_reports
from opam_oci.health.results import HealthReport, Status
from opam_oci.health.summary import summary
from opam_oci.pages.markdown_page import LIMIT
from opam_oci.pages.markdown_text import code
from opam_oci.pages.plain_text import clean, end_of, one_line
from tests.backend.health_reports import large, package, report, root, small, unsolved

SCHEMA = Path(results_json.__file__).with_name("results.schema.json")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "a | b\n| c |",
    "@everyone #1 [x](javascript:y) `z` **b** www.example.com",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00\x08\x7f\u202e\ufffe",
    "]]> --> <!-- &amp; &#0;",
    '\\" \\N -> "b"; }',
    "../../etc/passwd",
    "\ud800",
]


def without_logs(of: HealthReport) -> HealthReport:
    roots = tuple(sorted(of.roots, key=lambda root: (root.name, root.version, root.compiler)))
    return replace(
        of, roots=roots, packages=FrozenDict({id: replace(of.packages[id], log="") for id in sorted(of.packages)})
    )


class Page(HTMLParser):
    """What a reader of HTML finds: elements with their attributes, all text, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: List[Tuple[str, Dict[str, Any]]] = []
        self.scripts: List[str] = []
        self.words: List[str] = []
        self._in: List[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Any]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self._in
        while self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in and self._in[-1] == "script" else self.words).append(data)


def check(of: HealthReport) -> Dict[str, bytes]:
    """All formats are what they should be, and hold no markup but their own."""
    files = write_reports(of, None, compare(of, of))
    assert all(not part.startswith(".") and part for path in files for part in path.split("/"))
    assert read_results(files["results.json"]) == without_logs(of)
    suites = ET.fromstring(files["junit.xml"])
    assert len(list(suites.iter("testcase"))) >= len(of.roots)
    ET.fromstring(files["graph.svg"])
    text = files["index.html"].decode()
    page = Page(text)
    assert len(page.scripts) == 1 and "alert" not in page.scripts[0]
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "nav",
        "section",
        "script",
        "a",
        "p",
        "ul",
        "li",
    }
    known |= {
        "h1",
        "h2",
        "b",
        "span",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "form",
        "label",
        "input",
        "select",
    }
    known |= {"option", "button", "output", "details", "summary", "dl", "dt", "dd", "pre", "code"}
    known |= {"svg", "g", "rect", "path", "text", "line"}
    assert {tag for tag, _ in page.elements} <= known
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
        assert re.match(r"#|logs/", attributes.get("href", "#"))
    assert len(files["report.md"]) <= LIMIT
    for line in re.sub(r"<pre>.*?</pre>", "", files["report.md"].decode(), flags=re.S).split("\n"):
        assert set(re.findall(r"</?(\w+)", line)) <= {"code", "details", "summary"}
        if line.startswith("| "):
            assert line.count("|") in (3, 5)
        assert "@" not in line
    statements = files["graph.dot"].decode().split("\n")[3:-2]
    quoted = r'"(?:[^"\\]|\\\\|\\")*"'
    assert all(re.fullmatch(rf"  {quoted} (?:\[.*\];|-> {{{quoted}(?: {quoted})*}})", line) for line in statements)
    said = summary(of)
    assert len(said.split("\n")) <= 36 and "\x1b" not in said
    return files


def hostile_report(text: str) -> HealthReport:
    one = package("a" + text, Status.FAILURE, version=text, reason=text, log=f"{text}\nError: {text}\n", layer=text)
    two = package("b", Status.DEPENDENCY_FAILED, depends=(one.id,), blocked_by=(one.id,), reason=text)
    roots = [root(one), root(two), unsolved("c" + text, text), root(two, compiler=text or "x")]
    return report(one, two, roots=roots, target=text, base=text, repositories=(text,))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text: str) -> None:
    check(hostile_report(text))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(), max_size=30))
def test_any_text(text: str) -> None:
    check(hostile_report(text))


def test_every_status() -> None:
    of = small()
    files = check(of)
    jsonschema.validate(json.loads(files["results.json"]), json.loads(SCHEMA.read_text()))
    statuses = {path: json.loads(text)["status"] for path, text in files.items() if path.startswith("day10/")}
    assert statuses["day10/lwt.1.0.json"] == statuses["day10/ocaml=4.14.2/lwt.1.0.json"] == "failure"
    assert statuses["day10/cohttp.1.0.json"] == "dependency_failed"
    assert statuses["day10/batteries.json"] == "no_solution"
    assert statuses["day10/zed.1.0.json"] == "solution" and statuses["day10/dune.1.0.json"] == "success"
    assert files == write_reports(of, {}, compare(of, of)), "the same files for the same report"
    cohttp = json.loads(files["day10/cohttp.1.0.json"])
    assert "Unbound module Fox" in cohttp["log"], "of the failure that stopped it"
    assert '"cohttp.1.0" -> {"dune.1.0" "lwt.1.0"}' in cohttp["solution"]
    assert cohttp["sha"] == "0123abcd,4567ef"
    assert b"\x1b" not in files["logs/lwt.1.0%2F0.log"]


def test_a_long_log_is_not_in_the_files_of_all_that_its_failure_stops() -> None:
    below = package("below", Status.FAILURE, log="x\n" * 1_000_000)
    above = package("above", Status.DEPENDENCY_FAILED, depends=(below.id,), blocked_by=(below.id,))
    files = write_reports(report(below, above))
    assert json.loads(files["day10/below.1.0.json"])["log"] == below.log
    assert len(files["day10/above.1.0.json"]) < 20_000 and len(files["index.html"]) < 100_000


def test_logs_of_the_caller() -> None:
    broken = package("a", Status.FAILURE, log="")
    files = write_reports(report(broken), {broken.id: "mine"})
    assert files["logs/a.1.0%2F0.log"] == b"mine" and b"mine" in files["index.html"]


def test_junit() -> None:
    suites = ET.fromstring(write_reports(small())["junit.xml"])
    results = {
        case.get("name"): [child.tag for child in case]
        for case in suites.iter("testcase")
        if case.get("classname") == "opam"
    }
    assert results["dune.1.0"] == [] and results["lwt.1.0"] == results["batteries"] == results["why3.1.0"] == [
        "failure"
    ]
    assert results["coq.1.0"] == results["fpath.1.0"] == results["zed.1.0"] == ["error"]
    assert results["alcotest.1.0"] == results["cohttp.1.0"] == results["yojson.1.0"] == ["skipped"]
    totals = {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    assert totals == {name: int(suites.get(name, 0)) for name in totals}


def test_junit_has_failures_that_are_no_roots() -> None:
    """Else all that it holds is skipped, and whoever reads it says that all is well."""
    below = package("below", Status.FAILURE)
    above = package("above", Status.DEPENDENCY_FAILED, depends=(below.id,), blocked_by=(below.id,))
    suites = ET.fromstring(write_reports(report(below, above, roots=[root(above)]))["junit.xml"])
    assert (suites.get("failures"), suites.get("skipped"), suites.get("tests")) == ("1", "1", "2")


def test_a_large_report() -> None:
    of = large(200, 600)
    files = check(of)
    assert "more rows and logs had no room here" in markdown_of(large(2500, 6000))
    page = files["index.html"].decode()
    assert page.count("<tr data-status=") == 200
    drawn = files["graph.svg"].decode()
    built = sum(each.status is Status.SUCCESS for each in of.packages.values())
    assert f"{built} packages that were built are not shown." in drawn


def markdown_of(of: HealthReport) -> str:
    before = replace(of, roots=tuple(replace(each, status=Status.SUCCESS) for each in of.roots))
    text = write_markdown(of, {}, compare(before, of))
    assert len(text.encode()) <= LIMIT and text.count("<details>") == text.count("</details>")
    assert text.index("### Regressions") < text.index("### Failures, by what they stop")
    return text


def test_the_page_says_what_it_may_load() -> None:
    page = write_reports(small())["index.html"].decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and "default-src 'none'" in policy.group(1) and "unsafe" not in policy.group(1)
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        assert (
            f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
            in policy.group(1)
        )


def test_two_roots_that_are_one() -> None:
    one = package("a")
    with pytest.raises(ValueError, match="//health:all: the root a.1.0 stands twice"):
        write_reports(report(one, roots=[root(one), root(one)]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.update(schema=2), "`schema` is 2, and this version reads 1"),
        (lambda d: d.pop("base"), "`base`: it is missing"),
        (lambda d: d.update(more=1), "`more`: this version does not know it"),
        (lambda d: d["roots"][3].update(status="fine"), "`roots[3].status`: 'fine' is none of success, failure"),
        (lambda d: d["roots"][0].pop("version"), "`roots[0].version`: it is missing"),
        (lambda d: d["roots"][0].update(later=[1]), "`roots[0].later[0]`: 1 is no string"),
        (lambda d: d["roots"][0].update(package="x"), "`roots[0].package`: 'x' is not in `packages`"),
        (lambda d: d["roots"][1].update(d["roots"][0]), "`roots[1]`: the root 'alcotest.1.0' stands there twice"),
        (
            lambda d: d["packages"]["dune.1.0/0"].update(size=True),
            "`packages['dune.1.0/0'].size`: True is no number of bytes",
        ),
        (lambda d: d["packages"]["dune.1.0/0"].update(seconds=-1), "`packages['dune.1.0/0'].seconds`: -1 is no number"),
        (
            lambda d: d["packages"]["dune.1.0/0"].update(depends=["y"]),
            "`packages['dune.1.0/0'].depends`: 'y' is not in",
        ),
        (lambda d: d.update(packages=[]), "`packages`: [] is no object"),
    ],
)
def test_damaged_results(change: Any, error: str) -> None:
    data = json.loads(write_reports(small())["results.json"])
    change(data)
    with pytest.raises(ResultsError) as raised:
        read_results(json.dumps(data), "old/results.json")
    assert str(raised.value).startswith("old/results.json: field ") and error in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": 1, "schema": 1}', '{"schema": NaN}', "[" * 100_000, "\ud800"]
)
def test_no_results(text: str) -> None:
    with pytest.raises(ResultsError, match="old.json"):
        read_results(text, "old.json")


def test_text() -> None:
    assert clean("a\x1b[1;31mb\x1b[0m\x1b]8;;http://x\x07c\r\nd") == "abc\nd"
    assert clean("10 %\r50 %\r100 %\nx\x00\u202ey") == "100 %\nx\ufffd\ufffdy"
    assert clean("\x1b]never ended\nError: kept") == "\nError: kept"
    assert one_line("a\n b" * 200, 10) == "a ba ba b…"
    assert end_of("1\n2\n3\n", 2, 100) == "[... the last lines of 4]\n2\n3"
    assert end_of("x" * 10_000_000, 5, 50).endswith("x" * 50)
    assert [safe(name) for name in ("a.1", "..", "a/b", "é", "")] == ["a.1", "%2E.", "a%2Fb", "%C3%A9", "%"]
    assert len(safe("/" * 500)) <= 200 and safe("/" * 500) != safe("/" * 501)
    assert code("@a|b") == "<code>&#64;a&#124;b</code>"


def test_failures_are_ranked() -> None:
    of = small()
    first = rank_failures(of)[0]
    assert (first.first.name, first.roots, first.dependents) == ("lwt", 2, 2)
