"""The part `exporting`: files of a switch said of another place, layers put together, a switch that is whole or as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.exporting import cli, environment, host, swap
from opam_sandbox.exporting.relocate import check_prefix, relocate
from opam_sandbox.exporting.tree import Programs
from opam_sandbox.imaging.elf import Elf

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


def test_without_a_compiler_of_its_own() -> None:
    found = environment.parts_of(OPAM_ENV, NEW, own_compiler=False, findlib=False)
    assert not {"OCAMLLIB", "OCAMLFIND_CONF", "OCAMLFIND_LDCONF"} & set(found)


def test_a_variable_that_would_be_a_command() -> None:
    with pytest.raises(ToolError, match="which no shell takes"):
        environment.parts_of(["A;reboot=1"], NEW, own_compiler=False, findlib=False)


# -- layers ------------------------------------------------------------------

# (name, content or target, kind, mode)
Entry = Tuple[str, Any, bytes, int]


def file(name: str, content: "bytes | str", mode: int = 0o644) -> Entry:
    return (
        f"home/opam/.opam/default/{name}",
        content.encode() if isinstance(content, str) else content,
        tarfile.REGTYPE,
        mode,
    )


def link(name: str, target: str) -> Entry:
    return f"home/opam/.opam/default/{name}", target, tarfile.SYMTYPE, 0o777


def hard(name: str, first: str) -> Entry:
    return f"home/opam/.opam/default/{name}", f"home/opam/.opam/default/{first}", tarfile.LNKTYPE, 0o644


def write_layer(directory: Path, package: str, entries: Sequence[Entry]) -> None:
    """A layer directory of a package."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, kind, mode in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, mode, 315532800
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            elif kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = content
            elif kind == tarfile.CHRTYPE:
                member.devmajor, member.devminor = 1, 3
            archive.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    blob = gzip.compress(out.getvalue(), 1, mtime=0)
    digest = hashlib.sha256(blob).hexdigest()
    (directory / "blobs/sha256").mkdir(parents=True)
    (directory / "blobs/sha256" / digest).write_bytes(blob)
    name, _, version = package.partition(".")
    fields = {
        "kind": "package",
        "name": name,
        "version": version,
        "diff_id": f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}",
        "digest": f"sha256:{digest}",
        "size": len(blob),
        "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
        "files": len(entries),
        "opam": {"package": package},
        "dpkg": {},
    }
    (directory / "layer.json").write_text(json.dumps(fields))


class Export:
    """The command as Pants runs it: below dist/export/opam/NAME, with its links there."""

    def __init__(self, top: Path) -> None:
        self.own = top / "dist/export/opam/default"
        self.prefix = self.own / "switch"
        self.tree = top / "dist/export/opam/.switches/default/switch"

    def run(self, *layers: Sequence[Entry], damaged: Optional[int] = None, **request: Any) -> int:
        """`damaged`: the number of a layer whose blob is another one."""
        made_by = self.own / ".export"
        made_by.mkdir(parents=True)
        for name, target in (("switch", "../.switches/default/switch"), ("env.sh", "switch/env.sh")):
            if not (self.own / name).is_symlink():
                (self.own / name).symlink_to(target)
        for number, entries in enumerate(layers):
            write_layer(made_by / f"in/{number}", f"p{number}.1", entries)
        if damaged is not None:
            [blob] = (made_by / f"in/{damaged}/blobs/sha256").iterdir()
            blob.write_bytes(gzip.compress(b"\0" * 10240, mtime=0))
        values = {
            "layers": [f"in/{number}" for number in range(len(layers))],
            "resolve": "default",
            "prefix": str(self.prefix),
            "tree": str(self.tree),
            "made_by": str(made_by),
            "variables": OPAM_ENV,
            "depexts": {},
            "compiler": "",
            "check_host": False,
            **request,
        }
        (made_by / "request.json").write_text(json.dumps(values))
        here = os.getcwd()
        os.chdir(made_by)
        try:
            return cli.main(["export", "request.json"])
        finally:
            os.chdir(here)

    def files(self) -> List[str]:
        return sorted(
            path.relative_to(self.tree).as_posix()
            for path in self.tree.rglob("*")
            if path.is_symlink() or not path.is_dir()
        )


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_layers_over_one_another(export: Export) -> None:
    first = [
        file("lib/findlib.conf", f'path="{OLD}/lib"'),
        file("lib/old/META", "old"),
        file("lib/kept/META", "kept"),
        file("bin/a", f"#!{OLD}/bin/ocamlrun\n", 0o4755),
        hard("bin/b", "bin/a"),
        file(".opam-switch/switch-state", "opam's own"),
        ("etc/passwd", b"x", tarfile.REGTYPE, 0o644),
    ]
    second = [
        file("lib/old/.wh.META", ""),
        file("lib/kept/.wh..wh..opq", ""),
        file("lib/kept/new", "new", 0o600),
        file("bin/a", "second", 0o755),
        link("bin/c", f"{OLD}/bin/a"),
        link("lib/d", "../bin"),
    ]
    assert export.run(first, second) == 0
    assert export.files() == [
        "bin/a",
        "bin/b",
        "bin/c",
        "env.sh",
        "lib/d",
        "lib/findlib.conf",
        "lib/kept/new",
        "not-relocated.txt",
    ]
    assert (export.prefix / "lib/findlib.conf").read_text() == f'path="{export.prefix}/lib"'
    assert (export.tree / "bin/a").read_text() == "second"
    assert (export.tree / "bin/b").read_text() == f"#!{export.prefix}/bin/ocamlrun\n"
    assert os.readlink(export.tree / "bin/c") == "a" and os.readlink(export.tree / "lib/d") == "../bin"
    assert stat.S_IMODE((export.tree / "bin/b").stat().st_mode) == 0o755  # not set-id
    assert stat.S_IMODE((export.tree / "lib/kept/new").stat().st_mode) == 0o644
    assert (export.tree / "bin/a").stat().st_mtime == 315532800
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]
    assert f"export OPAM_SWITCH_PREFIX='{export.prefix}'" in (export.own / "env.sh").read_text()


