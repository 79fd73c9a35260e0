"""Runtime images: what is kept, what ELF files need, and what is said where something is missing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opam_sandbox.elf import read_elf
from opam_sandbox.errors import RequestError
from opam_sandbox.imaging import runtime
from opam_sandbox.imaging.requests import RuntimePackage
from opam_sandbox.imaging.selection import SWITCH, runtime_packages, wanted
from opam_sandbox.layer.description import read_layer
from opam_sandbox.layer.store import Store
from tests.unit.conftest import Namespaces, make_layer, make_tar, member

PATH = f"/{SWITCH}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# -- ELF


def test_elf_says_what_ldd_says() -> None:
    shell = shutil.which("bash") or "/bin/sh"
    with open(shell, "rb") as file:
        elf = read_elf(file)
    assert elf is not None and "libc.so.6" in elf.needed and elf.interpreter.startswith("/lib")
    listed = subprocess.run(["ldd", shell], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert all(name in listed for name in elf.needed)


def test_no_elf() -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(200)):
        assert read_elf(BytesIO(content)) is None


@example(b"\x00\x00\x80", 437)
@given(st.binary(max_size=64), st.integers(0, 4000))
def test_damaged_elf(junk: bytes, at: int) -> None:
    """A broken file is no program, and no reason to fail."""
    original = Path(os.path.realpath("/bin/sh")).read_bytes()[:8000]
    read_elf(BytesIO(original[:at] + junk + original[at + len(junk) :]))


# -- what is needed at run time


def package(name: str, depends: str, *names: str, root: bool = False) -> RuntimePackage:
    return {"name": name, "opam": f'opam-version: "2.0"\ndepends: [{depends}]\n', "depends": list(names), "root": root}


def test_build_dependencies_are_left_out() -> None:
    packages = [
        package(
            "r", '"a" {>= "1"} "dune" {build & >= "2"} "t" {with-test} ("b" | "c")', "a", "dune", "t", "b", root=True
        ),
        package("a", '"ppx" {build | dev} "d"', "ppx", "d"),
        package("b", '"e" {build | os = "linux"}', "e"),
        *(package(name, "") for name in ("dune", "t", "ppx", "d", "e", "other")),
    ]
    assert runtime_packages(packages) == {"r", "a", "b", "d", "e"}


@pytest.mark.parametrize(
    ("path", "of_root", "of_others"),
    [
        ("bin/x", True, False),
        ("share/x/data", True, True),
        ("share/man/man1/x.1", False, False),
        ("doc/x/README.md", False, False),
        ("lib/x/x.cmxa", False, False),
        ("lib/x/x.h", False, False),
        ("lib/stublibs/dllx.so", True, True),
        ("lib/x/libx.so.1.2", True, True),
        ("lib/ocaml/libasmrun_shared.so", False, False),
        ("etc/x.conf", True, True),
    ],
)
def test_places(path: str, of_root: bool, of_others: bool) -> None:
    assert (wanted(path, True), wanted(path, False)) == (of_root, of_others)


# -- the command


def files_of(tree: Path) -> List["tuple[Any, bytes]"]:
    found = []
    for path in sorted(tree.rglob("*")):
        name = os.fspath(path.relative_to(tree))
        if path.is_symlink():
            found.append(member(name, b"2", linkname=os.readlink(path)))
        elif path.is_dir():
            found.append(member(name, b"5", mode=stat.S_IMODE(path.stat().st_mode)))
        else:
            found.append(member(name, content=path.read_bytes(), mode=stat.S_IMODE(path.stat().st_mode)))
    return found


@pytest.fixture
def image(namespaces: Namespaces, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Path]:
    """A base with /usr/lib/libz-like library `lib1`, the same base without it, and packages to put files into."""
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None:
        pytest.skip("no ldconfig on this machine")
    monkeypatch.chdir(tmp_path)
    trees = {name: tmp_path / "trees" / name for name in ("slim", "base", "root", "dep")}
    for name in ("slim", "base"):
        shutil.copytree(tiny_root, trees[name], symlinks=True)
        (trees[name] / "sbin").mkdir()
        shutil.copy(ldconfig, trees[name] / "sbin/ldconfig")
        (trees[name] / "etc/ld.so.conf.d").mkdir()
        (trees[name] / "etc/ld.so.conf.d/x.conf").write_text("/lib/x86_64-linux-gnu\n/usr/lib\n")
    for name in ("root", "dep"):
        (trees[name] / SWITCH / "bin").mkdir(parents=True)
    (trees["root"] / SWITCH / "bin/script").write_text("#!/bin/sh\necho ran\n")
    (trees["root"] / SWITCH / "bin/again").write_text("#!/bin/sh\necho ran\n")
    for name in ("script", "again"):
        (trees["root"] / SWITCH / "bin" / name).chmod(0o755)
    (trees["dep"] / SWITCH / "bin/tool").write_text("#!/bin/sh\n")
    (trees["dep"] / SWITCH / "share/dep").mkdir(parents=True)
    (trees["dep"] / SWITCH / "share/dep/data").write_text("data")
    (trees["dep"] / SWITCH / "lib/dep").mkdir(parents=True)
    (trees["dep"] / SWITCH / "lib/dep/dep.cma").write_text("code")
    return trees


def run(trees: Dict[str, Path], env: Mapping[str, str] = MappingProxyType({}), **more: Any) -> "tuple[int, Path]":
    """Run the command; its exit status and the layer unpacked. env: what the image's environment has besides PATH."""
    for number, name in enumerate(("slim", "base", "opam-root", "root", "dep", "state")):
        kind = {"slim": "base", "base": "base", "opam-root": "opam-root", "state": "state"}.get(name, "package")
        content = files_of(trees[name]) if name in trees else []
        make_layer(Path(f"in/{number}"), make_tar(content), kind, name)
    request: Any = {
        "store": "store",
        "slim": "in/0",
        "layers": [f"in/{number}" for number in range(1, 6)],
        "packages": [
            {"name": "dep", "opam": "", "depends": [], "root": False},
            {"name": "root", "opam": 'depends: ["dep"]', "depends": ["dep"], "root": True},
        ],
        "keep": [],
        "env": [f"{name}={value}" for name, value in {"PATH": PATH, **env}.items()],
        **more,
    }
    Path("store").mkdir(exist_ok=True)
    status = runtime.run(request, 1)
    return status, Store(Path("store"), False).get(read_layer(Path("."))) if status == 0 else Path("none")


