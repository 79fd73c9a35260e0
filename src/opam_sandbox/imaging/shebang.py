"""What runs a script: its first line as the kernel reads it, and env's arguments as GNU env reads them.

Sources: execve(2); coreutils manual, "env invocation".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple

# The kernel reads so many bytes of a file (BINPRM_BUF_SIZE).
LONGEST = 256

_SPACE = " \t\n\v\f\r"
_ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "#": "#", "$": "$", "\\": "\\", '"': '"', "'": "'"}
_LONG = {
    "argv0": True,
    "block-signal": False,
    "chdir": True,
    "debug": False,
    "default-signal": False,
    "help": False,
    "ignore-environment": False,
    "ignore-signal": False,
    "list-signal-handling": False,
    "null": False,
    "split-string": True,
    "unset": True,
    "version": False,
}
# What env looks in without a PATH: execvp(3).
WITHOUT_PATH = "/bin:/usr/bin"


@dataclass(frozen=True)
class EnvCommand:
    """What env runs: `path` is the PATH that it sets, None for the one it got; `rest` are the program's own arguments."""

    program: str
    path: Optional[str]
    rest: Tuple[str, ...] = ()


class EnvError(Exception):
    """env cannot run this, with the reason."""


def read_shebang(start: bytes) -> Optional[Tuple[str, str]]:
    """The interpreter and its one argument ("" for none), of the start of a file. None for what is no script."""
    if not start.startswith(b"#!"):
        return None
    line = start[2:LONGEST].partition(b"\n")[0].strip(b" \t")
    end = next((at for at, byte in enumerate(line) if byte in b" \t\0"), len(line))
    argument = line[end:].partition(b"\0")[0].strip(b" \t")
    return (os.fsdecode(line[:end]), os.fsdecode(argument)) if end else None


def env_command(argument: str, variables: Mapping[str, str]) -> EnvCommand:
    """What `env ARGUMENT SCRIPT` runs. `variables`: those that `${NAME}` may stand for. Raises EnvError."""
    waiting: List[str] = [argument] if argument else []
    path: Optional[str] = None
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            break
        if word == "-":  # as -i, the last option
            path = WITHOUT_PATH
            break
        if not word.startswith("-"):
            waiting.insert(0, word)
            break
        for option, value in _options(word, waiting):
            if option == "split-string":
                waiting[:0] = split(value, variables)
            elif option == "ignore-environment":
                path = WITHOUT_PATH
            elif option == "unset" and value == "PATH":
                path = WITHOUT_PATH
    while waiting and "=" in waiting[0]:
        name, _, value = waiting.pop(0).partition("=")
        if name == "PATH":
            path = value
    if not waiting:
        raise EnvError("names no program, so that env runs the script itself again and again")
    if argument == waiting[0] and any(space in argument for space in _SPACE):
        raise EnvError("is one name for env, which takes it apart only after -S")
    return EnvCommand(waiting[0], path, tuple(waiting[1:]))


def _options(word: str, waiting: List[str]) -> List[Tuple[str, str]]:
    """The options of one word of a command line, by their long names; a value may be the next word. Raises EnvError."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        known = [name] if name in _LONG else [one for one in _LONG if one.startswith(name)]
        if len(known) != 1:
            raise EnvError(f"has the option {word}, which env does not know")
        if _LONG[known[0]] and not equals:
            value = _next(word, waiting)
        return [(known[0], value)]
    found = []
    for at, letter in enumerate(word[1:], 2):
        with_value = {"S": "split-string", "u": "unset", "C": "chdir", "a": "argv0"}.get(letter)
        if with_value:
            found.append((with_value, word[at:] or _next(word, waiting)))
            break
        flag = {"i": "ignore-environment", "0": "null", "v": "debug"}.get(letter)
        if flag is None:
            raise EnvError(f"has the option -{letter}, which env does not know")
        found.append((flag, ""))
    return found


def _next(word: str, waiting: List[str]) -> str:
    if not waiting:
        raise EnvError(f"has the option {word} without its value")
    return waiting.pop(0)


def split(text: str, variables: Mapping[str, str]) -> List[str]:
    """The words of a string as `env -S` has them. Raises EnvError."""
    words: List[str] = []
    word: Optional[str] = None
    quote = ""
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if quote != "'" and letter == "$":
            value, at = _variable(text, at, variables)
            word = (word or "") + value
        elif letter == "\\":
            following = text[at : at + 1]
            at += 1
            if quote == "'":
                word = (word or "") + (following if following in ("\\", "'") and following else "\\" + following)
            elif following == "c" and not quote:
                break
            elif following == "_":
                if quote:
                    word = (word or "") + " "
                elif word is not None:
                    words.append(word)
                    word = None
            elif following in _ESCAPES:
                word = (word or "") + _ESCAPES[following]
            else:
                raise EnvError(f"has \\{following}, which env does not know")
        elif letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote, word = letter, word or ""
        elif not quote and letter in _SPACE:
            if word is not None:
                words.append(word)
            word = None
        elif not quote and letter == "#" and word is None:
            break
        else:
            word = (word or "") + letter
    if quote:
        raise EnvError(f"has no closing {quote}")
    return words if word is None else [*words, word]


def _variable(text: str, at: int, variables: Mapping[str, str]) -> Tuple[str, int]:
    end = text.find("}", at)
    if text[at : at + 1] != "{" or end < 0:
        raise EnvError("has a $ without {NAME} after it")
    name = text[at + 1 : end]
    return variables.get(name, ""), end + 1
