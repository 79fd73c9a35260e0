"""The page of `oci-report` in a browser, wide and narrow: nothing is too wide, the table is filtered, no script fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from opam_oci.image_reports.report_page import write_page
from opam_oci.image_reports.sharing import sharing_of
from tests.backend.image_records import layer, record
from tests.support.browser import CHOOSE, Browser

ROWS = (
    'Array.from(document.querySelectorAll("#blobs tbody tr")).filter((row) => !row.hidden && row.offsetParent !== null)'
)
TITLES = f"{ROWS}.map((row) => row.cells[0].textContent)"
# Of each picture, the names of its rectangles with their areas.
AREAS = """Array.from(document.querySelectorAll("svg.treemap")).map((svg) => Array.from(svg.querySelectorAll("g"))
    .map((g) => [g.querySelector("title").textContent.split(":")[0], g.querySelector("rect").getBBox()])
    .map(([name, box]) => [name, box.width * box.height]))"""


@pytest.mark.parametrize("width", [1280, 320])
def test_the_page(browser: Browser, tmp_path: Path, width: int) -> None:
    base, long = layer(1, 200_000_000, "base trixie", kind="base"), "a-very-long-name-of-a-package" * 3
    mine = [layer(number, 7**number, f"p{number}.1", (f"p{number}.1",)) for number in range(2, 9)]
    one = record("images:one", base, *mine)
    two = record(f"images:{long}", base, mine[0], layer(99, 90_000, long))
    page = tmp_path / "index.html"
    page.write_text(write_page(sharing_of([one, two])))
    browser.errors.clear()
    browser.open("about:blank", width)
    browser.open(page.as_uri(), width)
    wide, window = browser.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window == width
    assert sorted(browser.evaluate(TITLES)) == sorted(["base trixie", long, *(one.title for one in mine)])
    assert browser.evaluate('document.getElementById("shown").textContent') == "9 layers"
    whole, without = browser.evaluate(AREAS)
    assert max(whole, key=lambda one: one[1])[0] == "base trixie" and "base trixie" not in dict(without)
    assert dict(without)["p8.1"] / dict(without)["p7.1"] == pytest.approx(7, rel=0.01)
    browser.evaluate(CHOOSE.format(name="shared", value="all"))
    assert browser.evaluate(TITLES) == ["base trixie", "p2.1"]
    browser.evaluate(CHOOSE.format(name="shared", value=""))
    browser.evaluate(CHOOSE.format(name="kind", value="base"))
    assert browser.evaluate(TITLES) == ["base trixie"]
    assert browser.errors == []