def names(tree: Path) -> List[str]:
    top = tree / SWITCH
    return sorted(os.fspath(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


def test_what_is_kept(image: Dict[str, Path]) -> None:
    status, layer = run(image)
    assert status == 0
    assert names(layer) == ["bin/again", "bin/script", "share/dep/data"]
    # Two programs of the same bytes are one file.
    assert (layer / SWITCH / "bin/again").stat().st_ino == (layer / SWITCH / "bin/script").stat().st_ino
    assert "opam:x:1000:1000" in (layer / "etc/passwd").read_text()
    assert (layer / "etc/ld.so.cache").exists()
    owner = (layer / SWITCH / "bin/script").stat()
    assert (owner.st_uid, owner.st_mode & 0o777) == (1000, 0o755)


def test_more_is_kept_on_request(image: Dict[str, Path]) -> None:
    status, layer = run(image, keep=[f"/{SWITCH}/lib/dep/*", f"/{SWITCH}/bin/tool"])
    assert status == 0
    assert {"lib/dep/dep.cma", "bin/tool"} < set(names(layer))


def test_the_state_is_needed(image: Dict[str, Path]) -> None:
    """Records and accounts of several layers are right only there."""
    with pytest.raises(RequestError, match="the last should be the image's state"):
        run(image, layers=[f"in/{number}" for number in range(1, 5)])
    shutil.rmtree("in")
    with pytest.raises(RequestError, match="env: each should be"):
        run(image, env={"": "x"})


def test_a_pattern_that_matches_nothing(image: Dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    status, _ = run(image, keep=["/nothing/*"])
    assert status == 1 and "/nothing/* matches no file" in capfd.readouterr().err


def library(image: Dict[str, Path], name: str) -> str:
    """A program of the root package, and a library that it needs and that the slim base lacks; the library's path."""
    shutil.copy(os.path.realpath(shutil.which("sh") or "/bin/sh"), image["root"] / SWITCH / "bin/program")
    [path] = [found for found in image["slim"].rglob(name) if not found.is_dir()][:1]
    relative = os.fspath(path.relative_to(image["slim"]))
    path.unlink()
    return relative


def test_a_missing_library_is_named(image: Dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """With the program that needs it and the Debian package of the build base that has it."""
    path = library(image, "libc.so.6")
    info = image["base"] / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "libc6:amd64.list").write_text(f"/.\n/{path}\n")
    # In the build base it stands under its own name, so the list names what is there.
    status, _ = run(image)
    message = capfd.readouterr().err
    assert status == 1 and f"/{SWITCH}/bin/program needs the library libc.so.6" in message
    assert "add the Debian package libc6 to its `packages`" in message and "Traceback" not in message


def test_a_library_of_a_package_comes_along(image: Dict[str, Path]) -> None:
    """And the record of the Debian package that it is of."""
    library(image, "ls")  # anything: only the program is wanted here
    wrapped = image["dep"] / "usr/lib/libown.so.1"
    wrapped.parent.mkdir(parents=True)
    source = next(path for path in image["base"].rglob("libc.so.6"))
    shutil.copy(source, wrapped)
    program = image["root"] / SWITCH / "bin/program"
    content = program.read_bytes()
    program.write_bytes(content.replace(b"\0libc.so.6\0", b"\0libown.so\0", 1)[: len(content)])
    (image["dep"] / "usr/lib/libown.so").symlink_to("libown.so.1")
    status, layer = run(image)
    assert status == 0
    assert (layer / "usr/lib/libown.so").is_symlink() and (layer / "usr/lib/libown.so.1").is_file()


def test_links_out_of_the_image_lead_nowhere(image: Dict[str, Path], tmp_path: Path) -> None:
    """Links that packages made are followed as the image shows them: no file of the machine comes along, none is removed."""
    secret = tmp_path / "machine/secret"
    secret.parent.mkdir()
    secret.write_text("of the machine")
    switch = image["dep"] / SWITCH
    (switch / "lib/out").symlink_to(secret.parent)
    (switch / "share/file").symlink_to("../lib/out/secret")
    (switch / "share/directory").symlink_to(secret.parent)
    (image["root"] / SWITCH / "share/directory").mkdir(parents=True)
    (image["root"] / SWITCH / "share/directory/secret").write_text("of the package")
    status, layer = run(image)
    assert status == 0 and secret.read_text() == "of the machine"
    for path in layer.rglob("*"):
        assert path.is_symlink() or not path.is_file() or b"of the machine" not in path.read_bytes()


# -- bases that others made


def empty(tree: Path) -> None:
    """A base from scratch, as `join-image` makes it."""
    shutil.rmtree(tree)
    for name in ("dev", "proc", "tmp"):
        (tree / name).mkdir(parents=True)


def test_a_base_with_nothing_in_it(image: Dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """No ldconfig is run, no gzip of its own packs; what its files lack is named with a way out that there is."""
    empty(image["slim"])
    status, _ = run(image, foreign_base=True)
    message = capfd.readouterr().err
    assert status == 1 and "is run by /bin/sh, which is not in the slim base: take a base that has what" in message
    shutil.rmtree("in")
    for name in ("script", "again"):
        (image["root"] / SWITCH / "bin" / name).write_text("data")
    status, layer = run(image, foreign_base=True)
    assert status == 0
    assert names(layer) == ["bin/again", "bin/script", "share/dep/data"]
    assert (layer / "etc/passwd").read_text() == "opam:x:1000:1000:opam:/home/opam:/bin/bash\n"
    assert not (layer / "etc/ld.so.cache").exists() and not (layer / "tmp").exists()


def with_program(image: Dict[str, Path]) -> None:
    shutil.copy(os.path.realpath(shutil.which("cat") or "/bin/cat"), image["root"] / SWITCH / "bin/program")


def release(tree: Path, text: str) -> None:
    (tree / "etc/os-release").write_text(text)


DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian\n'


@pytest.mark.parametrize(
    ("slim", "said"),
    [
        ("ID=debian\nVERSION_ID='12'\n", "debian 12"),
        ("ID=alpine\nVERSION_ID=3.20.3\n", "alpine 3.20.3"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "debian forky (which has no VERSION_ID)"),
        ("", "of no distribution that it names"),
    ],
)
def test_libraries_of_another_release(
    image: Dict[str, Path], slim: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """They have the names that programs ask for, and may lack what these were linked with."""
    with_program(image)
    release(image["base"], DEBIAN)
    release(image["slim"], slim)
    status, _ = run(image, foreign_base=True)
    message = capfd.readouterr().err
    text = f"/{SWITCH}/bin/program loads shared libraries, and was linked in debian 13; the slim base is {said}."
    assert status == 1 and text in message
    # What nobody loads may be left out, and all else is taken.
    shutil.rmtree("in")
    status, layer = run(image, foreign_base=True, keep=[f"!/{SWITCH}/bin/program"])
    assert status == 0 and names(layer) == ["bin/again", "bin/script", "share/dep/data"]


def test_libraries_of_the_same_release(image: Dict[str, Path]) -> None:
    with_program(image)
    release(image["base"], DEBIAN)
    release(image["slim"], "NAME=x\nID=debian\nVERSION_ID=13\n")
    status, layer = run(image, foreign_base=True)
    assert status == 0 and "bin/program" in names(layer)


def test_a_base_without_ldconfig(image: Dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """Debian's dynamic linker looks into its own directories; it cannot be told of others."""
    with_program(image)
    release(image["base"], DEBIAN)
    release(image["slim"], DEBIAN)
    conf = image["base"] / "etc/ld.so.conf.d/x.conf"
    shutil.rmtree(image["slim"] / "etc/ld.so.conf.d")
    (image["slim"] / "sbin/ldconfig").unlink()
    status, layer = run(image, foreign_base=True)
    assert status == 0 and "bin/program" in names(layer) and not (layer / "etc/ld.so.cache").exists()
    # A library that only ld.so.conf finds.
    shutil.rmtree("in")
    for name in ("base", "slim"):
        for found in [path for path in image[name].rglob("libc.so.6") if not path.is_dir()]:
            target = image[name] / "opt/libs" / "libc.so.6"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(os.fspath(found), target)
    conf.write_text(conf.read_text() + "/opt/libs\n")
    status, _ = run(image, foreign_base=True)
    message = capfd.readouterr().err
    assert status == 1 and "where a dynamic linker looks without ldconfig, which the slim base lacks" in message


def test_a_user_opam_of_its_own(image: Dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    release(image["base"], DEBIAN)
    release(image["slim"], DEBIAN)
    (image["slim"] / "etc/passwd").write_text("opam:x:1001:1001::/home/opam:/bin/sh\n")
    status, _ = run(image, foreign_base=True)
    message = capfd.readouterr().err
    assert status == 1 and "the slim base has a user opam of its own, with the number '1001:1001'" in message


def test_accounts_of_others(image: Dict[str, Path]) -> None:
    """A last line may have no end: what follows is a line of its own."""
    release(image["base"], DEBIAN)
    release(image["slim"], DEBIAN)
    (image["slim"] / "etc/passwd").write_text("root:x:0:0::/:/bin/sh")
    status, layer = run(image, foreign_base=True)
    assert status == 0
    lines = (layer / "etc/passwd").read_text().split("\n")
    assert lines == ["root:x:0:0::/:/bin/sh", "opam:x:1000:1000:opam:/home/opam:/bin/bash", ""]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc (apt-get install gcc libc6-dev)")
def test_a_library_that_is_older(image: Dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It has the name that the program asks for, and is not what the program was linked with: of the same release, too, and of
    another machine. The dynamic linker would say so, when the image is run."""
    release(image["base"], DEBIAN)
    release(image["slim"], DEBIAN)
    made = {}
    (tmp_path / "f.c").write_text("int f(void) { return 0; }\nint g(void) { return 0; }\n")
    (tmp_path / "main.c").write_text("int f(void);\nint g(void);\nint main(void) { return f() + g(); }\n")
    (tmp_path / "old.map").write_text("OWN_1 { global: f; };\n")
    (tmp_path / "new.map").write_text("OWN_1 { global: f; };\nOWN_2 { global: g; } OWN_1;\n")
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        made[name] = tmp_path / name / "libown.so.1"
        options = ["-shared", "-fPIC", "-Wl,-soname,libown.so.1", f"-Wl,--version-script={name}.map"]
        subprocess.run(["gcc", *options, "-o", made[name], "f.c"], cwd=tmp_path, check=True)
    program = image["root"] / SWITCH / "bin/program"
    subprocess.run(["gcc", "-o", program, "main.c", made["new"]], cwd=tmp_path, check=True)

    def run_with(content: bytes) -> "tuple[int, str]":
        shutil.rmtree("in", ignore_errors=True)
        (image["slim"] / "usr/lib/libown.so.1").write_bytes(content)
        status, _ = run(image, foreign_base=True)
        return status, capfd.readouterr().err

    for name in ("base", "slim"):
        (image[name] / "usr/lib").mkdir(parents=True, exist_ok=True)
    shutil.copy(made["new"], image["base"] / "usr/lib")
    # What the dynamic linker itself says of them.
    for name, expected in (("old", 1), ("new", 0)):
        env = {"LD_LIBRARY_PATH": os.fspath(tmp_path / name)}
        done = subprocess.run([program], env=env, stderr=subprocess.PIPE, text=True)
        assert done.returncode == expected and ("version `OWN_2' not found" in done.stderr) is (name == "old")
    assert run_with(made["new"].read_bytes())[0] == 0
    status, message = run_with(made["old"].read_bytes())
    assert status == 1 and f"/{SWITCH}/bin/program was linked with a newer libown.so.1 than the slim base's" in message
    assert "/usr/lib/libown.so.1, which lacks OWN_2: take a base that is as new as" in message
    other = bytearray(made["new"].read_bytes())
    other[18:20] = b"\xf3\x00"  # RISC-V
    status, message = run_with(bytes(other))
    assert status == 1 and "the slim base's /usr/lib/libown.so.1 is none for its machine" in message
