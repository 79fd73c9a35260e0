"""`export --resolve`: what the tool is asked for, what lies in dist/, and what is an error. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pants.core.goals.export import Export
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner, mock_console
from pants.util.frozendict import FrozenDict

from opam_oci.exporting.host_match import (
    ExportHost,
    ExportHostError,
    check_host_matches,
    host_problem,
    this_export_host,
)
from opam_oci.resolves.lockfile import Deb, DebianLock
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, deb_toml, project
from tests.backend.projects import FILES as PROJECTS
from tests.backend.projects import PACKAGES
from tests.backend.projects import lock as project_lock

pytestmark = pytest.mark.usefixtures("fake_tool")

# Of the base's C library, which a mirror in the build root has.
_POOL = "pool/main/g/glibc/libc6.deb"
_DEB = b"a C library"


def libc(version: str) -> str:
    """The base's C library, as its lockfile has it."""
    return deb_toml("libc6", _POOL, hashlib.sha256(_DEB).hexdigest(), len(_DEB)).replace("1:2-3", version)


OLD_LIBC, NEW_LIBC = libc("2.17-1"), libc("99.1-2+deb13u1")


def run(runner: RuleRunner, *args: str) -> str:
    """What the goal prints."""
    mirror = Path(runner.build_root, "mirror")
    (mirror / _POOL).parent.mkdir(parents=True, exist_ok=True)
    (mirror / _POOL).write_bytes(_DEB)
    options = [*OPTIONS, f"--debian-mirrors=['{mirror.as_uri()}']"]
    runner.set_options([*options, "export", *args], env_inherit={"PATH"})
    with mock_console(runner.options_bootstrapper):
        done = runner.run_goal_rule(Export, global_args=options, args=args, env_inherit={"PATH"})
    assert done.exit_code == 0, done.stderr
    return done.stdout


def failure(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        run(runner, *args)
    return str(raised.value.wrapped_exceptions[0])


def seen(runner: RuleRunner, resolve: str = "default") -> Any:
    return json.loads(Path(runner.build_root, "dist/export/opam", resolve, "env.sh").read_text())


def test_the_request(rule_runner: RuleRunner) -> None:
    """All packages of the resolve, dependencies first, and the environment that opam gives over them."""
    curl = Pkg("conf-curl").toml().replace("depexts = []", 'depexts = ["libcurl-dev"]')
    files = project(Pkg("a", depends=["b"]), Pkg("b"), Pkg("ocaml-system", version="5.3.0"), debian_debs=OLD_LIBC)
    files["3rdparty/opam/default.lock"] += curl
    rule_runner.write_files(files)
    said = run(rule_runner, "--resolve=default")
    assert said == "Wrote the switch of the opam resolve `default` to dist/export/opam/default\n"
    own = f"{rule_runner.build_root}/dist/export/opam/default"
    assert sorted(os.listdir(own)) == ["env.sh", "switch"]
    found = seen(rule_runner)
    request = found["request"]
    assert found["packages"] == ["b", "a", "conf-curl", "ocaml-system"]
    assert (request["prefix"], request["made_by"]) == (f"{own}/switch", f"{own}/.export")
    assert os.path.realpath(f"{own}/switch") == os.path.realpath(request["tree"])
    assert (request["compiler"], request["check_host"]) == ("5.3.0", True)
    assert request["depexts"] == {"conf-curl.1": ["libcurl-dev"]}
    assert "PATH=/switch/bin:/usr/bin" in request["variables"]
    assert set(found["env"]) - {"PWD", "LC_CTYPE", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG"}
    # The directory stays what it is when it is written again.
    Path(request["tree"], "mine").touch()
    assert run(rule_runner, "--resolve=default") == said
    assert Path(own, "switch/mine").exists()


def test_without_a_compiler_of_debian_s(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("ocaml-base-compiler")))
    run(rule_runner, "--resolve=default", "--no-opam-export-check-host")
    request = seen(rule_runner)["request"]
    assert (request["compiler"], request["check_host"]) == ("", False)


def test_a_failed_build_leaves_what_is_there(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), debian_debs=OLD_LIBC))
    run(rule_runner, "--resolve=default")
    before = seen(rule_runner)
    rule_runner.write_files(project(Pkg("a", depends=["b"]), Pkg("b", opam="fail"), debian_debs=OLD_LIBC))
    text = failure(rule_runner, "--resolve=default")
    assert text.startswith("The opam resolve `default` was not exported, as packages failed: b.1. ")
    assert "b.1 failed: error: b does not compile" in text and text.count("b does not compile") == 1
    assert seen(rule_runner) == before


