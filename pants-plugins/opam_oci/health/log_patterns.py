"""The lines of logs that say why a build failed, as compilers, linkers, configure, make, dune, opam and shells write them.

A line is *certain* where its program stops with it, a *hint* where a build may go on after it, and *general* where it says only
that something failed.
"""

from __future__ import annotations

import re
from typing import Sequence

from opam_oci.health.results import FailureKind

# `[ERROR] The compilation of x.1 failed at "make test".`, `+ /usr/bin/make "test" (CWD=...)`, `command  make test`
FAILED_AT = re.compile(r"failed at \"(?P<command>.+)\"\.?$")
RAN = re.compile(r"(?:\+ (?P<command>.+?) \(CWD=.*\)$)")

_TARGETS = r"(?:run-?)?(?:check|tests?|unit-?tests?)"
TEST_COMMAND = re.compile(
    r"(?:^|/|\s)(?:(?:dune|jbuilder) (?:runtest|test)\b"
    rf"|g?make (?:-\S+ |\S+=\S+ )*{_TARGETS}(?:\s|$)"
    rf"|(?:ocaml )?(?:setup\.\w+|\./setup|topfile/\S+) -?{_TARGETS}(?:\s|$)"
    r"|topkg(?:\.ml)? test|pkg/pkg\.ml test|\.?/?(?:run_?)?tests?(?:\.(?:sh|exe|native|byte))?(?:\s|$)"
    r"|(?:pytest|ctest|prove)\b)"
)
# One command that builds and tests.
TESTS_TOO = re.compile(r"@+(?:\S+/)?(?:runtest|test|check)\b")
BUILDS_TOO = re.compile(r"@+(?:install|default|all)\b")
TEST_FAILED = re.compile(
    r"^File \"(?:\S+/)?tests?/|^\(cd _build/\S*/tests?(?:/\S*)? &&|_build/\S*/tests?/\S*\.(?:exe|bc)\b|\b\d+ tests? failed"
    r"|^Fail(?:ed|ure):? .*tests?\b|\btests? (?:suite )?(?:failed|failure)|^FAIL(?:ED)?\b|^\s*\[FAIL\]|^Test failed",
    re.IGNORECASE,
)

# Lines of checks that went well, of probes, and what make was told to go on after.
HARMLESS = re.compile(
    r"\(ignored\)\s*$|\[\s*(?:OK|PASS|SKIP)\s*\]|^(?:ok|PASS|not ok .*# TODO)\b"
    r"|(?:\.\.\. ?|: )(?:ok|passed|PASS|skipped|yes|no)\s*$"
    r"|conftest|ocaml-configurator|^checking |^\+ |^\s*(?://|\(\*|#include|#define)|^Warning\b|\bwarning: "
)

# The machine.
MACHINE = re.compile(
    r"No space left on device|Disk quota exceeded|\bENOSPC\b|Input/output error"
    r"|(?:virtual memory exhausted|[Cc]annot allocate memory|Out of memory|out of memory allocating|exception Out_of_memory)"
    r"|(?:got|by|with|received) signal (?:9|KILL|SIGKILL)\b|Killed signal terminated program|^(?:.*: line \d+:\s+\d+ )?Killed\b"
    r"|\*\*\* \[.*\] (?:Killed|Error 137)\s*$|exit(?:-| |ed with )?(?:code|status) +137\b"
    r"|Too many open files|Resource temporarily unavailable|the kernel ended some of it|was killed by signal 9\b"
)
NETWORK = re.compile(
    r"Could not resolve|[Tt]emporary failure in name resolution|Name or service not known"
    r"|Connection (?:timed out|refused|reset)|Operation timed out|[Nn]etwork is unreachable|No route to host|Failed to connect to"
    r"|curl: \((?:6|7|18|28|35|52|56)\)|curl error code (?:5\d\d|429)|(?:error|HTTP)\D{0,12}\b(?:502|503|504|429)\b"
    r"|TLS handshake timeout|early EOF|The remote end hung up|unexpected disconnect|[Dd]ownload\w* .*timed? ?out"
)

