"""The environment in which a switch is used: the file that a shell reads."""

from __future__ import annotations

from typing import Dict, Iterable, List, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.exporting.relocate import OLD

FILE = "env.sh"

# Of the image's user, and of opam itself, which does not know this switch.
_NOT_HERE = ("HOME", "LANG", "OPAM_LAST_ENV", "OPAMROOT", "OPAMSWITCH")

_OLD = OLD.decode()


def parts_of(
    variables: Iterable[str], prefix: str, own_compiler: bool, findlib: bool
) -> Dict[str, Tuple[bool, List[str]]]:
    """By name, what a variable gets: whether it is a list that the shell's own value ends, and its parts.

    variables: `NAME=value` as opam has them in an image. What they say of the base's directories is not true of this machine:
    of a list only the switch's own directories are taken, and what the list is elsewhere comes behind them.
    """
    found: Dict[str, Tuple[bool, List[str]]] = {}
    for variable in variables:
        name, _, value = variable.partition("=")
        if name in _NOT_HERE:
            continue
        parts = value.split(":")
        ours = [_moved(part, prefix) for part in parts if _is_ours(part)]
        if not name.isidentifier() or not name.isascii():
            raise ToolError(f"a package sets the variable {name!r:.80}, which no shell takes")
        if ours and (len(parts) > 1 or name == "PATH"):
            found[name] = (True, ours)
        else:
            found[name] = (False, [value.replace(_OLD, prefix)])
    found["OPAM_SWITCH_PREFIX"] = (False, [prefix])
    # Programs have the directory where they were built in them, and ask these first.
    if own_compiler:
        found["OCAMLLIB"] = (False, [f"{prefix}/lib/ocaml"])
    if findlib:
        found["OCAMLFIND_CONF"] = (False, [f"{prefix}/lib/findlib.conf"])
        if own_compiler:
            found["OCAMLFIND_LDCONF"] = (False, [f"{prefix}/lib/ocaml/ld.conf"])
    found["OCAMLPATH"] = (True, [f"{prefix}/lib"])
    return found


def shell_text(resolve: str, variables: Dict[str, Tuple[bool, List[str]]]) -> str:
    """What a POSIX shell reads. To read it twice changes nothing more."""
    lines = [
        f"# The opam packages of the resolve {resolve}, for the programs of this machine. Written by `pants export`.",
        "# A shell, or direnv (`source_env`), reads it:  . dist/export/opam/NAME/env.sh",
    ]
    for name, (is_list, parts) in sorted(variables.items()):
        if not is_list:
            lines.append(f"export {name}={_quoted(':'.join(parts))}")
            continue
        # With nothing behind the colon, man looks where it does without the variable, too.
        rest = ":${MANPATH:-}" if name == "MANPATH" else f"${{{name}:+:${name}}}"
        for part in reversed(parts):
            lines += [
                f'case ":${{{name}:-}}:" in',
                f"  *{_quoted(f':{part}:')}*) ;;",
                f"  *) {name}={_quoted(part)}{rest} ;;",
                "esac",
            ]
        lines.append(f"export {name}")
    return "\n".join(lines) + "\n"


def _is_ours(part: str) -> bool:
    return part == _OLD or part.startswith(f"{_OLD}/")


def _moved(part: str, prefix: str) -> str:
    return prefix + part[len(_OLD) :]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