def test_what_is_left_is_named(export: Export) -> None:
    assert export.run([file("lib/x.cma", f"Caml1999A035{OLD}"), file("lib/y", OLD)]) == 0
    assert (export.tree / "not-relocated.txt").read_text() == "lib/x.cma\n"


def test_what_is_no_file_of_a_switch_is_left_out(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    layer = [
        link("out", "/etc/passwd"),
        link("up", "../../../../etc/passwd"),
        link("lib/a/up", "../../../x"),
        link("through", "dir/../../x"),
        link("dir", "lib/a"),
        file("lib/a/x", "x"),
        link("dangling", "nothing"),
        ("home/opam/.opam/default/null", b"", tarfile.CHRTYPE, 0o666),
        ("home/opam/.opam/default/pipe", b"", tarfile.FIFOTYPE, 0o666),
    ]
    assert export.run(layer) == 0
    assert export.files() == ["dangling", "dir", "env.sh", "lib/a/x", "not-relocated.txt", "through"]
    said = capsys.readouterr().err
    for name in ("out", "up", "lib/a/up"):
        assert f"note: left out: the link {name}, which leads out of the switch" in said
    assert "note: left out: null, which is a device or a pipe" in said and "pipe, which" in said


@pytest.mark.parametrize(
    "entries",
    [
        [("home/opam/.opam/.wh.default", b"", tarfile.REGTYPE, 0o644)],
        [("home/opam/.opam", "/tmp", tarfile.SYMTYPE, 0o777)],
        [hard("lib/x", "nothing")],
        [link("way", "lib"), file("way/y", "y")],
    ],
)
def test_layers_that_no_switch_is_made_of(export: Export, entries: List[Entry]) -> None:
    """What was exported before stays, and nothing of the attempt does."""
    assert export.run([file("lib/x", "before")]) == 0
    before = export.tree.stat().st_ino
    assert export.run(entries) == 1
    assert export.tree.stat().st_ino == before and (export.prefix / "lib/x").read_text() == "before"
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]


def test_a_directory_in_the_place_of_a_link_out(export: Export, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert export.run([link("lib", str(outside)), file("lib/x", "x")]) == 0
    assert (export.tree / "lib/x").read_text() == "x" and not (export.tree / "lib").is_symlink()
    assert os.listdir(outside) == []


def test_nothing_is_written_through_a_link(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.run([file("lib/a/x", "x"), link("way", "lib/a")], [file("way/y", "y")]) == 1
    assert "/way is a symlink" in capsys.readouterr().err
    assert not export.own.exists()  # the first export: no links that lead nowhere


def test_a_damaged_layer_leaves_the_old_switch(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.run([file("lib/x", "before")]) == 0
    assert export.run([file("lib/x", "after")], [file("lib/y", "y")], damaged=1) == 1
    assert "p1.1 is damaged" in capsys.readouterr().err
    assert (export.prefix / "lib/x").read_text() == "before"
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]


def test_the_place_of_a_switch_that_is_there(export: Export) -> None:
    """What a killed export left goes; the switch is another one, and nothing of the old one is left in it."""
    assert export.run([file("lib/x", "1"), file("lib/gone", "1")]) == 0
    (export.tree.parent / "new-00000000/lib").mkdir(parents=True)
    (export.tree / "mine").mkdir(mode=0o500)
    assert export.run([file("lib/x", "2")]) == 0
    assert export.files() == ["env.sh", "lib/x", "not-relocated.txt"]
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]


@pytest.mark.parametrize("exchanged", [True, False])
def test_swap(tmp_path: Path, exchanged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanged:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    swap.put(tmp_path / "new", tmp_path / "place")
    assert (tmp_path / "place/is").read_text() == "new" and os.listdir(tmp_path) == ["place"]
    (tmp_path / "new").mkdir()
    swap.put(tmp_path / "new", tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["other", "place"]


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
    assert "not one that runs" in host.compiler_problem("5.3.0", str(tmp_path))


def test_a_machine_that_lacks_something(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    """A real program is looked at, and not run."""
    real = Path("/bin/ls").read_bytes()
    assert export.run([file("bin/ls", real, 0o755)], check_host=True) == 0
    assert real.count(b"libc.so.6\0")
    broken = real.replace(b"libc.so.6\0", b"libq.so.6\0")
    assert export.run([file("bin/ls", broken, 0o755)], check_host=True, compiler="1.0") == 1
    said = capsys.readouterr().err
    assert "  * libq.so.6, which bin/ls needs" in said and "the OCaml 1.0" in said and "pants opam-exec" in said
    assert (export.tree / "bin/ls").read_bytes() == real
    assert export.run([file("bin/ls", broken, 0o755)], check_host=False) == 0
