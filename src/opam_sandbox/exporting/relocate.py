"""What files of a switch say of where it is, said of another place.

opam's packages have the path of their switch in them: in configuration, in `#!` lines, in programs. Text is written anew. Of
compiled files the length is fixed, so that they are left as they are: variables of the environment tell the programs among
them where the switch is, and debuggers' information is only looked up in vain.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from opam_sandbox.errors import ToolError

# Where the switch is in a layer.
SWITCH = "home/opam/.opam/default"
OLD = f"/{SWITCH}".encode()

# Of a longer path, such as /home/opam/.opam/default-2, it is a part only; before it may stand an option's letter (-L, -I).
_NAMED = re.compile(rb"(?:(?<![A-Za-z0-9_.])|(?<=-[A-Za-z]))" + re.escape(OLD) + rb"(?![A-Za-z0-9_.+-])")

# The kernel reads so many bytes of a script's first line (BINPRM_BUF_SIZE), the `#!` and the line's end among them.
_LONGEST_LINE = 255

# What shells, OCaml's strings, make, and variables with lists of directories take as it is.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_.+@%,=~-]+)+", re.ASCII)

# OCaml 5.2 and newer: "sh" or "exe", a line end, the directory of ocamlrun, a zero byte, a line end, a program.
_LAUNCH_INFO = "lib/ocaml/runtime-launch-info"
_LAUNCH = re.compile(rb"[a-z]+\n[^\0\n]*\0\n")


class Relocated(NamedTuple):
    """content: what the file holds in its new place. left: whether it still names the old one."""

    content: bytes
    left: bool


def check_prefix(prefix: str) -> None:
    """Raise ToolError for a path of which not all programs can be told."""
    if not _PLAIN.fullmatch(prefix):
        raise ToolError(
            f"a switch at {prefix!r} would be of no use: shells, dune or OCaml's tools stumble over that path. They take "
            "letters of ASCII, digits and any of _.+@%,=~- in the names of directories: move the build root, or set Pants' "
            "[GLOBAL].pants_distdir"
        )


def relocate(name: str, content: bytes, prefix: str) -> Relocated:
    """What a file, `name` in the switch, holds when the switch is at `prefix`. Raises ToolError where that cannot be said."""
    if OLD not in content:
        return Relocated(content, False)
    new = prefix.encode()
    head = b""
    if content.startswith(b"#!"):
        # Of OCaml's bytecode, too, whose parts are found from its end.
        line, end, content = content.partition(b"\n")
        head = _NAMED.sub(lambda _: new, line) + end
        if len(head) > _LONGEST_LINE and head != line + end:
            raise ToolError(
                f"{name} is a script whose first line would be too long, {len(head)} bytes ({head[:80].decode(errors='replace')}"
                f"...): Linux takes {_LONGEST_LINE}. Move the build root to a place with a shorter path"
            )
    elif name == _LAUNCH_INFO:
        found = _LAUNCH.match(content)
        if found:
            head, content = _NAMED.sub(lambda _: new, found[0]), content[found.end() :]
    if b"\0" not in content and not _is_compiled(content):
        content = _NAMED.sub(lambda _: new, content)
    content = head + content
    return Relocated(content, OLD in content)


def _is_compiled(content: bytes) -> bool:
    """Of what has no zero byte: an archive of object files, or what OCaml writes."""
    return content.startswith((b"!<arch>\n", b"Caml1999"))
