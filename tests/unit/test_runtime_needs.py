"""Runtime images: interpreters, links, bytecode, plugins and data of made-up packages are kept, or named."""

from __future__ import annotations

import os
import shutil
import struct
from io import BytesIO
from pathlib import Path
from typing import Dict, Sequence, Tuple

import pytest

from opam_sandbox.imaging.bytecode import Bytecode, read_bytecode
from opam_sandbox.imaging.debian_files import Owners
from opam_sandbox.imaging.search import Search
from opam_sandbox.imaging.selection import SWITCH, Selection, wanted
from opam_sandbox.imaging.unseen import left_out_debs
from tests.unit.conftest import make_layer, make_tar
from tests.unit.test_runtime import image as image
from tests.unit.test_runtime import names, run

Trees = Dict[str, Path]


def add(tree: Path, name: str, content: "str | bytes", mode: int = 0o644) -> Path:
    """A file of a tree, with its directories; names without a first "/" are below the switch."""
    path = tree / name[1:] if name.startswith("/") else tree / SWITCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def script(tree: Path, name: str, line: str) -> None:
    add(tree, name, f"#!{line}\n", 0o755)


def link(tree: Path, name: str, target: str) -> None:
    path = tree / name[1:] if name.startswith("/") else tree / SWITCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def env(image: Trees) -> None:
    for name in ("base", "slim"):
        shutil.copy(shutil.which("env") or "/usr/bin/env", image[name] / "bin/env")


def owned(image: Trees, package: str, *paths: str) -> None:
    add(image["base"], f"/var/lib/dpkg/info/{package}.list", "".join(f"{path}\n" for path in ("/.", *paths)))


# -- scripts


def test_interpreters_behind_env(image: Trees) -> None:
    env(image)
    (image["dep"] / SWITCH / "bin/tool").chmod(0o755)
    script(image["root"], "bin/a", "/usr/bin/env -S X=1 tool -x")
    script(image["root"], "bin/b", f"/usr/bin/env -S PATH=/{SWITCH}/lib/dep:/bin own")
    script(image["root"], "share/c", " /bin/env sh")
    add(image["dep"], "lib/dep/own", "", 0o644)  # no program
    script(image["dep"], "bin/own", "/bin/sh")
    script(image["root"], "bin/d", "/usr/bin/env own")
    shutil.copy(image["base"] / "bin/sh", image["base"] / "bin/own")
    shutil.copy(image["base"] / "bin/sh", image["slim"] / "bin/own")
    status, layer = run(image)
    assert status == 0
    assert {"bin/tool", "bin/own", "bin/a"} <= set(names(layer))


NOT_THERE = {
    "/usr/bin/env nowhere": "by nowhere (through /usr/bin/env), which is in neither image's",
    "/usr/bin/env -S deb -x": "by deb (through /usr/bin/env), which is not in the slim base: add the Debian package d ",
    "/usr/bin/env -S PATH=/x sh": "by sh (through /usr/bin/env), which is in neither image's /x",
    "/usr/bin/env sh -e": "by /usr/bin/env, whose argument `sh -e` is one name for env, which takes it apart only after -S",
    "/usr/bin/env -S /usr/lib/deb": "by /usr/lib/deb (through /usr/bin/env), which is not in the slim base: add",
    "/usr/bin/link": "by /usr/bin/link, which is not in the slim base: add the Debian package links ",
    "/bin/sh\r": "by /bin/sh\r, which is in neither image",
    "/not/there": "by /not/there, which is in neither image",
}


