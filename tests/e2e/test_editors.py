"""utop in a terminal, and merlin over an exported switch, as editors ask it: Debian's own, with the packages of a resolve."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from typing import Iterator

import pytest

from bench.scratch_project import ROOT, ScratchProject
from tests.e2e.test_local_projects import CONSTRAINTS

DEFAULT = "3rdparty/opam:default"
CONF = 'opam-version: "2.0"\nmaintainer: "me@example.org"\nflags: conf\ndepends: ["ocaml-system"]\n'
# Debian's findlib, which is in its utop, knows nothing of the switch; one that opam has built does.
PROGRAMS = {
    "utop/utop.2.15.0": CONF + 'depexts: ["utop"]\nsetenv: [OCAMLPATH += "%{lib}%"]\n',
    "merlin/merlin.5.4.1": CONF + 'depexts: ["ocaml-merlin"]\n',
}
ROOTS = f"""
opam_packages(name="default")
opam_requirement(name="roots", requirements=["merlin", "ocamlfind", "react", "utop"], constraints={CONSTRAINTS!r})
"""
IMAGE = f'oci_package_image(name="tools", packages=["{DEFAULT}#merlin", "{DEFAULT}#ocamlfind"], cmd=["true"])\n'
# The image's own switch is not there any more: all comes from the exported one.
ASK = r"""
set -eu
mv /home/opam/.opam /home/opam/gone
cd {work}
. {exported}/env.sh
ocamlmerlin server type-enclosing -position 1:22 -index 0 -filename a.ml <a.ml
ocamlmerlin server errors -filename a.ml <a.ml
ocamlmerlin server stop-server || true
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    top = tmp_path_factory.mktemp("editors")
    project = ScratchProject(top / "project", ["default"], base="trixie-ocaml")
    shutil.copytree(ROOT / "3rdparty/opam/overlay", project.directory / "repository")
    project.write({f"repository/packages/{path}/opam": text for path, text in PROGRAMS.items()})
    project.write({"3rdparty/opam/BUILD": ROOTS, "images/BUILD": IMAGE, "notes.txt": "a note\n"})
    try:
        project.must("generate-lockfiles", "--resolve=default")
        yield project
    finally:
        project.stop_daemon()
        shutil.rmtree(top, ignore_errors=True)


PROMPT = "utop # "
# What says where and how letters are shown.
_CONTROL = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07|\([A-Z])")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, project: ScratchProject, *arguments: str) -> None:
        self.said = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(project.directory)
            os.environ.update(TERM="xterm", PANTS_DYNAMIC_UI="false")
            os.execv("./pants", ["./pants", *arguments])
        # Lines and columns: where there are none, utop draws nothing.
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def wait_for(self, word: str, seconds: float) -> None:
        """Until it has shown that, after what was waited for before."""
        end = time.monotonic() + seconds
        while word not in self.shown:
            assert time.monotonic() < end, f"no {word!r} in {self.shown[-4000:]!r}"
            if select.select([self.descriptor], [], [], 1)[0]:
                try:
                    self.said += os.read(self.descriptor, 65536)
                except OSError:  # it has ended
                    raise AssertionError(f"no {word!r} before the end of {self.shown[-4000:]!r}") from None
        self.said = b""

    @property
    def shown(self) -> str:
        """What is new, without how it is shown."""
        return _CONTROL.sub(b"", self.said).decode(errors="replace")

    def type(self, line: str) -> None:
        os.write(self.descriptor, line.encode() + b"\r")

    def end(self) -> int:
        """The exit status."""
        while True:
            try:
                if not os.read(self.descriptor, 65536):
                    break
            except OSError:
                break
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_utop_in_a_terminal(project: ScratchProject) -> None:
    """It draws its prompt, loads a package of the resolve, reads the repository, and cannot write there."""
    terminal = Terminal(project, "repl", "--shell=utop", f"{DEFAULT}#react")
    terminal.wait_for(PROMPT, 600)
    for line, answer in (
        ('#require "react";;', PROMPT),
        ("React.S.value (React.S.const (6 * 7));;", ": int = 42"),
        ('input_line (open_in "notes.txt");;', '"a note"'),
        ('open_out "new";;', "Read-only file system"),
    ):
        time.sleep(1)  # it draws its prompt anew when it has loaded what it is configured by
        terminal.type(line)
        terminal.wait_for(answer, 60)
    time.sleep(1)
    terminal.type("exit 3;;")
    assert terminal.end() == 3 and not (project.directory / "new").exists()


def test_merlin_knows_the_types_of_an_exported_switch(project: ScratchProject) -> None:
    project.must("--no-opam-export-check-host", "export", "--resolve=default")
    work = project.directory / "src"
    exported = project.directory / "dist/export/opam/default"
    project.write({"src/a.ml": "let signal = React.S.const 42\n", "src/.merlin": "PKG react\n"})
    volume = f"{project.directory}:{project.directory}"
    script = ASK.format(work=work, exported=exported)
    options = (f"--oci-run-volumes=['{volume}']", "run", "images:tools", "--", "sh", "-c", script)
    done = subprocess.run(
        ["./pants", *options], cwd=project.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    typed, errors, *_ = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert typed["value"][0]["type"] == "'a -> 'a React.signal", typed
    assert errors["value"] == [], errors
