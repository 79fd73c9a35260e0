"""OCaml projects of a monorepo: built, run, tested, and built again when their own files change.

All stands on the base and the versions of //images:hello and //images:0install, so that compilers and tools are built once for
all tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
import uuid
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

from bench.scratch_project import Run, ScratchProject
from tests.e2e.conftest import Layout
from tests.support.checkout import ROOT, Pants, make_clone
from tests.support.pool_sources import unpack_release
from tests.support.tar_files import files_of_layer

HEAD = 'opam-version: "2.0"\nsynopsis: "Greets"\nmaintainer: "me@example.org"\n'
# As in 3rdparty/opam/BUILD: with the same versions, layers of other tests' images are taken.
CONSTRAINTS = ["dune=3.17.2", "dune-configurator=3.17.2", "topkg=1.0.7"]
TEST = "src/hello/test/test.ml"
GREETS = 'let () = assert (Greeting.of_name "x" = "Hello, x!"); print_endline "all is well"\n'
HELLO = {
    "src/hello/BUILD": 'opam_project(name="project")\n',
    "src/hello/dune-project": "(lang dune 3.0)\n",
    "src/hello/greeting.opam": HEAD
    + 'depends: ["ocaml" "dune" {>= "3.0"}]\nbuild: ["dune" "build" "-p" name "-j" jobs "@install"]\n',
    "src/hello/hello.opam": HEAD
    + 'depends: ["ocaml" "dune" {>= "3.0"} "greeting" {= version} "react" {with-test}]\n'
    + 'build: ["dune" "build" "-p" name "-j" jobs "@install" "@runtest" {with-test}]\n',
    "src/hello/lib/dune": "(library (name greeting) (public_name greeting))\n",
    "src/hello/lib/greeting.ml": 'let of_name name = "Hello, " ^ name ^ "!"\n',
    "src/hello/bin/dune": "(executable (name hello) (public_name hello) (package hello) (libraries greeting))\n",
    "src/hello/bin/hello.ml": 'let () = print_endline (Greeting.of_name "world")\n',
    "src/hello/test/dune": "(test (name test) (package hello) (libraries greeting react))\n",
    TEST: GREETS,
    "images/BUILD": """
oci_package_image(name="hello", packages=["src/hello:project#hello"], cmd=["hello"])
oci_package_image(name="real", packages=["src/react#react", "src/ocplib-endian#ocplib-endian"], cmd=["true"])
""",
}
# A package in two versions, of which the older one is too old for a project that says that it will do.
BOUNDS = {
    **{
        f"repository/packages/words/words.{version}/opam": HEAD
        + 'install: ["sh" "-ec" "mkdir -p %{share}%/words; echo %{version}% >%{share}%/words/version"]\n'
        for version in ("1.0", "2.0")
    },
    "src/bounds/bounds.opam": HEAD
    + 'depends: ["words"]\nrun-test: ["sh" "-ec" "cat %{words:share}%/version; grep 2 %{words:share}%/version"]\n',
    "src/bounds/BUILD": 'opam_project(name="project", resolve=parametrize("default", "oldest"))\n',
}
LOCKS = f"""
opam_packages(name="default")
opam_packages(name="real", resolve="real")
[
    opam_requirement(name=f"roots-{{name}}", resolve=name, requirements=["ocaml-system"], constraints={CONSTRAINTS!r})
    for name in ("default", "real")
]
"""


def make_project(directory: Path, resolves: List[str], base: str) -> ScratchProject:
    """With this repository's overlay of opam packages, and what tests need. A resolve `oldest` is for lower bounds."""
    options = f"resolves_with_test = {resolves!r}\nresolves_prefer_oldest = ['oldest']"
    project = ScratchProject(directory, resolves, options, base=base)
    shutil.copytree(ROOT / "3rdparty/opam/overlay", directory / "repository")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    """Its resolves, all locked: `default` of the small project, `real` of releases, and `oldest` of lower bounds."""
    top = tmp_path_factory.mktemp("local")
    project = make_project(top / "monorepo", ["default", "real", "oldest"], "trixie-ocaml")
    project.write({**HELLO, **BOUNDS, "3rdparty/opam/BUILD": LOCKS})
    for name in ("react", "ocplib-endian"):
        unpack_release(name, project.directory / "src" / name)
        project.write({f"src/{name}/BUILD": 'opam_project(resolve="real")\n'})
    try:
        project.must("generate-lockfiles", "--no-diff")
        yield project
    finally:
        project.stop_daemon()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def hello(project: ScratchProject) -> Iterator[ScratchProject]:
    """The project as it was in the beginning, whatever a test does to it."""
    yield project
    project.write(HELLO)


def packages_of(layout: Layout) -> List[str]:
    """NAME.VERSION of those that have a layer."""
    titles = [layer.get("annotations", {}).get("org.opencontainers.image.title", "") for layer in layout.layers]
    return [title for title in titles if title]


def built(run: Run) -> Set[str]:
    """The packages that a command has built, and did not find in a cache."""
    return set(re.findall(r"Starting: Build opam package (\S+)", run.output))


