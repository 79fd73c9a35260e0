"""What the backend asks to solve and to list roots, and what becomes of it. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pants.engine.fs import Digest, DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.locking.root_solutions import RootList, RootListRequest, RootSolutions, RootSolutionsRequest
from opam_oci.locking.solver_layer import read_solver_package
from opam_oci.locking.steps import LockError
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.lockfile_reader import read_debian_lock
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import debian_lock

pytestmark = pytest.mark.usefixtures("fake_tool")


@pytest.fixture
def runner(rule_runner: RuleRunner) -> RuleRunner:
    rule_runner.write_files({"overlay/packages/a/a.1/opam": ""})
    rule_runner.set_options([*OPTIONS, "--opam-repositories={'overlay': 'overlay'}"], env_inherit={"PATH", "HOME"})
    return rule_runner


def base(suite: str = "trixie") -> DebianLock:
    text = debian_lock().replace('suite = "trixie"', f'suite = "{suite}"')
    return read_debian_lock("3rdparty/debian/trixie.lock", "trixie", text.encode())


def content(runner: RuleRunner, digest: Digest, name: str) -> Any:
    [file] = runner.request(DigestContents, [digest])
    assert file.path == name
    return json.loads(file.content)


def test_what_is_solved(runner: RuleRunner) -> None:
    request = RootSolutionsRequest(
        base(), ("ocaml=5.3.0", ""), ("a", "b*"), latest=2, available=False, constraints=("c<3",), with_test=True
    )
    result = runner.request(RootSolutions, [request])
    found = content(runner, result.digest, "solutions.json")
    assert found["facts"]["solver"] == "solve_roots" and result.notes == ()
    assert [(root["name"], root["compiler"]) for root in found["roots"]] == [
        *(("a", "ocaml=5.3.0"), ("b*", "ocaml=5.3.0"), ("a", ""), ("b*", ""))
    ]
    asked = json.loads(found["roots"][0]["packages"]["seen"])
    assert asked.pop("kinds") == ["base", "opam-root", "package"]
    assert asked == {
        **{"step": "solve-roots", "store": "store", "layers": ["in/0", "in/1"], "solver": "in/2"},
        **{"prepared": "prepared", "repositories": ["overlay"], "compilers": ["ocaml=5.3.0", ""]},
        "selection": {"packages": ["a", "b*"], "latest": 2, "available": False},
        **{"constraints": ["c<3"], "with_test": True, "with_doc": False, "prefer_oldest": False},
    }


def test_a_debian_without_the_library(runner: RuleRunner) -> None:
    result = runner.request(RootSolutions, [RootSolutionsRequest(base("bookworm"), ("",), ("a",))])
    found = content(runner, result.digest, "solutions.json")
    assert found["facts"]["solver"] == "opam" and result.notes == ("no solver here",)
    assert json.loads(found["roots"][0]["packages"]["seen"])["kinds"] == ["base", "opam-root"]
    with pytest.raises(ExecutionError, match="Cannot list packages on the base trixie: no solver here"):
        runner.request(RootList, [RootListRequest(base("bookworm"), ("",))])


def test_what_is_listed(runner: RuleRunner) -> None:
    result = runner.request(RootList, [RootListRequest(base(), ("ocaml=5.3.0",), revdeps_of=("a",))])
    assert [one["compiler"] for one in content(runner, result.digest, "roots.json")["compilers"]] == ["ocaml=5.3.0"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"package": {}, "debs": [{"name": "x"}], "note": ""}'])
def test_an_answer_that_is_none(text: str) -> None:
    with pytest.raises(LockError, match="solver.json"):
        read_solver_package(text.encode())
