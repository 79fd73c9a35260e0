"""classify: the kind of a failed build, and the line of its log that says so."""

# Lines of logs are as long as they are.
# ruff: noqa: E501

from __future__ import annotations

import pytest

from opam_oci.health.classify import BuildHints, classify
from opam_oci.health.results import FailureKind

TRANSIENT, DEPEXT, TEST, BUILD = FailureKind.TRANSIENT, FailureKind.DEPEXT, FailureKind.TEST, FailureKind.BUILD
DUNE = '+ /usr/bin/dune "build" "-p" "x" "-j" "2" "@install" (CWD=/home/opam/.opam/default/.opam-switch/build/x.1)\n'
RUNTEST = DUNE.replace('"build"', '"runtest"').replace(' "@install"', "")
BOTH = DUNE.replace('"@install"', '"@install" "@runtest"')
MAKE = '+ /usr/bin/make "all" (CWD=/home/opam/.opam/default/.opam-switch/build/x.1)\n'
CONFIGURE = MAKE.replace('/usr/bin/make "all"', './configure "--prefix=/home/opam/.opam/default"')
END = '[ERROR] The compilation of x.1 failed at "{}".\n\n#=== ERROR while compiling x.1 ====#\n# exit-code   {}\n'
AT_DUNE, AT_MAKE = END.format("dune build -p x -j 2 @install", 1), END.format("make all", 2)