def failure_in(project: ScratchProject) -> ElementTree.Element:
    [file] = (project.directory / "dist/test/reports").glob("*.xml")
    [failure] = ElementTree.parse(file).getroot().iter("failure")
    return failure


def test_an_image(hello: ScratchProject) -> None:
    hello.must("package", "images:hello")
    titles = packages_of(Layout(hello.directory / "dist/images/hello"))
    assert {"dune.3.17.2", "greeting.dev", "hello.dev"} <= set(titles)
    # What only tests need is in the lockfile, and in no image.
    assert 'name = "react"' in (hello.directory / "3rdparty/opam/default.lock").read_text()
    assert not {name.partition(".")[0] for name in titles} & {"react", "topkg", "ocamlbuild", "ocamlfind"}
    script = "hello; ls /home/opam/.opam/default/lib; opam list --installed --short"
    words = hello.must("run", "images:hello", "--", "sh", "-c", script).output
    assert "Hello, world!" in words and "react" not in words.split()
    # In lib/, and what opam takes for an installed package as any other.
    assert words.split().count("greeting") == 2 and words.split().count("hello") == 2


def test_a_change_builds_what_it_touches(hello: ScratchProject) -> None:
    hello.must("package", "images:hello")
    layout = Layout(hello.directory / "dist/images/hello")
    before = {layer["digest"] for layer in layout.layers}
    word = uuid.uuid4().hex
    hello.write({"src/other/notes.ml": f"(* {word} *)", "images/NOTES": word})
    assert built(hello.must("package", "images:hello")) == set()
    hello.write({"src/hello/bin/hello.ml": f'let () = print_endline (Greeting.of_name "{word}")\n'})
    assert built(hello.must("package", "images:hello")) == {"greeting.dev", "hello.dev"}
    assert f"Hello, {word}!" in hello.must("run", "images:hello").output
    # hello's own, and the switch's state: greeting has come out as it was.
    assert len({layer["digest"] for layer in layout.layers} - before) <= 2


def test_a_source_with_an_error(hello: ScratchProject) -> None:
    hello.write({"src/hello/bin/hello.ml": "let () = no_such_function ()\n"})
    run = hello.pants("package", "images:hello")
    assert run.status == 1 and "Traceback" not in run.output
    assert "opam package hello.dev failed to build" in run.output and "no_such_function" in run.output, run.output


def test_tests_that_pass(hello: ScratchProject) -> None:
    """Once: the second time nothing has changed."""
    word = uuid.uuid4().hex
    hello.write({TEST: f'{GREETS}let () = print_endline "{word}"\n'})
    first = hello.must("test", "--output=all", "src/hello:")
    assert re.search(r"src/hello:project#hello succeeded in [0-9.]+s\.", first.output) and word in first.output
    # Nothing of greeting's opam file is for tests.
    assert "#greeting succeeded" not in first.output
    second = hello.must("test", "src/hello:")
    assert re.search(r"#hello succeeded in \S+ \((memoized|cached locally)\)", second.output)
    again = hello.must("test", "--force", "src/hello:")
    assert re.search(r"#hello succeeded in [0-9.]+s\.", again.output)
    debug = hello.must("test", "--debug", "src/hello:project#hello")
    assert word in debug.output


def test_tests_that_fail(hello: ScratchProject) -> None:
    word = uuid.uuid4().hex
    hello.write({TEST: f'let () = print_endline "{word}"; assert (Greeting.of_name "x" = "Bye")\n'})
    run = hello.pants("test", "--report", "src/hello:")
    assert run.status == 1 and "Traceback" not in run.output
    assert "src/hello:project#hello failed in" in run.output
    assert word in run.output and "Assert_failure" in run.output
    assert "hello.dev does not pass its tests, or does not build with them" in run.output
    failure = failure_in(hello)
    assert "does not pass its tests" in (failure.get("message") or "") and word in (failure.text or "")
    assert hello.pants("test", "--debug", "src/hello:project#hello").status == 1
    # It is no failure of the build.
    hello.must("package", "images:hello")


def test_all_checks(hello: ScratchProject) -> None:
    """`opam-ci`: what the newest versions pass, and the oldest do not."""
    run = hello.pants("opam-ci", "src/hello:", "src/bounds:")
    assert run.status == 1 and "Traceback" not in run.output
    suites = ElementTree.parse(hello.directory / "dist/opam-ci/junit.xml").getroot()
    counts = {suite.get("name"): (suite.get("tests"), suite.get("failures")) for suite in suites}
    assert counts == {"lock": ("2", "0"), "lint": ("3", "0"), "build": ("4", "0"), "test": ("4", "1")} | {
        "lower bounds": ("2", "0")
    }
    [failed] = [case for case in suites.iter("testcase") if case.find("failure") is not None]
    assert (failed.get("name"), failed.get("classname")) == (
        *("src/bounds:project#bounds@resolve=oldest", "test oldest (lower bounds)"),
    )
    # The test's own words, in the report and on the terminal.
    assert "1.0" in (failed.findtext("failure") or "").split()
    assert "test of src/bounds:project#bounds@resolve=oldest failed (oldest (lower bounds)):" in run.output
    assert "not checked: no resolve of it is in `[opam].resolves_prefer_oldest`" in run.output
    alone = hello.must("opam-ci", "src/bounds:project@resolve=default").output
    assert "not checked: this run leaves out src/bounds:project@resolve=oldest" in alone