OCAML_FILE = re.compile(r"File \"[^\"]*\", lines? \d+")
OCAML_ERROR = re.compile(r"(?:Error|Fatal error|\*\*Error\*\*)\b")
# What stands between the file's line and the error: excerpts with numbers, marks, dots.
EXCERPT = re.compile(r"^\s*(?:\d+ \||\^|\.\.\.|$|.*\^+\s*$)")

_C_ERROR = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?error: |^(?:gcc|g\+\+|cc1?|clang|cc1plus): (?:fatal )?error: ")
_HEADER = re.compile(r"fatal error: '?(?P<header>[^:'\s]+)'?(?:: No such file or directory| file not found)")
_LD = re.compile(
    r"(?:^|/)ld(?:\.\w+)?: (?:cannot find |error: )|: undefined reference to |undefined symbol|unable to find library"
    r"|multiple definition of "
)
_LIBRARY = re.compile(r"(?:cannot find|unable to find library) -l(?P<library>\S+?):?(?:\s|$)")
_CONFIGURE = re.compile(
    r"^(?:configure|\S*/configure): error: |^configure\.\w+:\d+: error: |^CMake Error|^meson\.build:\d+:\d+: ERROR"
)
_OTHER = re.compile(
    r"^error(?:\[E\d+\])?: |^[\w.]*(?:Error|Exception): |^\S+\.(?:ml[iyl]?|opam|v|mly):\d+.*: [Ee]rror"
    r"|^E: (?!Unable to locate)|^ocamlfind: (?!.*not found)"
    r"|^\*\*\* OCaml.*error|^\S+: internal (?:compiler )?error|^Assertion .* failed|^Fatal error: exception |^Uncaught exception"
    r"|^Exception: |^Segmentation fault|core dumped|^\s*\d+ tests? failed|^FAIL(?:ED)?[: ]"
    r"|^\s*\[FAIL\]|^Test .*failed|^SyntaxError"
    # A build that writes where it may not, always does.
    r"|: Read-only file system\b"
)
_PLAIN_ERROR = re.compile(r"^(?:\S+: )?(?:Error|ERROR)(?: \([^)]*\))?: |^Error \(|^Error: ")

GENERAL = re.compile(
    r"\*\*\* |^\[ERROR\]|^collect2: error|exited with code [1-9]|^(?:=|#)+ ERROR|[Bb]uild failed|^E: "
    r"|returned non-zero exit status|^\s*error\b|: error: | failed with exit|^Failed\b"
)
# Errors that say no more than that a program failed.
REPEATS = re.compile(
    r"^Fatal error: exception (?:.*\bFailure|.*Configurator|.*Exit|End_of_file|.*Unix_error)|^Exception: |^Uncaught exception"
    r"|^configure: error: (?:Package requirements|.*(?:not found|missing|required|failed))|^error: "
)

# Hints.
_PKG_CONFIG = re.compile(
    r"No package '[^']+' found|Package '?\S+?'?,? (?:was not found|required by .*not found)|Requested '.+' but version of"
    r"|not found in the pkg-config"
)
_NO_COMMAND = re.compile(
    r"(?:^|: )(?P<command>[\w.+/-]+): (?:command )?not found\s*$"
    r"|^make(?:\[\d+\])?: (?P<made>[\w.+/-]+): (?:No such file or directory|Command not found)"
    r"|env: ['‘](?P<env>[\w.+/-]+)['’]: No such file|\"(?P<opam>[\w.+/-]+)\": command not found"
    r"|Program (?P<dune>[\w.+/-]+) not found in the tree or in PATH|execvp: (?P<exec>[\w.+/-]+): No such file"
)
_NO_MODULE = re.compile(
    r"No module named|Can't locate \S+\.pm in @INC|Could NOT find \w+|Could not find a package configuration file"
    r"|possibly undefined macro: (?:AM|AC|AX|PKG)_"
)
_SHARED = re.compile(r"error while loading shared libraries: (?P<shared>\S+?): cannot open")
_NO_OCAML = re.compile(r"ocamlfind: Package .* not found|Library \"[^\"]+\" (?:in .* )?not found")

