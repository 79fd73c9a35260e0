"""The page of a health check in a browser, wide and narrow: it filters, sorts, is gone through by keys, and no script fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List

import pytest

from opam_oci.health.reports import write_reports
from tests.backend.health_reports import large, small
from tests.support.browser import CHOOSE, Browser

WIDTHS = [1280, 320]
# A row's root, with its compiler; those of the rows that are shown.
NAMED = "((row) => `${row.cells[0].textContent} ${row.cells[1].textContent}`.trim())"
SHOWN = f"""Array.from(document.querySelectorAll("#roots tbody tr")).filter((row) => row.offsetParent !== null && !row.hidden)
    .map({NAMED})"""
TYPE = """(() => {{ const text = document.querySelector("#filters input[name=text]"); text.value = {words!r};
    text.dispatchEvent(new Event("input", {{ bubbles: true }})); }})()"""
SAID = 'document.getElementById("shown").textContent'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("page")
    for path, content in write_reports(small()).items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return (directory / "index.html").as_uri()


@pytest.fixture(params=WIDTHS)
def opened(request: Any, browser: Browser, page: str) -> Iterator[Browser]:
    browser.errors.clear()
    # A page that differs in its hash alone is not loaded anew.
    browser.open("about:blank", request.param)
    browser.open(page, request.param)
    yield browser
    assert browser.errors == []


def all_roots() -> List[str]:
    return sorted(f"{root.full_name} {root.compiler}".strip() for root in small().roots)


def test_nothing_is_wider_than_the_window(opened: Browser) -> None:
    """Tables scroll by themselves where they are too wide."""
    wide, window = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window and window in WIDTHS
    assert sorted(opened.evaluate(SHOWN)) == all_roots() == sorted(set(all_roots()))
    assert opened.evaluate(SAID) == f"{len(all_roots())} roots"


def test_filters(opened: Browser) -> None:
    opened.evaluate(TYPE.format(words="LWT"))
    found = opened.evaluate(SHOWN)
    assert any(one.startswith("lwt.1.0") for one in found)
    assert 0 < len(found) < len(all_roots())
    assert opened.evaluate(SAID) == f"{len(found)} of {len(all_roots())} roots"
    opened.evaluate(TYPE.format(words="no such words"))
    assert opened.evaluate(SHOWN) == []
    opened.evaluate(TYPE.format(words=""))
    opened.evaluate(CHOOSE.format(name="status", value="success"))
    expected = sorted(
        f"{root.full_name} {root.compiler}".strip() for root in small().roots if root.status.value == "success"
    )
    assert sorted(opened.evaluate(SHOWN)) == expected and 0 < len(expected) < len(all_roots())
    opened.evaluate("document.querySelector('#filters button[type=reset]').click()")
    opened.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert sorted(opened.evaluate(SHOWN)) == all_roots()


def test_sorting(opened: Browser) -> None:
    """By the headings' buttons, which a narrow page has in another form."""
    opened.evaluate("document.querySelector('#roots thead th button').click()")
    up = opened.evaluate(SHOWN)
    opened.evaluate("document.querySelector('#roots thead th button').click()")
    assert [one.split()[0] for one in up] == [one.split()[0] for one in opened.evaluate(SHOWN)[::-1]]
    assert sorted(up) == all_roots()
    assert opened.evaluate("document.querySelector('#roots thead th').getAttribute('aria-sort')") == "descending"


def test_keys(opened: Browser) -> None:
    focused = f"{NAMED}(document.activeElement.closest('tr'))"
    shown = opened.evaluate(SHOWN)
    opened.evaluate("document.querySelector('#roots tbody tr[tabindex]').focus()")
    assert opened.evaluate(focused) == shown[0]
    for key, expected in (("ArrowDown", shown[1]), ("End", shown[-1]), ("ArrowUp", shown[-2]), ("Home", shown[0])):
        opened.press(key)
        assert opened.evaluate(focused) == expected
    with_link = opened.evaluate(f"{NAMED}(document.querySelector('#roots tbody a').closest('tr'))")
    for _ in range(shown.index(with_link)):
        opened.press("ArrowDown")
    opened.press("Enter")
    opened.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert opened.evaluate("document.querySelector('details[open] summary') === document.activeElement")


def test_many_roots(browser: Browser, tmp_path: Path) -> None:
    """A long page answers at once."""
    (tmp_path / "index.html").write_bytes(write_reports(large(1000, 1500))["index.html"])
    browser.errors.clear()
    browser.open((tmp_path / "index.html").as_uri(), 1280)
    total = len(browser.evaluate(SHOWN))
    assert total == 1000
    browser.evaluate(CHOOSE.format(name="status", value="failure"))
    assert 0 < len(browser.evaluate(SHOWN)) < total and browser.errors == []


def test_errors_are_seen(browser: Browser, page: str) -> None:
    """Else the other tests would say nothing about them."""
    browser.open("about:blank", 800)
    browser.open(page, 800)
    browser.errors.clear()
    browser.evaluate("setTimeout(() => { throw new Error('thrown'); }); console.error('said'); 1")
    browser.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert any("thrown" in one for one in browser.errors) and any("said" in one for one in browser.errors)
    browser.errors.clear()
