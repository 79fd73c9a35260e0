"""Commands in containers of an image: each has a container of its own, without a network, and a time limit."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NoReturn, Sequence, Tuple

from opam_sandbox import machine_errors, strict_json
from opam_sandbox.checking.requests import CommandCheck
from opam_sandbox.checking.results import Result, unmatched
from opam_sandbox.errors import ToolError
from opam_sandbox.running.container import Contained, run_contained
from opam_sandbox.running.image_config import Image
from opam_sandbox.sandbox import syscalls

_RUNTIMES = ("crun", "runc")
# Of each of a command's two outputs, in bytes.
_MOST_OUTPUT = 4 << 20
# Seconds that the kernel may take to end what was killed, and this program to remove what it wrote.
_PATIENCE = 60
_LINES, _CHARACTERS = 50, 10_000


@dataclass
class Ran:
    """What became of a command. ended: it ran, and ended by itself. why: if not, why not."""

    ended: bool
    exit_code: int
    stdout: bytes
    stderr: bytes
    why: str
    seconds: float


def check_commands(image: Image, store: Path, checks: Sequence[CommandCheck]) -> List[Result]:
    """Run each; a result for each. The image's layers are unpacked in the store, and held by this process."""
    return [_check(image, store, check) for check in checks]


def _check(image: Image, store: Path, check: CommandCheck) -> Result:
    name = check["name"]
    try:
        ran = _run(image, store, check)
    except ToolError as error:
        return Result("command", name, [f"it cannot be run: {error}"])
    out, err = _text(ran.stdout), _text(ran.stderr)
    problems = [ran.why] if ran.why else []
    if ran.ended:
        if ran.exit_code != check["exit_code"]:
            problems.append(f"its exit status is {ran.exit_code}, but should be {check['exit_code']}")
        problems += unmatched("standard output", out, check.get("stdout", ()), check.get("stdout_lacks", ()))
        problems += unmatched("standard error", err, check.get("stderr", ()), check.get("stderr_lacks", ()))
    if problems:
        problems += [
            line for title, text in (("standard output", out), ("standard error", err)) for line in _tail(title, text)
        ]
    return Result("command", name, problems, ran.seconds, f"{out}{err}"[-_CHARACTERS:])


def _text(data: bytes) -> str:
    return data[:_MOST_OUTPUT].decode("utf-8", "replace")


def _tail(title: str, text: str) -> List[str]:
    lines = text[-_CHARACTERS:].splitlines()[-_LINES:]
    return [f"{title}:", *(f"  | {line}" for line in lines)] if lines else []


def _run(image: Image, store: Path, check: CommandCheck) -> Ran:
    """Raises ToolError where nothing can be run."""
    found = [(kind, path) for kind in _RUNTIMES for path in [shutil.which(kind)] if path]
    if not found:
        raise ToolError("this machine has neither crun nor runc, one of which runs commands of images: install crun")
    kind, runtime = found[0]
    argv = list(check["argv"]) if "argv" in check else image.argv(check.get("arguments", []))
    out, err, told = os.pipe(), os.pipe(), os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        for read_end, _ in (out, err, told):
            os.close(read_end)

        def ended(code: int, failure: str) -> None:
            _tell(told[1], {"exit_code": code, "failure": failure})

        what = Contained(
            runtime, kind, argv, check.get("user", image.user), check.get("env", []), unattended=True, ended=ended
        )
        _be_child(image, store, what, out[1], err[1], told[1])
    for _, write_end in (out, err, told):
        os.close(write_end)
    outputs, why = _read(child, {"out": out[0], "err": err[0], "told": told[0]}, check["timeout"])
    os.waitpid(child, 0)
    seconds = time.monotonic() - started
    ran = Ran(False, -1, outputs["out"], outputs["err"], why, seconds)
    if why:
        return ran
    if not outputs["told"]:
        ran.why = "it could not be run"
        return ran
    said = strict_json.parse_object(outputs["told"], "what the container's first process said")
    if said["failure"]:
        ran.why = f"it could not be run: {said['failure']}"
        return ran
    ran.ended, ran.exit_code = True, int(said["exit_code"])
    return ran


def _be_child(image: Image, store: Path, what: Contained, out: int, err: int, told: int) -> NoReturn:
    code = 1
    try:
        syscalls.die_with_parent(signal.SIGKILL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # What outlives the container is to hold neither.
        for descriptor, place in ((out, 1), (err, 2)):
            os.dup2(descriptor, place)
            os.close(descriptor)
        code = run_contained(image, store, what)
    except ToolError as error:
        _tell(told, {"exit_code": 1, "failure": str(error)})
    except BaseException as error:
        text = machine_errors.explained(error) if isinstance(error, Exception) else None
        _tell(told, {"exit_code": 1, "failure": str(text or repr(error))})
    finally:
        os._exit(code)


def _tell(descriptor: int, what: Dict[str, object]) -> None:
    os.write(descriptor, json.dumps(what)[:_MOST_OUTPUT].encode())


def _read(child: int, pipes: Dict[str, int], timeout: int) -> Tuple[Dict[str, bytes], str]:
    """What comes out of the pipes until all are closed, and why the child was killed, "" where it was not: it took longer than
    `timeout` seconds, or printed too much. `told` is open until what the container wrote is removed. Raises ToolError where the
    child's processes do not end."""
    found = {name: b"" for name in pipes}
    why, late = "", False
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for name, descriptor in pipes.items():
            selector.register(descriptor, selectors.EVENT_READ, name)
        while selector.get_map():
            too_much = [name for name, data in found.items() if len(data) > _MOST_OUTPUT]
            over = time.monotonic() >= deadline
            if over and late:
                raise ToolError("its processes cannot be ended")
            if not late and (over or too_much):
                # A command that has ended, whose files are still being removed, was in time.
                if too_much:
                    why = f"it printed more than {_MOST_OUTPUT:,} bytes, and was ended"
                elif not found["told"]:
                    why = f"it took longer than {timeout} seconds, and was ended"
                if why:
                    os.kill(child, signal.SIGKILL)
                late, deadline = True, time.monotonic() + _PATIENCE
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                elif len(found[key.data]) <= _MOST_OUTPUT:
                    found[key.data] += data
    return found, why
