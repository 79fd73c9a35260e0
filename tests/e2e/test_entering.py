"""Commands over packages that are built: `opam-exec`, `run` and `repl`, with the packages of //images:hello."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.e2e.conftest import ROOT, Layout, Pants

REACT, FINDLIB = "3rdparty/opam:system#react", "3rdparty/opam:system#ocamlfind"
HELLO = """let () =
  let signal, set = React.S.create 40 in
  set 41;
  print_int (React.S.value signal + String.length (input_line (open_in "given")));
  exit 5
"""


def call(pants: Pants, *args: str, given: str = "") -> Tuple[int, str, str]:
    """Exit status, standard output and errors of a command that has something to read."""
    done = subprocess.run(
        ["./pants", *args],
        cwd=ROOT,
        env=pants.environment(),
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_project_is_built_where_its_packages_are(pants: Pants, tmp_path: Path) -> None:
    """Its directory is at the same place, and what is built there stays, and is the caller's."""
    (tmp_path / "hello.ml").write_text(HELLO)
    (tmp_path / "given").write_text("x\n")
    exec_here = ("opam-exec", f"--directory={tmp_path}", FINDLIB, REACT, "--")
    pants.run(*exec_here, *"ocamlfind ocamlopt -package react -linkpkg hello.ml -o hello".split())
    made = (tmp_path / "hello").stat()
    assert (made.st_uid, made.st_gid) == (os.geteuid(), os.getegid()) and made.st_mode & 0o111
    status, out, err = call(pants, *exec_here, "./hello")
    assert (status, out) == (5, "42"), err
    status, out, _ = call(pants, exec_here[0], "--read-only", *exec_here[1:], "sh", "-c", "pwd; touch new")
    assert (status, out) == (1, f"{tmp_path}\n") and not (tmp_path / "new").exists()


def test_opam_says_what_it_says_in_an_image(pants: Pants, hello: Layout) -> None:
    """And the variables are the image's."""
    script = (
        "env; echo; opam list --short; opam var prefix; opam exec -- ocamlfind query react; tail -n +3 /proc/net/dev;"
        f" ls {ROOT}; kill -9 $$"
    )
    status, out, err = call(pants, "opam-exec", FINDLIB, REACT, "--", "sh", "-c", script)
    assert status == 137 and f"cannot access '{ROOT}'" in err
    variables, answers = out.split("\n\n", 1)
    assert set(hello.config["config"]["Env"]) <= set(variables.splitlines())
    lines = answers.splitlines()
    assert {"react", "ocamlfind", "topkg"} <= set(lines)
    assert lines[-3:-1] == ["/home/opam/.opam/default", "/home/opam/.opam/default/lib/react"]
    assert lines[-1].strip().startswith("lo:"), "there is no network"


def test_a_command_that_is_not_there(pants: Pants) -> None:
    status, _, err = call(pants, "opam-exec", REACT, "--", "nosuch")
    assert status == 127 and "nosuch: No such file or directory" in err


@pytest.mark.parametrize("shell", ["ocaml", "opam"])
def test_a_toplevel(pants: Pants, shell: str) -> None:
    """Packages can be required, files of the repository read; what is typed decides on the exit status."""
    typed = (
        '#require "react";;\nReact.S.value (React.S.const 42);;\n'
        'input_line (open_in "BUILD.python");;\nopen_out "new";;\nexit 3;;\n'
    )
    status, out, err = call(pants, "repl", f"--shell={shell}", REACT, given=typed)
    assert status == 3, err
    first_line = (ROOT / "BUILD.python").read_text().splitlines()[0]
    assert "- : int = 42" in out and first_line in out
    assert "Sys_error" in out and "Read-only file system" in out and not (ROOT / "new").exists()


def test_a_program(pants: Pants) -> None:
    """Without an image. It reads a file of the repository by its relative path."""
    solver = "src/opam_sandbox/locking/root_solver.ml"
    words = ("ocamlc", "-stop-after", "parsing", "-dsource")
    status, out, err = call(pants, "run", FINDLIB, "--", *words, solver)
    assert status == 0 and "let " in err, err
    status, _, err = call(pants, "run", FINDLIB, "--", *words, "nosuch.ml")
    assert status == 2 and "nosuch.ml" in err
    status, _, err = call(pants, "run", REACT)
    assert status == 1 and f"{REACT} has no program to run: it installs none." in err
