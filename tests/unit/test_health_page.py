"""The table of what health checks of real packages found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from tests.sweeps.health_page import HEADING, Check, rewritten, section
from tests.sweeps.pool import Pool

POOL = Pool(served=("a.1", "b.1", "c.1", "d.1", "e.1"), listed=("dune.3.24.1",), partly=("pxp.1.2.9",))
NOWHERE = "c.1: needs dune >= 3.18\n  no version is available of dune >= 3.18\n"
CLASH = "no version of x goes with the others:\n  x | z\n"
OLD = "h.1: needs ocaml < 5.0\n  ocaml.4.14.5, 4.14.4 and 57 more: but ocaml-system.5.3.0 needs ocaml = 5.3.0"


def root(name: str, status: str, explanation: str = "", compiler: str = "ocaml-system") -> Dict[str, Any]:
    return {"name": f"{name}.1", "status": status, "explanation": explanation, "compiler": compiler}


def package(name: str, status: str, why: str = "") -> Dict[str, Any]:
    return {"name": name, "version": "1", "status": status, "kind": None, "reason": why, "seconds": 90.0}


def check(*roots: Dict[str, Any]) -> Check:
    packages = {
        "1": package("a", "success"),
        "2": package("b", "failure", "exit status 2. And more"),
        "3": package("low", "success"),
    }
    return Check({"roots": list(roots), "packages": packages, "seconds": 150.0}, POOL)


def test_the_section() -> None:
    one = check(
        root("a", "success"),
        root("b", "failure"),
        root("c", "no_solution", NOWHERE),
        root("d", "no_solution", "no version is available of pcre"),
        root("e", "no_solution", CLASH),
        root("f", "no_solution", "f.1: needs dune >= 3.25\n  no version is available of dune >= 3.25"),
        root("h", "no_solution", OLD),
        root("i", "no_solution", "dune.2.9.3: conflicts with base-effects.base, which is needed"),
        root("g", "no_solution", "  no version is available of dune >= 3.18 and dune < 3.20"),
    )
    other = check(root("a", "success", compiler="ocaml.5.3.0"), root("b", "cancelled", compiler="ocaml.5.3.0"))
    lines = section([one, other]).splitlines()
    assert lines[0] == HEADING
    text = "\n".join(lines)
    assert "an archive of 7 versions. 1 of them" in text and "The 5 others" in text
    rows = [line for line in lines if line.startswith("|")]
    assert rows == [
        "| | Debian's OCaml | ocaml.5.3.0 |",
        "|---|---|---|",
        "| roots | 9 | 2 |",
        "| built | 1 | 1 |",
        "| failed | 1 | 0 |",
        "| no solution | 7 | 0 |",
        "| not tried: the time was up | 0 | 1 |",
        "| packages built for them | 2 | 2 |",
        "| minutes that these builds took | 4 | 4 |",
        "| a root | Debian's OCaml | ocaml.5.3.0 | most of all |",
        "|---|---|---|---|",
        "| needs a package whose archives the index lists and no mirror has | 1 | 0 | `dune >= 3.18` |",
        "| needs a package whose archives the pool does not have | 3 | 0 | "
        "`dune >= 3.18 and dune < 3.20`, `dune >= 3.25`, `pcre` |",
        "| needs an older OCaml | 2 | 0 | `dune.2.9.3`, `ocaml < 5.0` |",
        "| other | 1 | 0 | `x \\| z` |",
    ]
    assert "- `b.1`: failed: `exit status 2`" in lines and "- `low.1`" not in text
    alone = Check({**other.results, "packages": {"3": package("low", "success")}}, POOL)
    assert "- `b.1`: failed: `exit status 2` (Debian's OCaml)" in section([one, alone]).splitlines()
    assert "Not built" not in section([alone])


def test_the_section_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    page = rewritten("# Title\n\nText.\n", f"{HEADING}\n\nold\n")
    assert page == f"# Title\n\nText.\n\n{HEADING}\n\nold\n"
    assert rewritten(page, f"{HEADING}\n\nnew\n") == f"# Title\n\nText.\n\n{HEADING}\n\nnew\n"
    results = tmp_path / "project/dist/opam-health/health"
    results.mkdir(parents=True)
    (results / "results.json").write_text(json.dumps(check(root("a", "success")).results))
    (tmp_path / "pool.json").write_text(json.dumps(vars(POOL)))
    assert Check.read(tmp_path).pool == POOL and Check.read(tmp_path).counts() == {"success": 1}