# Programs, headers and libraries that opam packages bring, not Debian's.
_OCAML_PROGRAM = re.compile(
    r"^(?:ocaml|camlp|dune|jbuilder|menhir|opam|oasis|omake|cppo|atdgen|coq|rocq|odoc|topkg|ppx|js_of_ocaml|utop|alcotest|mdx|crunch|cmdliner|why3|hevea|sedlex)"
)
_OCAML_HEADER = re.compile(r"^(?:caml/|ocaml|config\.h$|.*stubs?\.h$|\.)")
_OCAML_LIBRARY = re.compile(r"^(?:asmrun|camlrun|unix|threads|str\b|bigarray|caml|.*(?:_stubs|caml|_c))")
# Headers that are written with quotes now and then, and come from Debian all the same.
_QUOTED_HEADERS = re.compile(
    r"^(?:(?:openssl|SDL2?|X11|GL|mysql|curl|libxml|python\d|boost|gtk|glib|cairo)[/\d]|(?:gmp|mpfr|zlib|ncurses|readline|ffi|sqlite3|pcre2?|ev|expat|event)\.h$)"
)
_CONFIGURE_LACKS = re.compile(
    r"not found|missing|required|requirements|not met|could not find|cannot find|can't find|no \S+ (?:found|in)|install"
    r"|unable to find|need(?:s|ed)? ",
    re.IGNORECASE,
)
_OCAML_LACKS = re.compile(r"ocaml|camlp\d|findlib|dune|menhir|opam\b|coq|rocq", re.IGNORECASE)


def is_certain(line: str) -> bool:
    """Whether its program stops with this line."""
    return bool(
        _C_ERROR.search(line)
        or _LD.search(line)
        or _CONFIGURE.search(line)
        or _PLAIN_ERROR.search(line)
        or _OTHER.search(line)
        or _SHARED.search(line)
        or _NO_OCAML.search(line)
    )


def is_hint(line: str) -> bool:
    """Whether something is missing, by this line; a build may do without."""
    return bool(_PKG_CONFIG.search(line) or _NO_COMMAND.search(line) or _NO_MODULE.search(line))


def kind_of_certain(lines: Sequence[str], number: int) -> FailureKind:
    """DEPEXT where what is missing comes from Debian, BUILD otherwise."""
    line = lines[number]
    header, library, shared = _HEADER.search(line), _LIBRARY.search(line), _SHARED.search(line)
    if header:
        lacks = _is_debian_header(header.group("header"), lines[number + 1 : number + 3])
    elif library:
        lacks = not _OCAML_LIBRARY.match(library.group("library"))
    elif shared:
        lacks = not shared.group("shared").startswith("dll")
    elif _CONFIGURE.search(line):
        after = " ".join(lines[number : number + 6])
        lacks = bool(_CONFIGURE_LACKS.search(line) or _NO_MODULE.search(after)) and not _OCAML_LACKS.search(line)
    elif _NO_COMMAND.search(line):
        lacks = kind_of_hint(line) is FailureKind.DEPEXT
    else:
        lacks = bool(_PKG_CONFIG.search(line) or _NO_MODULE.search(line))
    return FailureKind.DEPEXT if lacks else FailureKind.BUILD


def kind_of_hint(line: str) -> FailureKind:
    """DEPEXT, unless what is missing is the project's own or comes with opam packages."""
    found = _NO_COMMAND.search(line)
    if not found:
        return FailureKind.DEPEXT
    name = next(name for name in found.groups() if name)
    own = "/" in name and not name.startswith(("/usr/", "/bin/"))
    return FailureKind.BUILD if own or _OCAML_PROGRAM.match(name.rsplit("/", 1)[-1]) else FailureKind.DEPEXT


def _is_debian_header(header: str, excerpt: Sequence[str]) -> bool:
    if _OCAML_HEADER.match(header):
        return False
    if _QUOTED_HEADERS.match(header):
        return True
    return not any(f'"{header}"' in line for line in excerpt)
