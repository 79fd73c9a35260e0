"""Runtime images of made-up packages: what their programs look up at run time is there, or is named."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from tests.e2e.conftest import Unpacked, unpack
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout

HEAD = 'opam-version: "2.0"\nmaintainer: "nobody"\nsynopsis: "a part of a test"\n'
SWITCH = "/home/opam/.opam/default"

# Debian's OCaml with the switch as its place: its programs are scripts of ocamlrun.
COMPILER = f"""set -e
lib=$(ocamlc -where)
mkdir -p {SWITCH}/bin {SWITCH}/lib/ocaml
cp "$lib"/*.cmi "$lib"/*.cma "$lib"/*.a {SWITCH}/lib/ocaml
cp -r "$lib"/unix "$lib"/stublibs {SWITCH}/lib/ocaml
echo {SWITCH}/lib/ocaml/stublibs > {SWITCH}/lib/ocaml/ld.conf
cp /usr/bin/ocamlrun {SWITCH}/bin
{{ echo '#!{SWITCH}/bin/ocamlrun'; tail -n +2 /usr/bin/ocaml; }} > {SWITCH}/bin/ocaml
chmod 755 {SWITCH}/bin/ocaml
"""
PLUG = f"""set -e
echo 'let () = print_endline "plugged"' > plug.ml
ocamlopt -shared -o plug.cmxs plug.ml
ocamlc -a -o plug.cma plug.ml
lib={SWITCH}/lib/plug
mkdir -p $lib/data-1 {SWITCH}/bin {SWITCH}/var/spool
cp plug.cmxs plug.cma plug.cmi plug.ml $lib
echo 'version = "1"' > $lib/META
echo words > $lib/data-1/words
echo json > $lib/config.json
printf '#! /bin/sh\\necho "helper: $X, $1"\\n' > {SWITCH}/bin/helper
chmod 755 {SWITCH}/bin/helper
"""
# What is loaded has a computed name in all of these.
NATIVE_ML = """let zones = "/usr/share/zoneinfo"
let () =
  Dynlink.loadfile (Dynlink.adapt_filename (Sys.getenv "OPAM_SWITCH_PREFIX" ^ "/lib/plug/" ^ "plug.cma"));
  if Array.length Sys.argv > 5 then print_endline zones
"""
BYTE_ML = """external stub : unit -> int = "stub"
let () =
  Dynlink.loadfile (Sys.getenv "OPAM_SWITCH_PREFIX" ^ "/lib/plug/plug.cma");
  Printf.printf "stub: %d, unix: %b\\n" (stub ()) (Unix.getpid () > 0)
"""
STUB_C = "#include <caml/mlvalues.h>\nvalue stub(value unit) { return Val_int(42); }\n"
TOP = f"""#!/usr/bin/env -S OCAMLLIB={SWITCH}/lib/ocaml ocaml
#directory "+unix";;
#load "unix.cma";;
let () = Printf.printf "toplevel: %b\\n" (Unix.getpid () > 0)
"""
WORDS = """#! /bin/sh -e
cat "$OPAM_SWITCH_PREFIX/share/tool/current/words" "$OPAM_SWITCH_PREFIX/lib/plug/config.json"
touch "$OPAM_SWITCH_PREFIX/var/spool/job"
"""
TOOL = f"""set -e
ocamlopt -I +dynlink dynlink.cmxa native.ml -o native
ocamlc -c stub.c
ocamlmklib -o stub stub.o
ocamlc -I +dynlink -I +unix -use-runtime {SWITCH}/bin/ocamlrun unix.cma dynlink.cma -dllib -lstub byte.ml -o byte
mkdir -p {SWITCH}/bin {SWITCH}/lib/stublibs {SWITCH}/share/tool
cp dllstub.so {SWITCH}/lib/stublibs
printf '#! \\t/usr/bin/env -S "X=1\\\\_2 3" helper -q\\n' > call
chmod 755 top words call
cp native byte top words call {SWITCH}/bin
ln -s ../../lib/plug/data-1 {SWITCH}/share/tool/current
"""
BROKEN = f"""set -e
mkdir -p {SWITCH}/bin {SWITCH}/share/broken
printf '#!/usr/bin/env -S make -f\\n' > {SWITCH}/bin/make-script
printf '#!/usr/bin/env make -f\\n' > {SWITCH}/bin/one-word
printf '#!/usr/bin/ocaml\\n' > {SWITCH}/bin/system
printf '#!/usr/bin/env -S PATH=/nowhere sh\\n' > {SWITCH}/bin/no-path
printf '#!/not/there\\n' > {SWITCH}/bin/left-out
ln -s /usr/lib/x86_64-linux-gnu/ocaml {SWITCH}/share/broken/ocaml
chmod 755 {SWITCH}/bin/*
"""
# As the public repository's package `ocaml`: programs of bytecode find their primitives by it.
STUBLIBS = """setenv: [
  [CAML_LD_LIBRARY_PATH = "%{lib}%/ocaml/stublibs"]
  [CAML_LD_LIBRARY_PATH += "%{lib}%/stublibs"]
]
"""
# name -> what its opam file says, files, the script that installs it
PACKAGES: Dict[str, Tuple[str, Dict[str, str], str]] = {
    "compiler": (STUBLIBS, {}, COMPILER),
    "conf-zones": ('flags: conf\ndepexts: [["tzdata"]]\n', {}, ""),
    "plug": ('depends: ["compiler"]\n', {}, PLUG),
    "tool": (
        'depends: ["plug" "conf-zones"]\n',
        {"native.ml": NATIVE_ML, "byte.ml": BYTE_ML, "stub.c": STUB_C, "top": TOP, "words": WORDS},
        TOOL,
    ),
    "broken": ("", {}, BROKEN),
}
BUILD = """opam_packages(name="r", resolve="runtime")
opam_requirement(name="q", resolve="runtime", requirements=["tool", "broken"])
oci_package_image(name="tool", packages=[":r#tool"], runtime=True, runtime_base="//3rdparty/debian:trixie-slim")
oci_package_image(
    name="broken", packages=[":r#broken"], runtime=True, runtime_base="//3rdparty/debian:trixie-slim",
    runtime_keep=["!/home/opam/.opam/default/bin/left-out"],
)
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Pants]:
    top = Path(tempfile.mkdtemp(prefix="runtime-", dir="/var/tmp"))
    root = make_clone(top / "main")
    for name, (more, files, script) in PACKAGES.items():
        directory = root / f"runtime/repo/packages/{name}/{name}.1"
        (directory / "files").mkdir(parents=True)
        if script:
            files = {**files, "make.sh": script}
            more += 'install: ["sh" "make.sh"]\n'
        for file, text in files.items():
            (directory / "files" / file).write_text(text)
        sums = [f'["{file}" "sha256={hashlib.sha256(text.encode()).hexdigest()}"]' for file, text in files.items()]
        (directory / "opam").write_text(HEAD + more + (f"extra-files: [{' '.join(sums)}]\n" if sums else ""))
    (root / "runtime/repo/repo").write_text('opam-version: "2.0"\n')
    (root / "runtime/BUILD").write_text(BUILD)
    options = [
        "--no-pantsd",
        "--opam-resolves=+{'runtime': 'runtime/runtime.lock'}",
        "--opam-resolves-to-base=+{'runtime': '//3rdparty/debian:trixie-ocaml'}",
        "--opam-repositories={'own': 'runtime/repo'}",
    ]
    pants = Pants(root, options=options)
    pants.run("generate-lockfiles", "--resolve=runtime")
    yield pants
    shutil.rmtree(top)


def lines(image: Unpacked, *command: str) -> List[str]:
    return image.run(*command).stdout.splitlines()


def test_what_programs_look_up(project: Pants, tmp_path: Path) -> None:
    done = project.run("package", "runtime:tool")
    image = unpack(Layout(project.root / "dist/runtime/tool"), tmp_path / "bundle")
    assert lines(image, "native") == ["plugged"]
    assert lines(image, "byte") == ["plugged", "stub: 42, unix: true"]
    assert lines(image, "top") == ["toplevel: true"]
    assert lines(image, "call") == ["helper: 1 2 3, -q"]
    assert lines(image, "words") == ["words", "json"]
    assert not list((image.rootfs / SWITCH[1:]).rglob("*.a"))
    # What cannot be seen is named.
    assert "tool/native" not in done.stderr and "/bin/native may look up /usr/share/zoneinfo" in done.stderr
    assert "add it to the slim base's `packages`: tzdata\n" in done.stderr
    assert f"what these need: {SWITCH}/bin/call, " in done.stderr
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_what_cannot_be_had(project: Pants) -> None:
    done = project.run("package", "runtime:broken", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert not (project.root / "dist/runtime/broken").exists()
    place = f"/{SWITCH[1:]}/bin"
    for text in (
        f"{place}/make-script is run by make (through /usr/bin/env), which is not in the slim base: add the Debian package make",
        f"{place}/one-word is run by /usr/bin/env, whose argument `make -f` is one name for env",
        f"{place}/system is run by /usr/bin/ocaml, which is not in the slim base: add the Debian package ocaml",
        f"{place}/no-path is run by sh (through /usr/bin/env), which is in neither image's /nowhere",
        f"{SWITCH}/share/broken/ocaml is a link to the directory /usr/lib/x86_64-linux-gnu/ocaml, which is not in the slim",
    ):
        assert text in " ".join(done.stderr.split())
    assert "left-out" not in done.stderr
