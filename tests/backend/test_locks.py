"""A lockfile that no longer fits its targets is refused, with what changed and the command that mends it."""

from __future__ import annotations

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import DEBIAN_BUILD, Pkg, debian_lock, opam_lock, project


def plan(runner: RuleRunner) -> BuildPlan:
    return runner.request(BuildPlan, [BuildPlanRequest("default")])


def problem(runner: RuleRunner) -> str:
    with pytest.raises(ExecutionError) as raised:
        plan(runner)
    return str(raised.value.wrapped_exceptions[0])


def test_fresh(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        {
            **project(Pkg("a"), requirements=["a>=1", "b"]),
            "3rdparty/opam/default.lock": opam_lock(Pkg("a"), requirements=["a>=1", "b"], constraints=["c=1"]),
            "more/BUILD": 'opam_requirement(name="m", requirements=["a >= 1"], constraints=["c = 1"])',
        }
    )
    found = plan(rule_runner)
    assert found.lock.resolve == "default"
    assert found.rootfs.packages == ("opam",)


def test_roots_are_those_of_the_resolve(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        project(
            requirements=["a"],
            opam_build="""
opam_requirement(name="o", requirements=["o"], resolve="other")
opam_requirement(name="both", requirements=["p"], constraints=["q<2"], resolve=parametrize("default", "other"))
""",
        )
    )
    default = rule_runner.request(ResolveInputs, [ResolveInputsRequest("default")])
    other = rule_runner.request(ResolveInputs, [ResolveInputsRequest("other")])
    assert (default.requirements, default.constraints) == (("a", "p"), ("q<2",))
    assert (other.requirements, str(other.base)) == (("o", "p"), "3rdparty/debian:second")


def test_other_roots(rule_runner: RuleRunner) -> None:
    files = project(Pkg("a"), requirements=["a", "b"])
    files["3rdparty/opam/default.lock"] = opam_lock(Pkg("a"), requirements=["a", "c"], constraints=["d=1"])
    rule_runner.write_files(files)
    message = problem(rule_runner)
    assert "The lockfile 3rdparty/opam/default.lock: it is out of date" in message
    assert "requirements: not in the lockfile: b; no longer asked for: c" in message
    assert "constraints: no longer asked for: d=1" in message
    assert "generate-lockfiles --resolve=default`" in message


