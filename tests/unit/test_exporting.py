"""The part `exporting`: files of a switch said of another place, the environment, what is asked of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, Tuple

import pytest

from opam_sandbox.elf import Elf
from opam_sandbox.errors import ToolError
from opam_sandbox.exporting import environment, host
from opam_sandbox.exporting.relocate import check_prefix, relocate
from opam_sandbox.exporting.tree import Programs

OLD = "/home/opam/.opam/default"
NEW = "/srv/mono/dist/export/opam/default/switch"


# -- what files say --------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'path="OLD/lib"\n', b'path="NEW/lib"\n'),
        (b"OLD/lib/ocaml/stublibs\nOLD/lib/ocaml", b"NEW/lib/ocaml/stublibs\nNEW/lib/ocaml"),
        (b"-LOLD/lib -IOLD/lib/ocaml PREFIX=OLD", b"-LNEW/lib -INEW/lib/ocaml PREFIX=NEW"),
        (b"file://OLD/doc a:OLD/bin:OLD", b"file://NEW/doc a:NEW/bin:NEW"),
        (b'#!OLD/bin/ocaml -w\nlet x = "OLD"\n', b'#!NEW/bin/ocaml -w\nlet x = "NEW"\n'),
        ("d\xe9j\xe0 OLD/\n".encode("latin-1"), "d\xe9j\xe0 NEW/\n".encode("latin-1")),
        # Another directory, and one below another root.
        (b"OLD-2/lib OLD.x OLDer $PREFIXOLD/lib /destOLD/lib", b"OLD-2/lib OLD.x OLDer $PREFIXOLD/lib /destOLD/lib"),
        # OCaml's bytecode: the first line alone.
        (b"#!OLD/bin/ocamlrun\n\0\1OLD\0Caml1999X035", b"#!NEW/bin/ocamlrun\n\0\1OLD\0Caml1999X035"),
        (b"\x7fELF\2OLD/lib\0", b"\x7fELF\2OLD/lib\0"),
        (b"Caml1999A035OLD/lib", b"Caml1999A035OLD/lib"),
        (b"!<arch>\nOLD/lib", b"!<arch>\nOLD/lib"),
    ],
)
def test_what_a_file_says_in_another_place(content: bytes, expected: bytes) -> None:
    def said(text: bytes) -> bytes:
        return text.replace(b"OLD", OLD.encode()).replace(b"NEW", NEW.encode())

    found = relocate("x", said(content), NEW)
    assert found.content == said(expected)
    assert found.left == (OLD.encode() in said(expected))


def test_the_header_of_bytecode_programs() -> None:
    """As OCaml 5.2 and newer read it: a line, a directory up to a zero byte, a line end, a program of that length."""
    content = f"sh\n{OLD}/bin\0\n".encode() + b"\x7fELF\0" + OLD.encode()
    found = relocate("lib/ocaml/runtime-launch-info", content, NEW)
    assert found.content == f"sh\n{NEW}/bin\0\n".encode() + b"\x7fELF\0" + OLD.encode()
    assert relocate("lib/x", content, NEW).content == content


def test_a_first_line_that_linux_would_cut() -> None:
    content = f"#!{OLD}/bin/ocaml\n".encode()
    relocate("bin/x", content, "/" + "a" * 200)
    with pytest.raises(ToolError, match=r"bin/x is a script whose first line would be too long, 26[0-9] bytes"):
        relocate("bin/x", content, "/" + "a" * 250)
    # One that was too long before is not this switch's doing.
    long = b"#!/bin/sh " + b"a" * 300 + b"\n" + OLD.encode()
    assert relocate("bin/x", long, "/n").content == long.replace(OLD.encode(), b"/n")


@pytest.mark.parametrize(
    "prefix", ["/a b", "/a'b", '/a"', "/a:b", "/a$b", "/a\\b", "/\u00fc", "/a\nb", "relative", "/a//b"]
)
def test_places_that_programs_stumble_over(prefix: str) -> None:
    check_prefix(NEW)
    check_prefix("/home/me/work+1/a,b=c@d~e")
    with pytest.raises(ToolError, match="would be of no use"):
        check_prefix(prefix)


# -- the environment ---------------------------------------------------------

OPAM_ENV = [
    "HOME=/home/opam",
    "LANG=C.UTF-8",
    "OPAM_LAST_ENV=/home/opam/.opam/.last-env/env-0",
    f"OPAM_SWITCH_PREFIX={OLD}",
    f"CAML_LD_LIBRARY_PATH={OLD}/lib/stublibs:/usr/lib/ocaml/stublibs",
    f"OCAML_TOPLEVEL_PATH={OLD}/lib/toplevel",
    f"MANPATH=:{OLD}/man",
    f"PATH={OLD}/bin:/usr/bin:/bin",
    "COLOUR=it's",
]


def in_shell(text: str, shell: str = "/bin/sh", **env: str) -> Dict[str, str]:
    """The variables after a shell has read it twice."""
    script = f"set -eu\n{text}{text}exec {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run([shell, "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    found: Dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_shell_that_has_read_the_file(shell: str) -> None:
    parts = environment.parts_of(OPAM_ENV, NEW, own_compiler=True, findlib=True)
    text = environment.shell_text("default", parts)
    found = in_shell(text, shell, PATH="/bin:/usr/bin", HOME="/home/me", CAML_LD_LIBRARY_PATH="/mine")
    assert found["PATH"] == f"{NEW}/bin:/bin:/usr/bin"
    assert found["CAML_LD_LIBRARY_PATH"] == f"{NEW}/lib/stublibs:/mine"
    assert found["MANPATH"] == f"{NEW}/man:"
    assert found["OCAML_TOPLEVEL_PATH"] == f"{NEW}/lib/toplevel"
    assert (found["OPAM_SWITCH_PREFIX"], found["OCAMLLIB"]) == (NEW, f"{NEW}/lib/ocaml")
    assert found["OCAMLFIND_CONF"] == f"{NEW}/lib/findlib.conf"
    assert found["OCAMLFIND_LDCONF"] == f"{NEW}/lib/ocaml/ld.conf"
    assert found["OCAMLPATH"] == f"{NEW}/lib"
    assert (found["HOME"], found["COLOUR"]) == ("/home/me", "it's")
    assert not {"OPAM_LAST_ENV", "LANG"} & set(found)
    assert in_shell(text, shell, PATH="/bin", MANPATH="/m")["MANPATH"] == f"{NEW}/man:/m"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_shell_that_used_another_switch(shell: str) -> None:
    """Its programs, libraries and compiler would not fit this one's."""
    other = environment.parts_of(OPAM_ENV, "/other/switch", own_compiler=True, findlib=True)
    mine = environment.parts_of(OPAM_ENV, NEW, own_compiler=False, findlib=False)
    text = environment.shell_text("other", other) + environment.shell_text("default", mine)
    found = in_shell(text, shell, PATH="/bin", OCAMLPATH="/mine")
    assert (found["PATH"], found["MANPATH"], found["OCAMLPATH"]) == (
        f"{NEW}/bin:/bin",
        f"{NEW}/man:",
        f"{NEW}/lib:/mine",
    )
    assert found["OPAM_SWITCH_PREFIX"] == NEW
    assert not {"OCAMLLIB", "OCAMLFIND_CONF", "OCAMLFIND_LDCONF"} & set(found)
    # As of opam itself.
    opam = {"OPAM_SWITCH_PREFIX": "/home/me/.opam/5", "PATH": "/home/me/.opam/5/bin:/home/me/.opam/55/bin:/bin"}
    found = in_shell(environment.shell_text("default", mine), shell, **opam)
    assert found["PATH"] == f"{NEW}/bin:/home/me/.opam/55/bin:/bin"


