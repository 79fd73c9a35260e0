"""The environment in which a switch is used: the file that a shell reads."""

from __future__ import annotations

from typing import Dict, Iterable, List, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.exporting.relocate import OLD

FILE = "env.sh"

# Of the image's user, and of opam itself, which does not know this switch.
_NOT_HERE = ("HOME", "LANG", "OPAM_LAST_ENV", "OPAMROOT", "OPAMSWITCH")

# By these a compiler, or findlib, finds its library: another switch's would be read by this one's programs.
_OF_COMPILERS = ("CAMLLIB", "OCAMLLIB", "OCAMLFIND_CONF", "OCAMLFIND_LDCONF")

# A shell's function: a list (`a:b`) as `:a:b`, without what is of the switch that was used before, or of this one.
_REST = """\
_opam_rest() {{
  [ -n "$1" ] || return 0
  _opam_in="$1:" _opam_out=
  while [ -n "$_opam_in" ]; do
    _opam_part="${{_opam_in%%:*}}" _opam_in="${{_opam_in#*:}}"
    case "$_opam_part" in
      {prefix}/* | "${{OPAM_SWITCH_PREFIX:-/none}}"/*) ;;
      *) _opam_out="$_opam_out:$_opam_part" ;;
    esac
  done
  printf %s "$_opam_out"
}}"""

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
    """What a POSIX shell reads. To read it twice changes nothing more; of a switch that it used before, opam's or another one
    that was exported, nothing stays."""
    [prefix] = variables["OPAM_SWITCH_PREFIX"][1]
    lines = [
        f"# The opam packages of the resolve {resolve}, for the programs of this machine. Written by `pants export`.",
        "# A shell, or direnv (`source_env`), reads it:  . dist/export/opam/NAME/env.sh",
        _REST.format(prefix=_quoted(prefix)),
    ]
    for name in sorted({*variables, *_OF_COMPILERS} - {"OPAM_SWITCH_PREFIX"}):
        if name not in variables:
            lines.append(f"unset {name}")
            continue
        is_list, parts = variables[name]
        value = _quoted(":".join(parts))
        lines.append(f'export {name}={value}"$(_opam_rest "${{{name}:-}}")"' if is_list else f"export {name}={value}")
        if name == "MANPATH":
            # With nothing behind the colon, man looks where it does without the variable, too.
            lines.append('case "$MANPATH" in *:*) ;; *) MANPATH="$MANPATH:" ;; esac')
    lines += [f"export OPAM_SWITCH_PREFIX={_quoted(prefix)}", "unset -f _opam_rest"]
    return "\n".join(lines) + "\n"


def _is_ours(part: str) -> bool:
    return part == _OLD or part.startswith(f"{_OLD}/")


def _moved(part: str, prefix: str) -> str:
    return prefix + part[len(_OLD) :]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