def test_another_base(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a")))
    rule_runner.set_options([*OPTIONS, "--opam-resolves-to-base={'default': '//3rdparty/debian:second'}"])
    message = problem(rule_runner)
    assert "base: the lockfile has //3rdparty/debian:trixie, the target asks for //3rdparty/debian:second" in message


@pytest.mark.parametrize(
    ("lock", "difference"),
    [
        (debian_lock(packages=["opam", "zstd"]), "packages: no longer asked for: zstd"),
        (debian_lock(suite="sid"), "suite: the lockfile has sid, the target asks for trixie"),
        (debian_lock(architecture="arm64"), "architecture: the lockfile has arm64, the target asks for amd64"),
    ],
)
def test_another_rootfs(rule_runner: RuleRunner, lock: str, difference: str) -> None:
    rule_runner.write_files({**project(Pkg("a")), "3rdparty/debian/trixie.lock": lock})
    message = problem(rule_runner)
    assert "The lockfile 3rdparty/debian/trixie.lock: it is out of date" in message
    assert difference in message
    assert "generate-lockfiles --resolve=trixie`" in message


def test_missing_debian_lockfile(rule_runner: RuleRunner) -> None:
    files = project(Pkg("a"))
    del files["3rdparty/debian/trixie.lock"]
    rule_runner.write_files(files)
    message = problem(rule_runner)
    assert "3rdparty/debian/trixie.lock: it does not exist" in message and "--resolve=trixie`" in message


def test_a_base_of_another_type(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({**project(Pkg("a")), "3rdparty/debian/BUILD": 'opam_requirement(name="trixie")'})
    message = problem(rule_runner)
    assert "`[opam].resolves_to_base`" in message and "is a `opam_requirement`" in message


def test_a_base_whose_resolve_is_not_defined(rule_runner: RuleRunner) -> None:
    build = DEBIAN_BUILD.replace('name="trixie"', 'name="trixie", resolve="nowhere"')
    rule_runner.write_files({**project(Pkg("a")), "3rdparty/debian/BUILD": build})
    message = problem(rule_runner)
    assert "The resolve `nowhere`" in message and "`[debian].resolves`: second, trixie" in message


def test_other_options(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a")))
    rule_runner.set_options([*OPTIONS, "--opam-resolves-prefer-oldest=default"])
    assert "options: not in the lockfile: prefer_oldest" in problem(rule_runner)


def test_another_ocaml(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), requirements=["a"]))
    rule_runner.set_options([*OPTIONS, "--opam-resolves-to-ocaml={'default': '5.3.0'}"])
    assert "requirements: not in the lockfile: ocaml=5.3.0" in problem(rule_runner)


SHA = "ab" * 32


def with_repositories(*lines: str) -> str:
    return opam_lock(Pkg("a")).replace("constraints = []", f"constraints = []\nrepositories = {list(lines)}")


def test_repositories(rule_runner: RuleRunner) -> None:
    """By content, in their order; nothing is fetched. A lockfile that does not say for which it was made is fresh."""
    archive = f"https://127.0.0.1:9/r.tar.gz#sha256={SHA}&size=1"
    git = f"git+https://127.0.0.1:9/r.git#{'1a' * 20}"
    repositories = f"--opam-repositories={{'d': 'dir', 'g': '{git}', 'a': '{archive}'}}"
    order = "--opam-repository-order=['d', 'g', 'a']"
    rule_runner.write_files({**project(Pkg("a")), "dir/packages/a/a.1/opam": "one"})
    rule_runner.set_options([*OPTIONS, repositories, order])
    plan(rule_runner)
    rule_runner.write_files({"3rdparty/opam/default.lock": with_repositories()})
    message = problem(rule_runner)
    assert "repositories: not in the lockfile: " in message and "--resolve=default`" in message
    [line] = [line for line in message.splitlines() if "repositories:" in line]
    lines = line.partition("not in the lockfile: ")[2].split(", ")
    assert [line.partition(":")[0] for line in sorted(lines)] == ["a sha256", "d tree", "g git"]
    [tree] = [line for line in lines if line.startswith("d ")]
    right = (tree, f"g git:{'1a' * 20}", f"a sha256:{SHA}")
    rule_runner.write_files({"3rdparty/opam/default.lock": with_repositories(*right)})
    plan(rule_runner)
    rule_runner.write_files({"3rdparty/opam/default.lock": with_repositories(*reversed(right))})
    assert "repositories: in another order" in problem(rule_runner)
    rule_runner.write_files({"3rdparty/opam/default.lock": with_repositories(*right), "dir/packages/a/a.1/opam": "two"})
    assert f"no longer asked for: {tree}" in problem(rule_runner)


def test_opam_files_of_the_project(rule_runner: RuleRunner) -> None:
    files = project(Pkg("a"), opam_build='opam_requirement(name="m", source="mine.opam")\n')
    rule_runner.write_files({**files, "3rdparty/opam/mine.opam": "x"})
    [file] = rule_runner.request(ResolveInputs, [ResolveInputsRequest("default")]).opam_files
    assert (file.package, file.path, file.text) == ("mine", "3rdparty/opam/mine.opam", "x")
    assert "opam files: not in the lockfile: 3rdparty/opam/mine.opam sha256:" in problem(rule_runner)
    lock = opam_lock(Pkg("a")).replace("constraints = []", f'constraints = []\nopam_files = ["{file.line()}"]')
    rule_runner.write_files({"3rdparty/opam/default.lock": lock})
    plan(rule_runner)


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("mine.opam", "mine"),
        ("opam/mine.opam", "mine"),
        ("mine.opam/opam", "mine"),
        ("mine.opam.locked", "mine"),
        ("opam", ""),
        ("opam/opam", ""),
        ("opam.locked", ""),
    ],
)
def test_names_of_opam_files(rule_runner: RuleRunner, path: str, package: str) -> None:
    """ "": the sandbox tool finds it in the file, or takes the directory's."""
    build = f'opam_requirement(name="m", source="{path}")\n'
    rule_runner.write_files({**project(Pkg("a"), opam_build=build), f"3rdparty/opam/{path}": "x"})
    [file] = rule_runner.request(ResolveInputs, [ResolveInputsRequest("default")]).opam_files
    assert (file.package, file.path, file.target) == (package, f"3rdparty/opam/{path}", "3rdparty/opam:m")


@pytest.mark.parametrize(
    ("source", "there", "reason"),
    [
        (
            "mine.opam",
            "mine.opam.template",
            "does not exist, but its template does: `dune build 3rdparty/opam/mine.opam`",
        ),
        (
            "mine.opam",
            "mine.opam/opam",
            "does not exist as a file: it is a directory, with 3rdparty/opam/mine.opam/opam",
        ),
        ("mine.opam", "x", "does not exist, or .gitignore or `[GLOBAL].pants_ignore` hides it"),
        ("mine.opam.template", "mine.opam.template", "a template of one: name 'mine.opam', which `dune build` writes"),
        ("mine.txt", "mine.txt", "names 'mine.txt', which is no opam file: opam's are named NAME.opam or opam"),
    ],
)
def test_opam_files_that_are_none(rule_runner: RuleRunner, source: str, there: str, reason: str) -> None:
    build = f'opam_requirement(name="m", source="{source}")\n'
    rule_runner.write_files({**project(Pkg("a"), opam_build=build), f"3rdparty/opam/{there}": "x"})
    message = problem(rule_runner)
    assert "The `source` field in target 3rdparty/opam:m names" in message and reason in message


def test_two_opam_files_of_one_package(rule_runner: RuleRunner) -> None:
    build = "".join(f'opam_requirement(name="{n}", source="{n}/mine.opam")\n' for n in "xy")
    files = {f"3rdparty/opam/{n}/mine.opam": "x" for n in "xy"}
    rule_runner.write_files({**project(Pkg("a"), opam_build=build), **files})
    assert (
        "y/mine.opam (of 3rdparty/opam:y) and 3rdparty/opam/x/mine.opam (of 3rdparty/opam:x) are opam files of one"
        in problem(rule_runner)
    )


def test_an_opam_file_that_is_not_there(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(project(Pkg("a"), opam_build='opam_requirement(name="m", source="mine.opam")\n'))
    assert "target 3rdparty/opam:m names 3rdparty/opam/mine.opam, which does not exist" in problem(rule_runner)