def test_a_failed_switch_leaves_what_is_there(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), debian_debs=OLD_LIBC))
    run(rule_runner, "--resolve=default")
    before = seen(rule_runner)
    rule_runner.write_files(project(Pkg("a", opam="unexportable"), debian_debs=OLD_LIBC))
    assert failure(rule_runner, "--resolve=default") == (
        "Failed to write the switch of the opam resolve `default` to dist/export/opam/default"
    )
    assert seen(rule_runner) == before


def test_a_machine_with_an_older_c_library(rule_runner: RuleRunner) -> None:
    """It is said before anything is built."""
    rule_runner.write_files(project(Pkg("a", opam="fail"), debian_debs=NEW_LIBC))
    text = failure(rule_runner, "--resolve=default")
    assert "resolve `default` do not run on this machine: its C library is glibc" in text
    assert "they need glibc 99.1 or newer" in text and "3rdparty/debian:trixie" in text and "`pants opam-exec`" in text
    assert not Path(rule_runner.build_root, "dist").exists()


def test_other_resolves_are_others_business(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), debian_debs=OLD_LIBC))
    assert "python-default" in failure(rule_runner, "--resolve=default", "--resolve=python-default")
    assert run(rule_runner) == ""


def test_packages_of_this_repository_stay_out(rule_runner: RuleRunner) -> None:
    """What stands on one is built over it, and what only their tests need is there."""
    rule_runner.write_files(PROJECTS)
    run(rule_runner, "--resolve=default", "--no-opam-export-check-host")
    assert sorted(seen(rule_runner)["packages"]) == ["checks", "later", "other", "user"]
    packages = [Pkg("user", depends=["lib"]) if one.name == "user" else one for one in PACKAGES]
    lib = next(one for one in PACKAGES if one.name == "lib")
    packages[packages.index(lib)] = replace(lib, opam="fail")
    rule_runner.write_files({"3rdparty/opam/default.lock": project_lock(*packages)})
    text = failure(rule_runner, "--resolve=default", "--no-opam-export-check-host")
    assert "as packages failed: lib.1. " in text


def lock(version: str, architecture: str = "amd64") -> DebianLock:
    debs = {"libc6": Deb("libc6", version, architecture, "pool/x", "0" * 64, 1)} if version else {}
    return DebianLock("trixie.lock", "trixie", "trixie", architecture, (), FrozenDict(debs))


@pytest.mark.parametrize(
    ("debian", "host", "expected"),
    [
        (lock("2.41-12"), ExportHost("x86_64", "glibc 2.41"), ""),
        (lock("2.41-12"), ExportHost("x86_64", "glibc 2.100"), ""),
        (
            lock("2.41-12+deb13u1"),
            ExportHost("x86_64", "glibc 2.36"),
            "its C library is glibc 2.36, and they need glibc 2.41 ",
        ),
        (lock("2.9-1"), ExportHost("x86_64", "glibc 2.10"), ""),
        (lock("2.41-12"), ExportHost("aarch64", "glibc 2.41"), "it is aarch64, and they are for amd64"),
        (lock("2.41-12", "arm64"), ExportHost("aarch64", "glibc 2.41"), ""),
        (lock("2.41-12"), ExportHost("x86_64", ""), "not the GNU one"),
        (lock(""), ExportHost("x86_64", "glibc 2.41"), "trixie.lock does not say"),
    ],
)
def test_what_has_to_match(debian: DebianLock, host: ExportHost, expected: str) -> None:
    problem = host_problem(debian, host)
    assert problem == expected if not expected else expected in problem
    if expected:
        with pytest.raises(ExportHostError, match="opam-exec"):
            check_host_matches("default", "//base", debian, host)


def test_this_machine() -> None:
    assert this_export_host() == ExportHost(os.uname().machine, os.confstr("CS_GNU_LIBC_VERSION") or "")
