"""Runs a program that signs, and keeps passwords out of all that can be seen of it: its arguments, its files, what it says."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Sequence

from opam_sandbox import passwords
from opam_sandbox.errors import ToolError
from opam_sandbox.publishing.signers import PASSWORD_FILE

# Bytes: what every pipe takes at once.
_LONGEST_PASSWORD = 4096


@dataclass(frozen=True)
class Environment:
    """What programs get. password: the variable with that of the private key, "" for none; secrets: others whose values are
    not shown."""

    values: Mapping[str, str]
    password: str = ""
    secrets: Sequence[str] = ()

    def public(self, text: str) -> str:
        """`text` without the values that are not shown, and without what a terminal takes for commands."""
        hidden = [self.values.get(name, "") for name in (self.password, *self.secrets)]
        for value in sorted(filter(None, hidden), key=len, reverse=True):
            text = text.replace(value, "***")
        shown = passwords.hide_proxies(text, self.values)
        return "".join(one if one.isprintable() or one == "\n" else " " for one in shown)

    def without_password(self) -> "Environment":
        """The same, for a program that needs none."""
        return Environment(
            {name: value for name, value in self.values.items() if name != self.password}, "", self.secrets
        )


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said, for people."""

    code: int
    text: str


def run(argv: Sequence[str], environment: Environment, directory: str) -> Ended:
    """Run a program to its end, without input. Raises ToolError where it does not start.

    Where its arguments name PASSWORD_FILE, it reads the password from a pipe and has no variable with it.
    """
    values = dict(environment.values)
    takes_file = any(PASSWORD_FILE in word for word in argv)
    password = values.pop(environment.password, "") if takes_file else ""
    with _pipe(password if takes_file else None) as passed:
        words = [word.replace(PASSWORD_FILE, f"/dev/fd/{passed[0]}") if passed else word for word in argv]
        try:
            done = subprocess.run(
                words,
                cwd=directory or None,
                env=values,
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            raise ToolError(f"{argv[0]} does not start: {error.strerror}") from None
    return Ended(done.returncode, environment.public(done.stdout.decode(errors="replace")))


@contextmanager
def _pipe(content: "str | None") -> Iterator[List[int]]:
    """The end of a pipe that `content` can be read from, as long as the context; none for None."""
    if content is None:
        yield []
        return
    data = os.fsencode(content)
    if len(data) > _LONGEST_PASSWORD:
        raise ToolError(f"The password of the private key has more than {_LONGEST_PASSWORD} bytes.")
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, data)
        finally:
            os.close(writing)
        yield [reading]
    finally:
        os.close(reading)
