"""`dune_lock`: versions that dune has locked are bounds of the resolve."""

from __future__ import annotations

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.target import InvalidTargetException
from pants.testutil.rule_runner import RuleRunner

from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from tests.backend.locktext import DEBIAN_BUILD

INDEX = "(lang package 0.1)\n\n(dependency_hash 36e640fbcda71963e7e2f689f6c96c3e)\n"


def constraints(runner: RuleRunner, files: dict[str, str], field: str = ', dune_lock="dune.lock"') -> tuple[str, ...]:
    runner.write_files(
        {
            "3rdparty/debian/BUILD": DEBIAN_BUILD,
            "src/BUILD": f'opam_project(name="project"{field})\n',
            "src/hello.opam": 'opam-version: "2.0"\n',
            **{f"src/{name}": text for name, text in files.items()},
        }
    )
    return runner.request(ResolveInputs, [ResolveInputsRequest("default")]).constraints


def test_versions_are_bounds(rule_runner: RuleRunner) -> None:
    files = {
        "dune.lock/lock.dune": INDEX,
        "dune.lock/fmt.pkg": "(version 0.9.0)\n\n(build\n (run dune build -p %{pkg-self:name}))\n\n(depends dune ocaml)\n",
        "dune.lock/base-unix.base.pkg": "(version base)\n",
        "dune.lock/lwt.5.9.0~beta.pkg": '; (version 1)\n(version "5.9.0~beta")\n(depexts ((libev-dev)))\n',
        "dune.lock/pinned.pkg": "(source (copy /elsewhere))\n",
        "dune.lock/fmt.files/version.pkg": "(version 7)\n",
    }
    assert constraints(rule_runner, files) == ("base-unix=base", "fmt=0.9.0", "lwt=5.9.0~beta")
    assert constraints(rule_runner, files, "") == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "in which there is no lock.dune"),
        ({"dune.lock/fmt.pkg": "(version 1)"}, "in which there is no lock.dune"),
        (
            {"dune.lock/lock.dune": INDEX, "dune.lock/fmt.pkg": '(version "1 2")\n'},
            r"src/dune.lock/fmt.pkg has the version",
        ),
        (
            {"dune.lock/lock.dune": INDEX, "dune.lock/a.1.pkg": "(version 1)", "dune.lock/a.2.pkg": "(version 2)"},
            "src/dune.lock/a.1.pkg and src/dune.lock/a.2.pkg are two versions",
        ),
    ],
)
def test_what_is_none(rule_runner: RuleRunner, files: dict[str, str], message: str) -> None:
    with pytest.raises(ExecutionError) as raised:
        constraints(rule_runner, files)
    [error] = raised.value.wrapped_exceptions
    assert isinstance(error, InvalidTargetException)
    assert message in str(error) and "src:project" in str(error)
