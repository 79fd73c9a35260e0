"""A repository with OCaml projects for tests, and its lockfile."""

from __future__ import annotations

import hashlib

import pytest
from pants.backend.project_info.list_targets import List
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, Pkg, debian_lock, image, opam_lock, toml_list

# `app` is built with `lib` and the released `user`, which depends on `lib` too; `lib` is tested with `bench`, `bench` is built
# with `lib`; `alone` has nothing to do with the others.
SOURCES = {
    "src/app/app.opam": "app",
    "src/app/bin/main.ml": "let () = ()",
    "src/app/dune-project": "(lang dune 3.0)",
    "src/lib/lib.opam": "lib",
    "src/lib/lib-unix.opam": "lib-unix",
    "src/lib/lib.ml": "let x = 1",
    "src/lib/_build/log": "made",
    "src/lib/vendor/_opam/x": "made",
    "src/lib/vendor/BUILD": "",
    "src/lib/.ocamlformat": "version = 1",
    "src/bench/bench.opam": "bench",
    "src/alone/opam": 'name: "alone"',
    "src/alone/main.ml": "",
}
BUILD = {
    "src/app/BUILD": 'opam_project(name="project", tags=["t"])\n',
    "src/lib/BUILD": "opam_project()\n",
    "src/bench/BUILD": "opam_project()\n",
    "src/alone/BUILD": "opam_project()\n",
}
OPAM_FILES = sorted(path for path in SOURCES if path.endswith("opam"))


def local(name: str, path: str, **fields: object) -> Pkg:
    more = {key: fields.pop(key) for key in ("test_depends",) if key in fields}
    extra = f'local = "{path}"\n' + "".join(f"{key} = {toml_list(value)}\n" for key, value in more.items())
    return Pkg(name, extra=extra, **fields)


PACKAGES = (
    local("app", "src/app/app.opam", depends=["lib", "user"], version="dev"),
    local("lib", "src/lib/lib.opam", test_depends=["bench", "checks"], post=["later"]),
    local("lib-unix", "src/lib/lib-unix.opam", depends=["lib"]),
    local("bench", "src/bench/bench.opam", depends=["lib"]),
    local("alone", "src/alone/opam"),
    Pkg("user", depends=["lib"]),
    Pkg("checks"),
    Pkg("later"),
    Pkg("other"),
)


def line(path: str, content: str) -> str:
    return f"{path} sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def lock(*packages: Pkg, resolve: str = "default", files: "list[str] | None" = None) -> str:
    lines = [line(path, SOURCES[path]) for path in (OPAM_FILES if files is None else files)]
    base = {"default": "//3rdparty/debian:trixie", "other": "//3rdparty/debian:second"}[resolve]
    text = opam_lock(*packages, resolve=resolve, base=base)
    return text.replace("constraints = []", f"constraints = []\nopam_files = {toml_list(lines)}")


FILES = {
    **SOURCES,
    **BUILD,
    "3rdparty/debian/BUILD": DEBIAN_BUILD,
    "3rdparty/debian/trixie.lock": debian_lock(),
    "3rdparty/debian/second.lock": debian_lock("second"),
    "3rdparty/opam/BUILD": 'opam_packages(name="default")\n',
    "3rdparty/opam/default.lock": lock(*PACKAGES),
    "images/BUILD": 'oci_package_image(name="app", packages=["src/app:project#app"])\n'
    'oci_package_image(name="alone", packages=["src/alone"])\n'
    'oci_package_image(name="unix", packages=["src/lib#lib-unix"])\n' + image("other", name="other"),
}
GROUND = ["3rdparty/debian:trixie", "3rdparty/opam:_opam_lockfile_default"]


def goal(runner: RuleRunner, kind: type, *args: str) -> list[str]:
    done = runner.run_goal_rule(kind, global_args=OPTIONS, args=args)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def problem(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.run_goal_rule(List, global_args=OPTIONS, args=args)
    return str(raised.value.wrapped_exceptions[0])


def inputs_problem(runner: RuleRunner) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.request(ResolveInputs, [ResolveInputsRequest("default")])
    return str(raised.value.wrapped_exceptions[0])