SAMPLES = {
    "unbound module": (
        DUNE + '- File "src/x.ml", line 3, characters 5-8:\n- 3 | open Fox\n-          ^^^\n- Error: Unbound module Fox\n' + AT_DUNE,
        BUILD,
        'File "src/x.ml", line 3, characters 5-8: Error: Unbound module Fox',
    ),
    "a type, in two lines": (
        'File "a.ml", line 1, characters 0-3:\nError: This expression has type int but an expression was expected of type\n'
        "         string\nmake: *** [Makefile:3: a.cmo] Error 2\n",
        BUILD,
        'File "a.ml", line 1, characters 0-3: Error: This expression has type int but an expression was expected of type string',
    ),
    "a warning as an error": (
        'File "w.ml", line 2, characters 4-5:\n2 | let x = 1\n        ^\nError (warning 32 [unused-value-declaration]): unused value x.\n',
        BUILD,
        'File "w.ml", line 2, characters 4-5: Error (warning 32 [unused-value-declaration]): unused value x.',
    ),
    "a warning before the error": (
        'File "a.ml", line 9, characters 1-2:\nWarning 33 [unused-open]: unused open Error.\n'
        'File "b.ml", line 1, characters 0-1:\nError: Syntax error\n',
        BUILD,
        'File "b.ml", line 1, characters 0-1: Error: Syntax error',
    ),
    "a library of dune": (
        DUNE + 'File "lib/dune", line 3, characters 12-15:\n3 |  (libraries lwt))\n                ^^^\nError: Library "lwt" not found.\n'
        '-> required by library "x" in _build/default/lib\n',
        BUILD,
        'File "lib/dune", line 3, characters 12-15: Error: Library "lwt" not found.',
    ),
    "a rule of dune": (
        DUNE + 'File "src/dune", line 5, characters 0-90:\n5 | (rule\n6 |  (targets a.ml)\n'
        "(cd _build/default/src && ./gen.exe) > _build/default/src/a.ml\nbad magic number\n",
        BUILD,
        'File "src/dune", line 5, characters 0-90: bad magic number',
    ),
    "a program of dune": (
        'File "dune", line 4, characters 7-10:\n4 |   (run m4 x)\n           ^^\nError: Program m4 not found in the tree or in PATH\n (context: default)\n',
        DEPEXT,
        'File "dune", line 4, characters 7-10: Error: Program m4 not found in the tree or in PATH',
    ),
    "a program of opam's in dune": (
        'File "dune", line 4, characters 7-13:\nError: Program menhir not found in the tree or in PATH\n',
        BUILD,
        'File "dune", line 4, characters 7-13: Error: Program menhir not found in the tree or in PATH',
    ),
    "a header": (
        MAKE + "gcc -c zstubs.c\nzstubs.c:12:10: fatal error: zlib.h: No such file or directory\n   12 | #include <zlib.h>\n"
        "compilation terminated.\nmake: *** [Makefile:7: zstubs.o] Error 1\n" + AT_MAKE,
        DEPEXT,
        "zstubs.c:12:10: fatal error: zlib.h: No such file or directory",
    ),
    "a header, by clang": (
        "x.c:1:10: fatal error: 'sqlite3.h' file not found\n#include <sqlite3.h>\n1 error generated.\n",
        DEPEXT,
        "x.c:1:10: fatal error: 'sqlite3.h' file not found",
    ),
    "OCaml's header": (
        'x.c:3:10: fatal error: caml/address_class.h: No such file or directory\n    3 | #include <caml/address_class.h>\n',
        BUILD,
        "x.c:3:10: fatal error: caml/address_class.h: No such file or directory",
    ),
    "the project's header": (
        'x.c:3:10: fatal error: vendor_table.h: No such file or directory\n    3 | #include "vendor_table.h"\n',
        BUILD,
        "x.c:3:10: fatal error: vendor_table.h: No such file or directory",
    ),
    "C": (
        "a.c: In function 'f':\na.c:7:3: warning: unused variable 'e' [-Wunused-variable]\n"
        "a.c:9:12: error: too few arguments to function 'caml_alloc'\nmake: *** [a.o] Error 1\n",
        BUILD,
        "a.c:9:12: error: too few arguments to function 'caml_alloc'",
    ),
    "a library": (
        "gcc -o x x.o -lgmp\n/usr/bin/ld: cannot find -lgmp: No such file or directory\ncollect2: error: ld returned 1 exit status\n"
        'File "caml_startup", line 1:\nError: Error during linking (exit code 1)\n',
        DEPEXT,
        "/usr/bin/ld: cannot find -lgmp: No such file or directory",
    ),
    "OCaml's library": (
        "/usr/bin/ld: cannot find -lcamlrun_shared: No such file or directory\ncollect2: error: ld returned 1 exit status\n",
        BUILD,
        "/usr/bin/ld: cannot find -lcamlrun_shared: No such file or directory",
    ),
    "an undefined reference": (
        "/usr/bin/ld: a.o: in function `f':\na.c:(.text+0x12): undefined reference to `old_name'\ncollect2: error: ld returned 1 exit status\n",
        BUILD,
        "a.c:(.text+0x12): undefined reference to `old_name'",
    ),
    "configure": (
        CONFIGURE + "checking for gcc... gcc\nchecking for gtk... no\nconfigure: error: gtk+-3.0 was not found: install it\n"
        + END.format("./configure --prefix=/home/opam/.opam/default", 1),
        DEPEXT,
        "configure: error: gtk+-3.0 was not found: install it",
    ),
    "configure wants OCaml's": (
        "checking for ocamlfind... no\nconfigure: error: ocamlfind is required\n",
        BUILD,
        "configure: error: ocamlfind is required",
    ),
    "configure, of its own": (
        "configure: error: unsupported architecture: riscv\n",
        BUILD,
        "configure: error: unsupported architecture: riscv",
    ),
    "pkg-config": (
        DUNE + 'File "src/dune", line 9, characters 0-80:\n9 | (rule\n'
        "Package libuv was not found in the pkg-config search path.\nPerhaps you should add the directory containing `libuv.pc'\n"
        "No package 'libuv' found\nFatal error: exception Failure(\"pkg-config libuv failed\")\n" + AT_DUNE,
        DEPEXT,
        "Package libuv was not found in the pkg-config search path.",
    ),
    "pkg-config alone": (
        "+ pkg-config \"alsa\" (CWD=/x)\n- Package alsa was not found in the pkg-config search path.\n- No package 'alsa' found\n"
        + END.format("pkg-config alsa", 1),
        DEPEXT,
        "Package alsa was not found in the pkg-config search path.",
    ),
    "pkg-config that the build can do without": (
        "No package 'libev' found\nlibev is off\n" + "ocamlfind ocamlopt -c y.ml\n" * 100
        + 'File "y.ml", line 1, characters 0-1:\nError: Unbound value z\n',
        BUILD,
        'File "y.ml", line 1, characters 0-1: Error: Unbound value z',
    ),
    "a command": (
        MAKE + "/bin/sh: 1: autoreconf: not found\nmake: *** [Makefile:2: configure] Error 127\n" + AT_MAKE,
        DEPEXT,
        "/bin/sh: 1: autoreconf: not found",
    ),
    "a command of opam's": (
        "/bin/sh: 1: ocamlbuild: not found\nmake: *** [Makefile:2: all] Error 127\n",
        BUILD,
        "/bin/sh: 1: ocamlbuild: not found",
    ),
    "the project's command": ("sh: 1: ./autogen.sh: not found\n", BUILD, "sh: 1: ./autogen.sh: not found"),
    "make has no command": (
        "make: cmake: No such file or directory\nmake: *** [Makefile:9: lib] Error 127\n",
        DEPEXT,
        "make: cmake: No such file or directory",
    ),
    "Python": (
        'Traceback (most recent call last):\n  File "gen.py", line 1, in <module>\n    import yaml\n'
        "ModuleNotFoundError: No module named 'yaml'\nmake: *** [Makefile:4: gen] Error 1\n",
        DEPEXT,
        "ModuleNotFoundError: No module named 'yaml'",
    ),
    "a shared library": (
        "./tool: error while loading shared libraries: libpcre.so.3: cannot open shared object file: No such file or directory\n",
        DEPEXT,
        "./tool: error while loading shared libraries: libpcre.so.3: cannot open shared object file: No such file or directory",
    ),
    "CMake": (
        "-- Detecting C compiler - done\nCMake Error at CMakeLists.txt:12 (find_package):\n  Could not find a package configuration file provided by \"LLVM\"\n",
        DEPEXT,
        "CMake Error at CMakeLists.txt:12 (find_package):",
    ),
    "findlib": (
        "ocamlfind: Package `zarith' not found\nmake: *** [Makefile:5: x.cmx] Error 2\n",
        BUILD,
        "ocamlfind: Package `zarith' not found",
    ),
    "make alone": (
        MAKE + "make: *** No rule to make target 'all'.  Stop.\n" + AT_MAKE,
        BUILD,
        "make: *** No rule to make target 'all'.  Stop.".replace("  ", " "),
    ),
    "make that went on": (
        "make: [Makefile:3: clean] Error 1 (ignored)\nrm: cannot remove 'x'\nmake: *** [Makefile:9: all] Error 3\n",
        BUILD,
        "make: *** [Makefile:9: all] Error 3",
    ),
    "opam alone": (
        "[ERROR] The compilation of x.1 failed at \"./build.sh\".\n",
        BUILD,
        '[ERROR] The compilation of x.1 failed at "./build.sh".',
    ),
    "an exception": (
        DUNE + "Fatal error: exception Invalid_argument(\"index out of bounds\")\n" + AT_DUNE,
        BUILD,
        'Fatal error: exception Invalid_argument("index out of bounds")',
    ),
    "a full disk": (
        'File "a.ml", line 1:\nError: I/O error: a.cmx: No space left on device\nmake: *** [a.cmx] Error 2\n',
        TRANSIENT,
        'File "a.ml", line 1: Error: I/O error: a.cmx: No space left on device',
    ),
    "a full disk, by tar": (
        "tar: x/y: Cannot write: No space left on device\n[ERROR] The sources of x.1 could not be obtained\n",
        TRANSIENT,
        "tar: x/y: Cannot write: No space left on device",
    ),
    "a directory that builds may not write to": (
        "install: cannot create regular file '/usr/lib/x.so': Read-only file system\nmake: *** [install] Error 1\n",
        BUILD,
        "install: cannot create regular file '/usr/lib/x.so': Read-only file system",
    ),
    "killed, by gcc": (
        "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\nmake: *** [x.o] Error 1\n",
        TRANSIENT,
        "gcc: fatal error: Killed signal terminated program cc1",
    ),
    "killed, by dune": (DUNE + "Command got signal KILL.\n" + AT_DUNE, TRANSIENT, "Command got signal KILL."),
    "killed, by make": ("ocamlopt x.ml\nKilled\nmake: *** [x.cmx] Error 137\n", TRANSIENT, "Killed"),
    "no memory": ("cc1: virtual memory exhausted: Cannot allocate memory\n", TRANSIENT, "cc1: virtual memory exhausted: Cannot allocate memory"),
    "no name server": (
        "[ERROR] Failed to get sources of x.1: curl error\ncurl: (6) Could not resolve host: github.com\n",
        TRANSIENT,
        "curl: (6) Could not resolve host: github.com",
    ),
    "a slow server": (
        "fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection timed out\nmake: *** [fetch] Error 128\n",
        TRANSIENT,
        "fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection timed out",
    ),
    "a test": (
        RUNTEST + 'File "test/dune", line 1, characters 7-11:\n1 | (test\n           ^^^^\n2 |  (name t))\n'
        'Fatal error: exception File "test/t.ml", line 3, characters 0-6: Assertion failed\n' + END.format("dune runtest -p x -j 2", 1),
        TEST,
        'File "test/dune", line 1, characters 7-11: '
        'Fatal error: exception File "test/t.ml", line 3, characters 0-6: Assertion failed',
    ),
    "a cram test": (
        RUNTEST + 'File "test/cli.t", line 1, characters 0-0:\n--- test/cli.t\n+++ test/cli.t.corrected\n-  one\n+  two\n',
        TEST,
        'File "test/cli.t", line 1, characters 0-0: --- test/cli.t',
    ),
    "make check": (
        '+ /usr/bin/make "check" (CWD=/x)\n- FAIL: 3 of 20\nmake: *** [Makefile:8: check] Error 1\n' + END.format("make check", 2),
        TEST,
        "FAIL: 3 of 20",
    ),
    "tests with the build": (
        BOTH + "[OK]    a   0   first.\n[FAIL]  a   1   second.\n"
        "1 test failed.\n" + END.format("dune build -p x -j 2 @install @runtest", 1),
        TEST,
        "[FAIL] a 1 second.",
    ),
    "a build with tests": (
        BOTH + 'File "src/x.ml", line 1, characters 0-1:\nError: Unbound value z\n' + END.format("dune build -p x -j 2 @install @runtest", 1),
        BUILD,
        'File "src/x.ml", line 1, characters 0-1: Error: Unbound value z',
    ),
    "a test of the network": (
        RUNTEST + "refuses: Connection refused\nFatal error: exception Not_found\n" + END.format("dune runtest -p x", 1),
        TEST,
        "Fatal error: exception Not_found",
    ),
    "tests of full disks that are well": (
        RUNTEST + "[OK] ENOSPC: No space left on device\nwrite: No space left on device ... ok\nFatal error: exception Exit\n",
        TEST,
        "Fatal error: exception Exit",
    ),
    "a disk that is full in a test": (
        RUNTEST + "Fatal error: exception Sys_error(\"_build/x: No space left on device\")\n",
        TRANSIENT,
        'Fatal error: exception Sys_error("_build/x: No space left on device")',
    ),
    "colours": (
        "\x1b[1mFile \"\x1b[32msrc/a.ml\x1b[0m\", line 1, characters 0-1\x1b[0m:\n\x1b[1;31mError\x1b[0m: Unbound value \x1b[1mz\x1b[0m\n",
        BUILD,
        'File "src/a.ml", line 1, characters 0-1: Error: Unbound value z',
    ),
    "nothing that is known": ("one\ntwo\n\n", BUILD, "two"),
    "nothing": ("", BUILD, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    log, kind, line = SAMPLES[name]
    assert classify(log) == (kind, line)


def test_what_is_known_beside_the_log() -> None:
    offline = "curl: (6) Could not resolve host: github.com\nmake: *** [get] Error 6\n"
    assert classify(offline, BuildHints(offline=True)) == (BUILD, "curl: (6) Could not resolve host: github.com")
    said = MAKE.replace('"all"', '"conformance"') + "2 cases differ\nmake: *** [Makefile:3: conformance] Error 1\n"
    assert classify(said)[0] is BUILD
    assert classify(said, BuildHints(test_commands=("make conformance",)))[0] is TEST
    both = BOTH + 'File "src/x.ml", line 1, characters 0-1:\nError: Unbound value z\n'
    assert classify(both, BuildHints(test_commands=("dune build -p x -j 2 @install @runtest",)))[0] is BUILD
    assert classify("make: *** [all] Error 1\n", BuildHints(killed=True))[0] is TRANSIENT


LONG = {
    "one line": "a" * 1000,
    "colons": "x: " * 300 + "\n",
    "a path": 'File "' + "y/" * 400 + "\n",
    "escapes": "\x1b]" * 500,
    "marks": " ^" * 400 + "\n",
    "numbers": "1 " * 500,
    "carriage returns": "\r" * 999,
}


@pytest.mark.parametrize("name", LONG)
def test_long_logs(name: str) -> None:
    """10 MB, in lines and without, of what patterns look long at: a pattern that backtracks would not come to an end."""
    kind, line = classify(LONG[name] * (10_000_000 // len(LONG[name])) + "\nError: the end\n")
    assert kind is BUILD and line.endswith("Error: the end") and len(line) <= 300
