"""The lockfile reader."""

from __future__ import annotations

import base64

import pytest

from opam_oci.resolves.lockfile import LockfileError, OpamLock
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from tests.backend.locktext import Pkg, deb_toml, debian_lock, opam_lock, source_toml

SHA = "ab" * 32
PATH = "3rdparty/opam/default.lock"


def read(text: str) -> OpamLock:
    return read_opam_lock(PATH, "default", text.encode())


def test_everything_that_a_lock_holds() -> None:
    opam = 'opam-version: "2.0"\nbuild: [["sh" "-c" "echo \\"a\\\\n\\" # \'x\'"]]\n'
    sources = source_toml(["https://example.org/a.tbz", "debian:pool/main/a/a/a_1.orig.tar.gz"], SHA, 7)
    sources += source_toml(["https://example.org/x.patch"], "cd" * 32, 8, name="x.patch")
    binary = base64.b64encode(b"\xff\0").decode()
    file = (
        f'[[package.file]]\npath = "d/f"\ncontent = "é\\n"\n[[package.file]]\npath = "g"\ncontent_base64 = "{binary}"\n'
    )
    lock = read(
        opam_lock(
            Pkg("a", version="1.0~beta+x", opam=opam, debs=["gcc"], extra=sources + file),
            Pkg("0b", depends=["a"], post=["a"]),
            requirements=["0b"],
            constraints=["a=1"],
            debs=deb_toml("gcc", "pool/main/g/gcc/gcc_2-3_amd64.deb", SHA, 5),
        )
    )
    package = lock.packages["a"]
    assert package.opam == opam
    assert package.full_name == "a.1.0~beta+x"
    assert [(s.name, s.urls[-1], s.sha256, s.size) for s in package.sources] == [
        ("", "debian:pool/main/a/a/a_1.orig.tar.gz", SHA, 7),
        ("x.patch", "https://example.org/x.patch", "cd" * 32, 8),
    ]
    assert [(f.path, f.content) for f in package.files] == [("d/f", "é\n".encode()), ("g", b"\xff\0")]
    assert lock.debs["gcc"].basename == "gcc_2-3_amd64.deb"
    assert (lock.requirements, lock.constraints) == (("0b",), ("a=1",))
    assert lock.packages["0b"].depends == ("a",)


def test_build_order_is_by_name_among_what_is_ready() -> None:
    lock = read(
        opam_lock(Pkg("z"), Pkg("a", depends=["m"]), Pkg("m"), Pkg("b", depends=["z", "a"]), Pkg("c", depends=["b"]))
    )
    assert lock.in_build_order(lock.packages) == ("m", "a", "z", "b", "c")
    assert lock.build_closure(["a"]) == ("m", "a")


def test_post_dependencies_belong_to_images_and_may_form_cycles() -> None:
    lock = read(
        opam_lock(
            Pkg("compiler", post=["virtual", "unix"]), Pkg("virtual", depends=["compiler"]), Pkg("unix"), Pkg("other")
        )
    )
    assert lock.image_closure(["compiler"]) == ("compiler", "unix", "virtual")
    assert lock.build_closure(["compiler"]) == ("compiler",)
    assert lock.acyclic_post_depends()["compiler"] == ("unix",)
    assert lock.reached_by_targets(["compiler"]) == {"compiler", "unix"}