def test_interpreters_that_are_not_there(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    """A Debian package's, of a depext's layer, is not taken alone: it reads files that nothing names."""
    env(image)
    for name in ("/bin/deb", "/usr/lib/deb"):
        add(image["dep"], name, "#!/bin/sh\n", 0o755)
    link(image["dep"], "/bin/link", "deb")
    owned(image, "d", "/bin/deb", "/usr/lib/deb")
    owned(image, "links", "/bin/link")
    for number, line in enumerate(NOT_THERE):
        script(image["root"], f"bin/s{number}", line)
    status, _ = run(image)
    message = capfd.readouterr().err
    assert status == 1 and "Traceback" not in message
    for number, text in enumerate(NOT_THERE.values()):
        assert f"/{SWITCH}/bin/s{number} is run {text}" in message


def test_what_is_left_out_needs_nothing(image: Trees) -> None:
    script(image["root"], "share/example", "/not/there")
    script(image["root"], "bin/a", "/not/there")
    status, layer = run(image, keep=[f"!/{SWITCH}/share/exam*", f"!/{SWITCH}/bin/a"])
    assert status == 0 and not {"share/example", "bin/a"} & set(names(layer))


def test_an_interpreter_comes_with_its_package(image: Trees) -> None:
    """Also where the script's package depends on it only for builds."""
    script(image["dep"], "bin/own", "/bin/sh")
    add(image["dep"], "lib/dep/prelude", "x")
    packages = [
        {"name": "dep", "opam": "", "depends": [], "root": False},
        {"name": "root", "opam": 'depends: ["dep" {build}]', "depends": ["dep"], "root": True},
    ]
    status, layer = run(image, packages=packages)
    assert status == 0 and names(layer) == ["bin/again", "bin/script"]
    shutil.rmtree("in")
    script(image["root"], "bin/a", f"/{SWITCH}/bin/own")
    status, layer = run(image, packages=packages)
    assert status == 0 and {"bin/own", "lib/dep/prelude", "share/dep/data"} <= set(names(layer))


def test_the_toplevel_gets_what_scripts_load(image: Trees) -> None:
    env(image)
    script(image["root"], "bin/a", "/usr/bin/env ocaml")
    script(image["dep"], "bin/ocaml", "/bin/sh")
    kept = ("lib/ocaml/stdlib.cma", "lib/ocaml/stdlib.cmi", "lib/dep/META", "lib/dep/dep.cmi", "lib/toplevel/topfind")
    for name in (*kept, "lib/ocaml/libasmrun.a", "lib/dep/dep.cmx", "lib/findlib.conf"):
        add(image["dep"], name, "x")
    status, layer = run(image)
    assert status == 0 and {*kept, "lib/dep/dep.cma", "lib/findlib.conf"} <= set(names(layer))
    assert not {"lib/ocaml/libasmrun.a", "lib/dep/dep.cmx"} & set(names(layer))


# -- the image's environment


def test_programs_are_found_by_the_images_path(image: Trees) -> None:
    """A directory of a package's comes first: what lies there is run, and not the slim base's program of that name."""
    env(image)
    for name in ("/home/opam/tools/own", f"/{SWITCH}/include/own"):
        script(image["dep"], name, "/bin/sh")
    shutil.copy(image["slim"] / "bin/sh", image["slim"] / "bin/own")
    shutil.copy(image["base"] / "bin/sh", image["base"] / "bin/own")
    script(image["root"], "bin/a", "/usr/bin/env own")
    script(image["root"], "bin/b", "/usr/bin/env -S ${TOOLS}/other")
    script(image["dep"], "/home/opam/tools/other", "/bin/sh")
    status, layer = run(image, {"PATH": "/home/opam/tools:/usr/bin:/bin", "TOOLS": "/home/opam/tools"})
    assert status == 0 and (layer / "home/opam/tools/own").exists() and (layer / "home/opam/tools/other").exists()
    assert "include/own" not in names(layer)
    shutil.rmtree("in")
    (image["root"] / SWITCH / "bin/b").unlink()
    status, layer = run(image, {"PATH": f"relative:/{SWITCH}/include:/home/opam/tools:/usr/bin:/bin"})
    assert status == 0 and "include/own" in names(layer) and not (layer / "home/opam/tools").exists()
    shutil.rmtree("in")
    status, layer = run(image)
    assert status == 0 and "include/own" not in names(layer) and not (layer / "home/opam/tools").exists()


def test_a_path_without_the_program(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    """What the image's own PATH does not have is not run, though the usual one has it."""
    env(image)
    (image["dep"] / SWITCH / "bin/tool").chmod(0o755)
    script(image["root"], "bin/a", "/usr/bin/env tool")
    status, _ = run(image, {"PATH": "/usr/bin:/bin"})
    assert (
        status == 1
        and "by tool (through /usr/bin/env), which is in neither image's /usr/bin:/bin" in capfd.readouterr().err
    )


def test_primitives_are_found_by_the_images_environment(image: Trees) -> None:
    """The first directory that has them: the environment's, the program's, then those of the standard library's ld.conf."""
    head = f"#!/{SWITCH}/bin/ocamlrun\n".encode()
    script(image["dep"], "bin/ocamlrun", "/bin/sh")
    program = bytecode([(b"DLLS", b"dllx\0dlly\0"), (b"DLPT", f"/{SWITCH}/own".encode())], head)
    add(image["root"], "bin/byte", program, 0o755)
    # Places whose files are kept only where something needs them.
    for name in ("lib/ocaml/a/dllx.so", "lib/ocaml/b/dlly.so", "bin/dllx.so", "lib/ocaml/c/dlly.so"):
        add(image["dep"], name, "x")
    add(image["dep"], "lib/ocaml/ld.conf", f"/{SWITCH}/bin\nc\n")
    add(image["dep"], "lib/ocaml/std/ld.conf", "../b\n")
    status, layer = run(image)
    assert status == 0 and {"bin/dllx.so", "lib/ocaml/c/dlly.so"} <= set(names(layer))
    shutil.rmtree("in")
    here = {"CAML_LD_LIBRARY_PATH": f"/nowhere:/{SWITCH}/lib/ocaml/a", "OCAMLLIB": f"/{SWITCH}/lib/ocaml/std"}
    status, layer = run(image, here)
    assert status == 0 and {"lib/ocaml/a/dllx.so", "lib/ocaml/b/dlly.so", "lib/ocaml/std/ld.conf"} <= set(names(layer))
    assert not {"bin/dllx.so", "lib/ocaml/c/dlly.so"} & set(names(layer))


def test_libraries_are_found_by_the_images_environment(image: Trees) -> None:
    """LD_LIBRARY_PATH comes before what the linker's configuration says, and so before the slim base's own library."""
    shutil.copy(os.path.realpath(shutil.which("sh") or "/bin/sh"), image["root"] / SWITCH / "bin/program")
    add(image["dep"], "bin/libc.so.6", next(path for path in image["base"].rglob("libc.so.6")).read_bytes())
    add(image["dep"], "bin/libnoise.so", "x")
    status, layer = run(image)
    assert status == 0 and "bin/libc.so.6" not in names(layer)
    shutil.rmtree("in")
    preload = f"libmissing.so:/{SWITCH}/bin/libnoise.so"
    status, layer = run(image, {"LD_LIBRARY_PATH": f"/{SWITCH}/bin", "LD_PRELOAD": preload})
    assert status == 0 and {"bin/libc.so.6", "bin/libnoise.so"} <= set(names(layer))


def test_ocaml_libraries_are_found_by_the_images_environment(image: Trees) -> None:
    program = (image["base"] / "bin/sh").read_bytes()
    add(image["root"], "bin/program", program + b"..." + b"Dynlink.Error", 0o755)
    for name in ("include/dep/META", "include/dep/dep.cmxs", "include/dep.conf"):
        add(image["dep"], name, "x")
    status, layer = run(image)
    assert status == 0 and not [name for name in names(layer) if name.startswith("include/")]
    shutil.rmtree("in")
    status, layer = run(
        image, {"OCAMLPATH": f"/nowhere:/{SWITCH}/include", "OCAMLFIND_CONF": f"/{SWITCH}/include/dep.conf"}
    )
    assert status == 0
    assert {"include/dep/META", "include/dep/dep.cmxs", "include/dep.conf"} <= set(names(layer))


# -- links


def test_links_to_directories(image: Trees) -> None:
    """The files come along, and all links on the way, wherever they lie."""
    add(image["dep"], "lib/dep/v1/data.ml", "data")
    add(image["dep"], "lib/dep/v1/below/more", "more")
    link(image["dep"], "lib/dep/current.ml", "v1")  # a name that is not kept by its place
    link(image["root"], "share/root/data", "../../lib/dep/current.ml")
    link(image["root"], "share/root/file", "../../lib/dep/current.ml/data.ml")
    link(image["root"], "share/root/self", ".")
    link(image["root"], "share/root/up", "../..")
    link(image["root"], "share/root/all", "/")
    link(image["root"], "share/root/loop", "loop")
    link(image["root"], "share/root/nowhere", "/nowhere")
    status, layer = run(image)
    assert status == 0
    share = layer / SWITCH / "share/root"
    assert (share / "data/data.ml").read_text() == "data" and (share / "data/below/more").read_text() == "more"
    assert (share / "file").read_text() == "data" and os.readlink(share / "nowhere") == "/nowhere"
    assert "lib/dep/dep.cma" not in names(layer)


def test_links_to_directories_of_debian(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    add(image["base"], "/usr/share/base/file", "x")
    owned(image, "base-data", "/usr", "/usr/share/base/file")
    link(image["root"], "share/root/base", "/usr/share/base")
    status, _ = run(image)
    message = capfd.readouterr().err
    assert status == 1 and f"/{SWITCH}/share/root/base is a link to the directory /usr/share/base" in message
    assert "add the Debian package base-data to its `packages`" in message
    shutil.rmtree("in")
    status, layer = run(image, keep=["/usr/share/base"])
    assert status == 0 and (layer / "usr/share/base/file").read_text() == "x"


def test_links_to_what_depexts_add_to_a_directory(image: Trees) -> None:
    for name in ("base", "slim"):
        add(image[name], "/usr/share/fonts/base", "x")
    add(image["dep"], "/usr/share/fonts/more", "y")
    link(image["root"], "share/root/fonts", "/usr/share/fonts")
    status, layer = run(image)
    assert status == 0 and (layer / "usr/share/fonts/more").read_text() == "y"


def test_links_to_programs_of_debian(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    add(image["dep"], "/bin/deb", "#!/bin/sh\n", 0o755)
    owned(image, "d", "/bin/deb")
    link(image["root"], "bin/own-name", "/usr/bin/deb")
    status, _ = run(image)
    message = capfd.readouterr().err
    assert status == 1 and f"/{SWITCH}/bin/own-name is a link to /bin/deb" in message and "package d " in message
    shutil.rmtree("in")
    status, layer = run(image, keep=["/bin/deb"])
    assert status == 0 and (layer / "bin/deb").exists()


def test_empty_directories(image: Trees) -> None:
    for name in ("var/spool/jobs", "share/root/cache", "doc/root", "lib/root"):
        (image["root"] / SWITCH / name).mkdir(parents=True)
    (image["root"] / SWITCH / "var/spool/jobs").chmod(0o700)
    status, layer = run(image)
    assert status == 0 and (layer / SWITCH / "share/root/cache").is_dir()
    found = (layer / SWITCH / "var/spool/jobs").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o700, 1000)
    assert not (layer / SWITCH / "doc/root").exists() and not (layer / SWITCH / "lib/root").exists()


# -- bytecode and plugins


def bytecode(sections: Sequence[Tuple[bytes, bytes]], head: bytes = b"") -> bytes:
    table = b"".join(struct.pack(">4sI", name, len(content)) for name, content in sections)
    trailer = struct.pack(">I12s", len(sections), b"Caml1999X035")
    return head + b"".join(content for _, content in sections) + table + trailer


def test_reading_bytecode() -> None:
    sections = [(b"RNTM", b"/x/ocamlrun\0"), (b"CODE", b"123"), (b"DLPT", b"/a\0/b\0"), (b"DLLS", b"dllunix\0dllx\0")]
    right = Bytecode("/x/ocamlrun", ("dllunix", "dllx"), ("/a", "/b"))
    whole = bytecode(sections, b"#!/x/ocamlrun\n")
    assert read_bytecode(BytesIO(whole)) == right
    for end in range(len(whole)):
        assert read_bytecode(BytesIO(whole[:end])) is None
    for damaged in (
        struct.pack(">I12s", 1 << 31, b"Caml1999X035"),
        struct.pack(">4sI12s", b"CODE", 9, b"Caml1999X035"),
    ):
        assert read_bytecode(BytesIO(damaged)) is None


def test_bytecode_programs(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    head = f"#!/{SWITCH}/bin/ocamlrun\n".encode()
    script(image["dep"], "bin/ocamlrun", "/bin/sh")
    add(image["root"], "bin/byte", bytecode([(b"DLLS", b"dllunix\0dllx\0dllown\0dlldebian\0")], head), 0o755)
    for name in ("lib/ocaml/stublibs/dllunix.so", "lib/ocaml/unix.cma", "opt/dllown.so"):
        add(image["dep"], name, "x")
    add(image["dep"], "lib/ocaml/ld.conf", f"stublibs\n/{SWITCH}/opt\n")
    add(image["base"], "/usr/lib/machine/ocaml/5/stublibs/dlldebian.so", "x")
    add(image["base"], "/usr/lib/machine/ocaml/5/ld.conf", "/usr/lib/machine/ocaml/5/stublibs\n")
    owned(image, "stdlib", "/usr/lib/machine/ocaml/5/stublibs/dlldebian.so")
    status, _ = run(image)
    message = capfd.readouterr().err
    assert status == 1 and "byte needs the library dllx.so, which is not in the full image either" in message
    assert "the library dlldebian.so, which is not in the slim base: add the Debian package stdlib " in message
    shutil.rmtree("in")
    add(image["dep"], "lib/stublibs/dllx.so", "x")
    for name in ("stublibs/dlldebian.so", "ld.conf"):
        path = f"usr/lib/machine/ocaml/5/{name}"
        add(image["slim"], f"/{path}", (image["base"] / path).read_bytes())
    status, layer = run(image)
    assert status == 0
    kept = {"bin/ocamlrun", "lib/ocaml/ld.conf", "lib/ocaml/stublibs/dllunix.so", "lib/stublibs/dllx.so"}
    assert kept <= set(names(layer)) and "lib/ocaml/unix.cma" not in names(layer)


def test_a_runtime_that_the_bytecode_names(image: Trees) -> None:
    """OCaml's start program is an ELF file where the path is too long for a first line."""
    program = (image["base"] / "bin/sh").read_bytes()
    add(image["root"], "bin/byte", bytecode([(b"RNTM", f"/{SWITCH}/bin/own-run".encode())], program), 0o755)
    script(image["dep"], "bin/own-run", "/bin/sh")
    status, layer = run(image)
    assert status == 0 and "bin/own-run" in names(layer)


def test_plugins(image: Trees) -> None:
    """A program with Dynlink in it gets what the packages that it depends on have for it, and others do not."""
    files = ("lib/dep/META", "lib/dep/dep.cmxs", "lib/root/plugins/p/META", "lib/findlib.conf", "lib/ocaml/unix.cmxs")
    for name in (*files, "lib/dep/dep.cmxa"):
        add(image["dep"], name, "x")
    status, layer = run(image)
    assert status == 0 and not {"lib/dep/META", "lib/dep/dep.cmxs"} & set(names(layer))
    shutil.rmtree("in")
    program = (image["base"] / "bin/sh").read_bytes()
    add(image["root"], "bin/program", program + b"..." + b"Dynlink.Error", 0o755)
    status, layer = run(image)
    assert status == 0 and set(files) <= set(names(layer))
    shutil.rmtree("in")
    add(image["root"], "bin/program", program + b"...findlib.conf", 0o755)
    status, other = run(image)
    assert status == 0 and {"lib/dep/META", "lib/findlib.conf"} <= set(names(other))
    assert "lib/dep/dep.cmxs" not in names(other)
    assert not {"lib/dep/dep.cmxa", "lib/dep/dep.cma"} & set(names(layer))
    shutil.rmtree("in")
    add(image["root"], "bin/program", bytecode([(b"DATA", b"Dynlink.Error")], b"#!/bin/sh\n"), 0o755)
    status, layer = run(image)
    assert status == 0 and {"lib/dep/dep.cma", "lib/dep/META"} <= set(names(layer))
    assert "lib/dep/dep.cmxs" not in names(layer)


# -- data


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("lib/x/site/data.json", True),
        ("lib/x/plugins/p", True),
        ("lib/x/helper.exe", True),
        ("lib/python3/site-packages/x/__init__.py", True),
        ("lib/perl5/X.pm", True),
        ("share/java/x.jar", True),
        ("libexec/x/helper", True),
        ("var/lib/x/db", True),
        ("lib/x/x.ml", False),
        ("lib/x/x.cmxs", False),
        ("lib/x/META", False),
        ("lib/x/ppx.exe", False),
        ("lib/pkgconfig/x.pc", False),
        ("include/x.x", False),
        ("lib/stublibs/dllx.so.owner", False),
    ],
)
def test_places_of_data(path: str, kept: bool) -> None:
    assert wanted(path, False) is kept


def test_files_that_programs_name(image: Trees, capfd: pytest.CaptureFixture[str]) -> None:
    """Files of packages come along; what the slim base lacks is named, with its Debian package; compilers are not."""
    paths = (
        "/usr/share/magic/m.mgc",
        "/usr/share/zoneinfo",
        f"/{SWITCH}/bin/tool",
        "/usr/include/x.h",
        "/nowhere/at/all",
        f"/{SWITCH}/lib/dep/dep.cma",
        f"/{SWITCH}/lib/dep/dep.ml",
    )
    texts = "\0".join([*paths, "libdyn.so.1", "libbase.so", "xlibother.so"]).encode()
    # A program of one part, which is loaded.
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    part = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 120 + len(texts), 120 + len(texts), 0)
    add(image["root"], "bin/program", header + part + texts + b"/usr/lib/debug-only", 0o755)
    add(image["base"], "/usr/lib/debug-only", "x")
    (image["dep"] / SWITCH / "bin/tool").chmod(0o755)
    add(image["dep"], "lib/dep/dep.ml", "x")
    add(image["dep"], "/usr/share/magic/m.mgc", "x")
    add(image["dep"], "/usr/share/zoneinfo/UTC", "x")
    add(image["base"], "/usr/include/x.h", "x")
    add(image["dep"], "/usr/lib/libdyn.so.1.2", "x", 0o755)
    link(image["dep"], "/usr/lib/libdyn.so.1", "libdyn.so.1.2")
    add(image["dep"], "/usr/lib/libother.so", "x")
    add(image["base"], "/usr/lib/libbase.so", "x")
    owned(image, "tzdata", "/usr/share/zoneinfo", "/usr/share/zoneinfo/UTC")
    status, layer = run(image)
    warning = capfd.readouterr().err
    assert status == 0 and (layer / "usr/share/magic/m.mgc").exists()
    assert (layer / "usr/lib/libdyn.so.1").read_text() == "x" and not (layer / "usr/lib/libother.so").exists()
    assert "lib/dep/dep.cma" in names(layer) and "lib/dep/dep.ml" not in names(layer)
    assert f"may look up /{SWITCH}/bin/tool, which" in warning
    assert "may look up /usr/lib/libbase.so, which" in warning
    assert f"note: /{SWITCH}/bin/program may look up /usr/share/zoneinfo (the Debian package tzdata)" in warning
    assert "x.h" not in warning and "debug-only" not in warning and "nowhere" not in warning
    assert "note: programs of dependencies are left out" in warning and "tool (dep)" in warning
    assert f"/{SWITCH}/bin/again, /{SWITCH}/bin/script" in warning


def test_depexts_that_are_left_out(image: Trees) -> None:
    """Packages with programs, data or modules that are found by name; neither libraries nor what builds need."""
    for name in (
        "/bin/prog",
        "/usr/lib/m/libnss_x.so.2",
        "/usr/lib/m/liby.so.1",
        "/usr/include/z.h",
        "/usr/lib/m/gconv/G.so",
    ):
        add(image["dep"], name, "x")
    owned(image, "prog", "/bin/prog")
    owned(image, "libnss-x", "/usr/lib/m/libnss_x.so.2")
    owned(image, "liby", "/usr/lib/m/liby.so.1")
    owned(image, "libz-dev", "/usr/include/z.h")
    owned(image, "gconv", "/usr/lib/m/gconv/G.so")
    status = {f"{name}:amd64": f"Package: {name}\nSection: libs" for name in ("prog", "libnss-x", "liby", "gconv")}
    status["libz-dev:amd64"] = "Package: libz-dev\nSection: libdevel"
    layers = [
        make_layer(Path(name), make_tar([]), "package", name, {"status": status}) for name in ("dep", "not-needed")
    ]
    selection = Selection(image["base"], image["slim"], {"dep": image["dep"]})
    selection.run_time = {"dep"}
    found = left_out_debs(layers, Search(image["base"], image["slim"], selection, Owners(image["base"]), {}))
    assert len(found) == 1 and found[0].endswith(": gconv, libnss-x, prog")
    selection.run_time = set()
    assert not left_out_debs(layers, Search(image["base"], image["slim"], selection, Owners(image["base"]), {}))
