"""Scripts of a runtime image: the programs that run them."""

from __future__ import annotations

import os
from typing import Tuple

from opam_sandbox.imaging import plugins
from opam_sandbox.imaging.search import WAY_OUT, Search
from opam_sandbox.imaging.shebang import WITHOUT_PATH, EnvError, env_command


def follow(search: Search, path: str, shebang: Tuple[str, str]) -> None:
    """Take what runs the script at `path`, whose first line is `shebang`."""
    interpreter, argument = shebang
    if os.path.basename(interpreter) != "ocamlrun":
        search.scripts.append(path)
    if not search.has(interpreter):
        search.take_program(interpreter, f"/{path} is run by {interpreter}")
    program = interpreter
    if os.path.basename(interpreter) == "env":
        program = _follow_env(search, path, interpreter, argument)
    if plugins.is_toplevel(program):
        plugins.take_for_toplevel(search)


def _follow_env(search: Search, path: str, env: str, argument: str) -> str:
    """Take what env runs; returns its path, "" where there is none."""
    text = f"/{path} is run by {env}"
    try:
        command = env_command(argument, search.env)
    except EnvError as error:
        search.problem(f"{text}, whose argument `{argument}` {error}: {WAY_OUT}")
        return ""
    text = f"/{path} is run by {command.program} (through {env})"
    if "/" in command.program:
        if not search.has(command.program):
            search.take_program(command.program, text)
        return command.program
    looked = search.env.get("PATH", WITHOUT_PATH) if command.path is None else command.path
    places = [f"{place}/{command.program}" for place in looked.split(":") if place.startswith("/")]
    there = next((one for one in places if search.is_program(search.full, one)), None)
    # What comes first in the full image is what runs there: another of that name in the slim base is not the same.
    if there is None or not search.is_ours(there):
        own = next((one for one in places if search.is_program(search.slim, one)), None)
        if own is not None:
            return own
    if there is None:
        search.problem(f"{text}, which is in neither image's {looked}: {WAY_OUT}")
        return ""
    if not search.has(there):
        search.take_program(there, text)
    return there
