"""What the command lines of `building`, `imaging` and `locking` share: `python3 __tool COMMAND request.json`."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from opam_sandbox import inherited, machine_errors
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.request import read_request

# Set by Pants for a process that really runs, where its caller only wants to know whether its result is known.
ONLY_LOOK = "OPAM_OCI_ONLY_LOOK"
NOT_KNOWN = 75


class Command(NamedTuple):
    """`module`: the whole name of the module whose `run` it is; `request`: the type of its request, as `read_request` takes
    it; `summary`: what it does, for `--help`."""

    module: str
    request: Any
    summary: str


class _Options(NamedTuple):
    """jobs: 0 where the caller does not say; sha256: "" as well."""

    command: str
    request: str
    jobs: int
    sha256: str


def run(description: str, commands: Mapping[str, Command], arguments: Optional[List[str]] = None) -> int:
    """Call `run(request, number of jobs)` of a command's module. Returns the exit status.

    The module is imported now and not before: a small package's build does not wait for the modules of other commands.
    Errors are as `answered` has them.
    """
    if os.environ.get(ONLY_LOOK):
        return NOT_KNOWN
    inherited.settle()
    options = _parse(description, commands, sys.argv[1:] if arguments is None else arguments)
    command = commands[options.command]
    machine_errors.allow_usual_files()

    def answer() -> int:
        request = read_request(options.request, command.request, options.sha256)
        module = importlib.import_module(command.module)
        if not gc.isenabled():  # see `start`
            # What is imported stays, in this process and in those that are forked from it, which share its memory.
            gc.freeze()
            gc.enable()
        result: int = module.run(request, options.jobs or len(os.sched_getaffinity(0)))
        return result

    return answered(answer)


def answered(answer: Callable[[], int]) -> int:
    """What `answer` returns. An error of it is one message on standard error, and the exit status: 2 for a request that makes
    no sense, 1 for anything else. Raises what is nobody's fault but the tool's."""
    try:
        return answer()
    except RequestError as error:
        return _said(str(error), 2)
    except ToolError as error:
        return _said(str(error), 1)
    except Exception as error:
        text = machine_errors.explained(error)
        if text is None:
            raise
        return _said(str(text), 1)


def _said(error: str, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def _parse(description: str, commands: Mapping[str, Command], arguments: List[str]) -> _Options:
    """Ends this process with a message where the arguments make no sense."""
    # As processes are started. argparse is for people: to import it takes longer than to read a request.
    if len(arguments) == 4 and arguments[0] in commands and arguments[2] == "--sha256" and arguments[1][:1] != "-":
        return _Options(arguments[0], arguments[1], 0, arguments[3])
    import argparse

    parser = argparse.ArgumentParser(
        prog="opam_sandbox",
        description=description,
        epilog="commands: " + "; ".join(f"{name}: {command.summary}" for name, command in commands.items()),
    )
    parser.add_argument("command", choices=sorted(commands), metavar="COMMAND")
    parser.add_argument("request", help="a JSON file; its paths are relative to the current directory")
    parser.add_argument("--jobs", type=int, default=0, help="parallel jobs of one build; default: the cores it may use")
    parser.add_argument("--sha256", default="", help="of the request file, in hex; default: it is not compared")
    return _Options(**vars(parser.parse_args(arguments)))
