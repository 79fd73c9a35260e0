"""What runs a script: as the kernel and GNU env have it, which are asked where they can be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from opam_sandbox.imaging.shebang import EnvError, env_command, read_shebang, split


@pytest.mark.parametrize(
    ("start", "right"),
    [
        (b"#!/bin/sh\n", ("/bin/sh", "")),
        (b"#! \t/bin/sh -e  \nexit\n", ("/bin/sh", "-e")),
        (b"#!/usr/bin/env -S a  b \n", ("/usr/bin/env", "-S a  b")),
        (b"#!/usr/bin/env\tX=1\n", ("/usr/bin/env", "X=1")),
        (b"#!/bin/sh", ("/bin/sh", "")),
        (b"#!/bin/sh\r\n", ("/bin/sh\r", "")),
        (b"#!/bin/sh\0x\n", ("/bin/sh", "")),
        (b"#!\n/bin/sh\n", None),
        (b"#! \n", None),
        (b"/bin/sh\n", None),
        (b"", None),
    ],
)
def test_first_lines(start: bytes, right: Optional[Tuple[str, str]]) -> None:
    assert read_shebang(start) == right


@pytest.mark.parametrize("line", ["", " -e", "\t-e  x ", " a\tb "])
def test_the_kernel_agrees(line: str, tmp_path: Path) -> None:
    """A program that prints its arguments as an interpreter: what it gets is the argument."""
    show = tmp_path / "show"
    shutil.copy(shutil.which("printf") or "/usr/bin/printf", show)
    script = tmp_path / "script"
    script.write_text(f"#! {show}{line}\n")
    script.chmod(0o755)
    found = read_shebang(script.read_bytes())
    assert found is not None and found[0] == str(show)
    done = subprocess.run([script, "after"], stdout=subprocess.PIPE, text=True, check=True)
    # printf prints its first argument, which is the line's or the script's name.
    assert done.stdout == (found[1] or str(script))


# What env gets as its one argument; the program and its arguments, None where env cannot run it.
COMMANDS: List[Tuple[str, Optional[List[str]]]] = [
    ("show", ["show"]),
    ("show -w", None),
    ("-S show -w", ["show", "-w"]),
    ("-Sshow -w", ["show", "-w"]),
    ("-vS show", ["show"]),
    ("-iS PATH=@ show", ["show"]),
    ("--split-string=show a", ["show", "a"]),
    ("--split=show a", ["show", "a"]),
    ("-S X=1 Y=a=b show z", ["show", "z"]),
    ("-S -u X -i PATH=@ show", ["show"]),
    ("-S -uX --unset=Y --chdir=/ show", ["show"]),
    ("-S - PATH=@ show", ["show"]),
    ("-S -- show -S", ["show", "-S"]),
    ('-S show \'a b\' "c d" e\\_f "g\\_h"', ["show", "a b", "c d", "e", "f", "g h"]),
    ("-S show '\\'' '\\n' \\# # no more", ["show", "'", "\\n", "#"]),
    ("-S show a\\c b", ["show", "a"]),
    ("-S show a${OWN}b", ["show", "aownb"]),
    ("-S -S 'show x'", ["show", "x"]),
    ("-S show ''", ["show", ""]),
    ("-i show", None),
    ("-Z", None),
    ("--nothing-like-it", None),
    ("-S show 'a", None),
    ("-S show $OWN", None),
    ("-S show \\q", None),
]


@pytest.mark.parametrize(("argument", "right"), COMMANDS)
def test_env(argument: str, right: Optional[List[str]], tmp_path: Path) -> None:
    """And env itself says the same."""
    argument = argument.replace("@", str(tmp_path))
    script = tmp_path / "show"
    script.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    script.chmod(0o755)
    variables = {"OWN": "own"}
    done = subprocess.run(
        ["/usr/bin/env", argument, "the-script"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if right is None:
        assert done.returncode != 0
        with pytest.raises(EnvError):
            env_command(argument, variables)
        return
    command = env_command(argument, variables)
    assert [command.program, *command.rest] == right
    assert done.stdout == "".join(f"[{word}]" for word in [*right[1:], "the-script"])


@pytest.mark.parametrize("argument", ["X=1", "X=1 show", "-S X=1", "-", "-S", "-S -i"])
def test_env_without_a_program(argument: str) -> None:
    """env would run the script again, which runs env."""
    with pytest.raises(EnvError):
        env_command(argument, {})


def test_the_path_that_env_sets() -> None:
    assert env_command("-S PATH=/x:/y p", {}).path == "/x:/y"
    assert env_command("-S -i p", {}).path == env_command("-S -u PATH p", {}).path == "/bin:/usr/bin"
    assert env_command("-S -i PATH=/x p", {}).path == "/x"
    assert env_command("p", {}).path is None


@pytest.mark.parametrize("text", ["", "  ", "#", "\\c", "\\_", os.fsdecode(b"\xff")])
def test_little_to_split(text: str) -> None:
    assert len(split(text, {})) == (1 if text == os.fsdecode(b"\xff") else 0)
