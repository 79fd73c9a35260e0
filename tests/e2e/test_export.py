"""`pants export`: a resolve's packages as a switch, which is used on the base's Debian without the sandbox's own place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import List

import pytest

from tests.e2e.conftest import ROOT, Layout, Pants

EXPORTED = ROOT / "dist/export/opam/system"

# As a person does it, on a machine that has never seen /home/opam: there is no such place any more.
SCRIPT = r"""
set -eu
mv /home/opam/.opam /home/opam/gone
mkdir /tmp/work && cd /tmp/work
env -i HOME=/tmp/work PATH=/usr/bin:/bin sh -eu <<'end'
. {exported}/env.sh
echo "prefix $OPAM_SWITCH_PREFIX"
command -v ocamlfind
ocamlfind printconf path
ocamlfind query react
cat > a.ml <<'code'
let e, send = React.E.create ()
let _kept = React.E.map (fun x -> print_endline ("got " ^ x)) e
let () = send Sys.argv.(1)
code
ocamlfind ocamlopt -package react -linkpkg a.ml -o native && ./native native
ocamlfind ocamlc -package react -linkpkg a.ml -o bytecode && ./bytecode bytecode
ocamlfind ocamlc -custom -package react,unix -linkpkg a.ml -o custom && ./custom custom
printf '#use "topfind";;\n#require "react";;\nlet (_ : unit React.event) = React.E.never;;\n' > top.ml
ocaml top.ml && echo toplevel
end
"""


@pytest.fixture(scope="module")
def exported(pants: Pants, hello: Layout) -> Path:
    """The resolve `system`, whatever this machine is."""
    pants.run("--no-opam-export-check-host", "export", "--resolve=system")
    return EXPORTED


def in_base(pants: Pants, script: str) -> List[str]:
    """The lines that a script prints on the base's Debian, where the build root's dist/ has its own path."""
    volume = f"{ROOT / 'dist'}:{ROOT / 'dist'}"
    done = pants.run(f"--oci-run-volumes=['{volume}']", "run", "//images:hello", "--", "sh", "-c", script, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout.splitlines()


def test_programs_of_the_base_use_it(pants: Pants, exported: Path) -> None:
    lines = in_base(pants, SCRIPT.replace("{exported}", str(exported)))
    switch = exported / "switch"
    assert lines[0] == f"prefix {switch}"
    assert lines[1] == str(switch / "bin/ocamlfind")
    assert str(switch / "lib") in lines and str(switch / "lib/react") in lines
    assert {"got native", "got bytecode", "got custom", "toplevel"} <= set(lines)


def test_what_is_in_it(exported: Path) -> None:
    """All of it is this user's to read and to remove, and text does not name the sandbox's place."""
    assert sorted(os.listdir(exported)) == ["env.sh", "switch"]
    assert sorted(os.listdir(exported.parent / ".switches/system")) == ["lock", "switch"]
    top = Path(os.path.realpath(exported / "switch"))
    files = [path for path in top.rglob("*") if not path.is_symlink()]
    assert len(files) > 100
    for path in files:
        found = path.lstat()
        assert found.st_uid == os.geteuid() and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)), path
        assert stat.S_IMODE(found.st_mode) in ((0o755,) if path.is_dir() else (0o755, 0o644)), path
    named = {
        path.relative_to(top).as_posix()
        for path in files
        if path.is_file() and b"/home/opam/.opam/default" in path.read_bytes()
    }
    left = set((top / "not-relocated.txt").read_text().splitlines())
    assert named == left
    assert {name for name in left if b"\0" not in (top / name).read_bytes()[:65536]} == {"lib/findlib/Makefile.config"}
    for link in (path for path in top.rglob("*") if path.is_symlink()):
        assert os.path.realpath(link).startswith(f"{top}/"), link


def test_another_export_takes_its_place(pants: Pants, exported: Path) -> None:
    switch = Path(os.path.realpath(exported / "switch"))
    before = switch.stat().st_ino
    (switch / "lib/react/META").unlink()
    pants.run("--no-opam-export-check-host", "export", "--resolve=system")
    assert switch.stat().st_ino != before and (switch / "lib/react/META").exists()


def test_a_machine_that_is_not_like_the_base(pants: Pants, exported: Path) -> None:
    """It is said, and what is there stays. On a machine like the base, it is written."""
    before = os.stat(exported / "switch").st_ino
    done = pants.run("export", "--resolve=system", check=False)
    if done.returncode == 0:
        pytest.skip("this machine is like the base")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said
    assert "opam resolve `system`" in said and "pants opam-exec" in said
    assert os.stat(exported / "switch").st_ino == before