def test_a_deep_graph() -> None:
    count = 3000
    packages = [Pkg(f"p{n}", depends=[f"p{n + 1}"] if n + 1 < count else []) for n in range(count)]
    lock = read(opam_lock(*packages))
    assert len(lock.build_closure(["p0"])) == count


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[metadata", "not valid TOML"),
        ("", "`metadata` is missing"),
        ("metadata = 3", "`metadata` is not a table"),
        (opam_lock(version=2), "lock_version 2 was written by a newer version"),
        (opam_lock(version=0), "its lock_version 0 does not exist"),
        (opam_lock().replace("lock_version = 1", 'lock_version = "1"'), "`lock_version` is not an integer"),
        (opam_lock().replace("lock_version = 1", "lock_version = true"), "`lock_version` is not an integer"),
        (opam_lock(kind="debian"), "it is of kind 'debian', where 'opam' is needed"),
        (opam_lock(resolve="other"), "it was written for the resolve 'other', not for 'default'"),
        (opam_lock(resolve="9" * 9000), "it was written for the resolve '" + "9" * 99 + ", not for 'default'"),
        (opam_lock().replace("requirements = []", ""), "in [metadata]: `requirements` is missing"),
        (opam_lock().replace("requirements = []", "requirements = [1]"), "`requirements` is not an array of strings"),
        ("package = 1\n" + opam_lock(), "`package` is not an array of tables"),
        (opam_lock(Pkg("a"), Pkg("a")), "in [[package]] a: the package a is there twice"),
        (opam_lock(Pkg("a", depends=["b"])), "a names b in `depends`, which is not a package of this lockfile"),
        (opam_lock(Pkg("a", post=["b"])), "a names b in `post_depends`"),
        (opam_lock(Pkg("a", debs=["gcc"])), "a names gcc in `debs`, for which there is no [[deb]]"),
        (opam_lock(Pkg("a", depends=["a"])), "in a cycle: a -> a"),
        (
            opam_lock(Pkg("a"), Pkg("b", ["a", "d"]), Pkg("c", ["b"]), Pkg("d", ["c"]), Pkg("e", ["d"])),
            "in a cycle: b -> d -> c -> b",
        ),
        (opam_lock(Pkg("a", depends=["b", "b"]), Pkg("b")), "'b' is there twice in `depends`"),
        (opam_lock(Pkg("a b")), "`name` holds 'a b', which it cannot"),
        (opam_lock(Pkg("123")), "`name` holds '123'"),
        (opam_lock(Pkg("a", version="1/2")), "`version` holds '1/2'"),
        (opam_lock(Pkg("a")).replace("opam = '''\n'''", ""), "in [[package]] a: `opam` is missing"),
        (
            opam_lock(Pkg("a", extra='[[package.file]]\npath = "../x"\ncontent = ""\n')),
            "in [[package]] a, [[file]] ../x: `path` is not a safe relative path: '../x'",
        ),
        (opam_lock(Pkg("a", extra='[[package.file]]\npath = "/x"\ncontent = ""\n')), "not a safe relative path: '/x'"),
        (opam_lock(Pkg("a", extra='[[package.file]]\npath = "x//y"\ncontent = ""\n')), "not a safe relative path"),
        (opam_lock(Pkg("a", extra='[[package.file]]\npath = ""\ncontent = ""\n')), "not a safe relative path"),
        (opam_lock(Pkg("a", extra='[[package.file]]\npath = "x"\n')), "`content` is missing"),
        (opam_lock(Pkg("a", extra='[[package.file]]\npath = "x"\ncontent_base64 = "?"\n')), "is not base64"),
        (
            opam_lock(Pkg("a", extra='[[package.file]]\npath = "x"\ncontent = ""\n' * 2)),
            "'x' is there twice in `file`",
        ),
        (opam_lock(Pkg("a", extra=source_toml([], SHA, 1))), "`urls` is empty"),
        (opam_lock(Pkg("a", extra=source_toml(["nothing"], SHA, 1))), "`urls` holds 'nothing'"),
        (opam_lock(Pkg("a", extra=source_toml(["debian:../x"], SHA, 1))), "not a safe relative path: '../x'"),
        (opam_lock(Pkg("a", extra=source_toml(["https://h/x"], SHA[1:], 1))), "`sha256` holds"),
        (opam_lock(Pkg("a", extra=source_toml(["https://h/x"], SHA.upper(), 1))), "`sha256` holds"),
        (opam_lock(Pkg("a", extra=source_toml(["https://h/x"], SHA, -1))), "`size` is negative"),
        (opam_lock(Pkg("a", extra=source_toml(["https://h/x"], SHA, 1, "../x"))), "not a safe relative path"),
        (opam_lock(Pkg("a", extra=source_toml(["https://h/x"], SHA, 1) * 2)), "'' is there twice in `source`"),
        (opam_lock(debs=deb_toml("gcc", "/etc/x.deb")), "`path` is not a safe relative path: '/etc/x.deb'"),
        (opam_lock(debs=deb_toml("gcc", "pool/a.deb") * 2), "the Debian package gcc is there twice"),
        (
            opam_lock(debs=deb_toml("gcc", "pool/a.deb") + deb_toml("cpp", "pool/x/a.deb")),
            "the Debian package cpp is there twice",
        ),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_errors_name_the_file_and_the_place(text: str, problem: str) -> None:
    with pytest.raises(LockfileError) as raised:
        read(text)
    message = str(raised.value)
    assert message.startswith(f"The lockfile {PATH}: "), message
    assert problem in message, message


def test_not_even_text() -> None:
    with pytest.raises(LockfileError, match="not valid TOML"):
        read_opam_lock(PATH, "default", b"\xff")


def test_debian_lock() -> None:
    text = debian_lock(packages=["opam", "gcc"], debs=deb_toml("gcc", "pool/main/g/gcc/gcc_2.deb", SHA, 12))
    lock = read_debian_lock("d.lock", "trixie", text.encode())
    assert (lock.suite, lock.architecture, lock.packages) == ("trixie", "amd64", ("opam", "gcc"))
    assert lock.debs["gcc"].size == 12
    with pytest.raises(LockfileError, match="The lockfile d.lock: it is of kind 'opam'"):
        read_debian_lock("d.lock", "trixie", opam_lock(resolve="trixie").encode())
