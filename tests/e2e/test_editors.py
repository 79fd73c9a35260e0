"""merlin over an exported switch, as editors ask it: Debian's own, with the packages of a resolve."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Iterator

import pytest

from bench.scratch_project import ROOT, ScratchProject
from tests.e2e.test_local_projects import CONSTRAINTS

DEFAULT = "3rdparty/opam:default"
CONF = 'opam-version: "2.0"\nmaintainer: "me@example.org"\nflags: conf\ndepends: ["ocaml-system"]\n'
PROGRAMS = {"merlin/merlin.5.4.1": CONF + 'depexts: ["ocaml-merlin"]\n'}
ROOTS = f"""
opam_packages(name="default")
opam_requirement(name="roots", requirements=["merlin", "ocamlfind", "react"], constraints={CONSTRAINTS!r})
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
    project.write({"3rdparty/opam/BUILD": ROOTS, "images/BUILD": IMAGE})
    try:
        project.must("generate-lockfiles", "--resolve=default")
        yield project
    finally:
        project.stop_daemon()
        shutil.rmtree(top, ignore_errors=True)


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