def test_without_a_compiler_of_its_own() -> None:
    found = environment.parts_of(OPAM_ENV, NEW, own_compiler=False, findlib=False)
    assert not {"OCAMLLIB", "OCAMLFIND_CONF", "OCAMLFIND_LDCONF"} & set(found)


def test_a_variable_that_would_be_a_command() -> None:
    with pytest.raises(ToolError, match="which no shell takes"):
        environment.parts_of(["A;reboot=1"], NEW, own_compiler=False, findlib=False)


# -- this machine --------------------------------------------------------------


def elf(*needed: str, paths: Tuple[str, ...] = ()) -> Elf:
    return Elf(needed, paths, "")


def test_libraries_that_are_missing() -> None:
    programs = Programs(
        {
            "bin/a": elf("libc.so.6", "libcurl.so.4"),
            "lib/stublibs/dlla.so": elf("libcurl.so.4", "libown.so", paths=("$ORIGIN/../own",)),
            "lib/stublibs/dllb.so": elf("libnobody.so.1"),
        },
        {"usr/lib/x86_64-linux-gnu/libcurl.so.4": "conf-libcurl.2"},
    )
    found = host.missing_libraries(
        programs, {"lib/own/libown.so"}.__contains__, {"libc.so.6"}, {"conf-libcurl.2": ["libcurl4-gnutls-dev"]}
    )
    assert found == [
        "libcurl.so.4, which bin/a and 1 more needs; it is among the depexts of conf-libcurl.2: libcurl4-gnutls-dev",
        "libnobody.so.1, which lib/stublibs/dllb.so needs",
    ]
    assert {"libc.so.6", "libm.so.6"} <= host.known_libraries()


def test_depexts_for_development_that_are_missing(tmp_path: Path) -> None:
    others = {
        "usr/include/curl/curl.h": "conf-libcurl.2",
        "usr/lib/x86_64-linux-gnu/pkgconfig/zlib.pc": "conf-zlib.1",
        "usr/share/doc/x": "conf-doc.1",
        "usr/include/own.h": "no-depexts.1",
    }
    depexts = {"conf-libcurl.2": ["libcurl4-gnutls-dev"], "conf-zlib.1": ["zlib1g-dev"], "conf-doc.1": ["doc"]}
    programs = Programs({}, others)
    assert host.missing_development(programs, depexts, str(tmp_path)) == [
        "libcurl4-gnutls-dev, for conf-libcurl.2 (there is no /usr/include/curl/curl.h)",
        "zlib1g-dev, for conf-zlib.1 (there is no /usr/lib/x86_64-linux-gnu/pkgconfig/zlib.pc)",
    ]
    (tmp_path / "usr/include/curl").mkdir(parents=True)
    (tmp_path / "usr/include/curl/curl.h").touch()
    assert len(host.missing_development(programs, depexts, str(tmp_path))) == 1


def test_the_compiler_of_the_machine(tmp_path: Path) -> None:
    ocamlc = tmp_path / "ocamlc"
    ocamlc.write_text("#!/bin/sh\necho 5.3.0\n")
    ocamlc.chmod(0o755)
    assert host.compiler_problem("5.3.0", str(tmp_path)) == ""
    assert f"{ocamlc} is 5.3.0" in host.compiler_problem("5.4.0", str(tmp_path))
    assert "no ocamlc in /nowhere" in host.compiler_problem("5.3.0", "/nowhere")
    ocamlc.write_text("#!/bin/sh\nexit 1\n")
    assert not host.has_c_compiler(str(tmp_path))
    (tmp_path / "gcc").symlink_to("/bin/true")
    assert host.has_c_compiler(str(tmp_path))
    assert "not one that runs" in host.compiler_problem("5.3.0", str(tmp_path))