def processes_that_say(word: str) -> Dict[int, str]:
    """Command lines by process id."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in command and directory.name != str(os.getpid()):
            found[int(directory.name)] = command
    return found


def run_slow_tests(hello: ScratchProject, seconds: int, word: str, kill: bool = False) -> Tuple[Run, bool]:
    """Tests that say the word and then sleep, and whether they came to that. seconds: their time-out. kill: the process of the
    tool, once they sleep."""
    hello.write(
        {
            TEST: f'let () = print_endline "said {word}"; ignore (Sys.command "sleep {word}")\n',
            "src/hello/BUILD": f'opam_project(name="project", timeout={seconds})\n',
        }
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hello.pants, "test", "--timeouts", "--report", "src/hello:")
        seen = False
        while not running.done():
            sleeping = [pid for pid, command in processes_that_say(word).items() if command.startswith("sleep")]
            if sleeping and kill and not seen:
                os.kill(tool_above(sleeping[0]), signal.SIGKILL)
            seen = seen or bool(sleeping)
            time.sleep(0.2)
    return running.result(), seen


def tool_above(pid: int) -> int:
    """The process of the sandbox tool that Pants has started, of one below it."""
    tool = 0
    while pid > 1:
        if b"__tool" in Path(f"/proc/{pid}/cmdline").read_bytes():
            tool = pid
        pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    assert tool
    return tool


@pytest.mark.parametrize("seconds", [1, 20])
def test_tests_that_take_too_long(hello: ScratchProject, seconds: int) -> None:
    """While the package is built, and while its tests run. Nobody goes on with what nobody waits for, and what was printed until
    then is shown. The exit status and the message are those that Pants has for any test's time-out."""
    word = f"300.{uuid.uuid4().int}"
    run, seen = run_slow_tests(hello, seconds, word)
    print(f"after {seconds} s the tests {'ran' if seen else 'did not run yet'}")
    assert run.status == 256 - signal.SIGTERM and "Traceback" not in run.output
    assert "src/hello:project#hello failed in" in run.output and f"timeout of {seconds}" in run.output, run.output
    failure = failure_in(hello)
    assert f"timeout of {seconds}" in (failure.get("message") or "")
    assert "killed by signal" not in run.output + (failure.get("message") or "")
    if seen:
        # opam's words as it builds, and the test's own where dune shows them.
        assert "Processing" in run.output and "dune build" in run.output, run.output
        assert "Processing" in (failure.text or "")
    assert processes_that_say(word) == {}


def test_tests_that_are_killed(hello: ScratchProject) -> None:
    word = f"300.{uuid.uuid4().int}"
    run, seen = run_slow_tests(hello, 300, word, kill=True)
    assert seen and run.status == 256 - signal.SIGKILL and "Traceback" not in run.output
    assert "src/hello:project#hello failed in" in run.output and "dune build" in run.output, run.output
    failure = failure_in(hello)
    assert "killed by signal 9, as the kernel does when memory is short" in (failure.get("message") or "")
    assert "dune build" in (failure.text or "")
    assert processes_that_say(word) == {}


# Releases, untouched


def test_a_release_gives_the_same_files(project: ScratchProject, hello_image: Layout) -> None:
    """react's own sources as a project, and the released package: the layers differ in opam's records alone."""
    project.must("package", "images:real")
    ours = files_of_layer(Layout(project.directory / "dist/images/real"), "react.1.2.2")
    theirs = files_of_layer(hello_image, "react.1.2.2")
    assert len(ours) > 20 and ours.keys() == theirs.keys()
    differing = {path for path in ours if ours[path] != theirs[path]}
    assert differing == {"home/opam/.opam/default/.opam-switch/packages/react.1.2.2/opam"}


def test_a_release_is_tested(project: ScratchProject) -> None:
    """ocplib-endian's own tests; react's opam file has none."""
    run = project.must("test", "--output=all", "src/ocplib-endian:", "src/react:")
    assert (
        "src/ocplib-endian#ocplib-endian succeeded in" in run.output and "src/react#react succeeded" not in run.output
    )
    # dune has run each of them.
    assert "_build/default/tests" in run.output, run.output


@pytest.fixture(scope="module")
def hello_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """//images:hello: `hello` is something else here. Of a clone, as others use this checkout at the same time."""
    top = tmp_path_factory.mktemp("released")
    pants = Pants(make_clone(top / "main"))
    try:
        pants.run("package", "//images:hello")
        yield Layout(pants.root / "dist/images/hello")
    finally:
        pants.stop()
        shutil.rmtree(top, ignore_errors=True)
