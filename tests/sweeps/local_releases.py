"""The releases that `local_projects` takes as projects, and the libraries of Debian's that their tests need."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple


class Release(NamedTuple):
    """A release of a project, called as its package is, or as the first of `packages`.

    archive, sha256: below the pool's directory; "" for the one that //3rdparty/opam:default locks. opam: "overlay" where the
    overlay's opam file takes the place of the archive's, or of none. version: of packages whose opam files say none. tests: by
    package, what the output of its tests has, as a pattern ("" for anything), with a number of tests as its group, if it has one;
    other packages have no tests that can run here. touches: what these use of the machine."""

    system: str
    packages: Tuple[str, ...]
    archive: str = ""
    sha256: str = ""
    opam: str = ""
    version: str = ""
    has: str = ""
    tests: Mapping[str, str] = {}
    touches: str = ""


RELEASES: Dict[str, Release] = {
    # Its own opam file asks for obus, which is of other versions of lwt in Debian.
    "0install": Release("dune", ("0install", "0install-solver"), opam="overlay"),
    "astring": Release(
        "topkg, ocamlbuild",
        ("astring",),
        "o/ocaml-astring/ocaml-astring_0.8.5.orig.tar.bz2",
        "865692630c07c3ab87c66cdfc2734c0fdfc9c34a57f8e89ffec7c7d15e7a70fa",
        version="0.8.5",
    ),
    "base64": Release(
        "dune",
        ("base64",),
        "o/ocaml-base64/ocaml-base64_3.5.2.orig.tar.gz",
        "279ce9cbbb4bb00d6f380c61ed70fb8f63e24ddf2ec4c40d818d189f84bfb905",
        version="3.5.2",
        tests={"base64": r"Test Successful in \S+ (\d+) tests? run"},
    ),
    "cppo": Release("dune", ("cppo",), opam="overlay", tests={"cppo": ""}),
    "csexp": Release("dune", ("csexp",)),
    "fileutils": Release(
        "dune",
        ("fileutils",),
        "o/ocaml-fileutils/ocaml-fileutils_0.6.6.orig.tar.gz",
        "592036194ad46ae5b8f9d8060c5eb2dfec2d0cdf84b92857b866de3cc9357ecb",
        version="0.6.6",
        tests={"fileutils": r"Ran: (\d+) tests"},
        touches="files",
    ),
    "lwt": Release("dune", ("lwt", "lwt_react"), has="C stubs"),
    "num": Release(
        "make",
        ("num",),
        "o/ocaml-num/ocaml-num_1.6.orig.tar.gz",
        "b5cce325449aac746d5ca963d84688a627cca5b38d41e636cf71c68b60495b3e",
        has="C stubs",
        tests={"num": "TESTS COMPLETED SUCCESSFULLY"},
    ),
    "ocplib-endian": Release("dune", ("ocplib-endian",), tests={"ocplib-endian": ""}),
    "ocurl": Release("configure, make", ("ocurl",), has="C stubs", tests={"ocurl": ""}),
    "ppx_compare": Release(
        "dune",
        ("ppx_compare",),
        "p/ppx-compare/ppx-compare_0.17.0.orig.tar.gz",
        "f0b23eb78082ef4dc71a66939bbc63c6b0cc2cf6a4744a906b7a2c016cbe3098",
        has="ppx",
    ),
    "react": Release("topkg, ocamlbuild", ("react",)),
    "ssl": Release(
        "dune",
        ("ssl",),
        "o/ocaml-ssl/ocaml-ssl_0.7.0.orig.tar.gz",
        "efc12652cee0dc3e5abf1cba7c87cb5e55dc919c8f4093882a7a6a53ad1efaad",
        version="0.7.0",
        has="C stubs",
        tests={"ssl": r"Test Successful in \S+ (\d+) tests? run"},
        touches="localhost",
    ),
    "xmlm": Release("topkg, ocamlbuild", ("xmlm",)),
    "yojson": Release("dune", ("yojson",)),
    "zarith": Release(
        "configure, make",
        ("zarith",),
        "o/ocaml-zarith/ocaml-zarith_1.14.orig.tar.gz",
        "878e204fac83b547a66f8fc1f32ad8b30167f41d64892025d5f8e9104da47c0d",
        has="C stubs",
    ),
}

# A project, a file of a test of it, and what in it is replaced by what, so that a test fails.
BROKEN = {"base64": ("test/test.ml", '"Zg=="', '"Zh=="')}

# opam's name -> version and .debs: libraries of Debian's OCaml, whose releases' archives the pool has not.
DEBIAN: Dict[str, Tuple[str, ...]] = {
    "alcotest": ("1.8.0", "libalcotest-ocaml-dev"),
    "base": ("v0.17.1", "libbase-ocaml-dev"),
    "bos": ("0.2.1", "libbos-ocaml-dev"),
    "conf-gmp": ("4", "libgmp-dev"),
    "conf-libssl": ("4", "libssl-dev", "pkg-config"),
    "fmt": ("0.10.0", "libfmt-ocaml-dev"),
    "ounit": ("2.2.7", "libounit-ocaml-dev"),
    "ounit2": ("2.2.7", "libounit-ocaml-dev"),
    "ppxlib": ("0.35.0", "libppxlib-ocaml-dev"),
    "ppxlib_jane": ("v0.17.2", "libppxlib-jane-ocaml-dev"),
    "rresult": ("0.7.0", "librresult-ocaml-dev"),
}

_DEBIANS = "/usr/lib/x86_64-linux-gnu/ocaml/5.3.0"


def debian_package(name: str) -> Tuple[str, str]:
    """The path below `packages/` and the text of the opam file that has Debian's own library. findlib and dune find it by
    OCAMLPATH."""
    version, *debs = DEBIAN[name]
    listed = " ".join(f'"{deb}"' for deb in debs)
    head = 'opam-version: "2.0"\nmaintainer: "me@example.org"\nflags: conf\ndepends: ["ocaml-system"]\n'
    text = f'{head}depexts: [{listed}]\nsetenv: [OCAMLPATH = "{_DEBIANS}"]\n'
    return f"{name}/{name}.{version}/opam", text
