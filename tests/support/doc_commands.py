"""Reads the blocks of a page of the docs, and does what they say, as a reader would.

Each fenced block has a kind. A comment on the line before it names the kind:

    <!-- file: PATH -->       the block is the whole content of PATH
    <!-- append: PATH -->     the block comes after what PATH has already
    <!-- section: PATH -->    the block is a section of a TOML file, in place of the one with the same header
    <!-- fails -->            commands, the last of which must end with an error
    <!-- output -->           what the commands of the block before have printed
    <!-- not run: REASON -->  nobody can do it where the tests run

A `console` block without a comment is run. Its lines that begin with `$ ` are commands (`\\` at the end goes on in the next
line); other lines must be in what the command before them prints, in that order. A line `...` stands for any others.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

_MARKER = re.compile(r"<!--\s*(file|append|section|fails|output|not run)\s*(?::\s*(.*?))?\s*-->")
_WITH_ARGUMENT = ("file", "append", "section", "not run")


class DocError(AssertionError):
    """A block that is not what it should be, or does not do what the page says; the message names page and line."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `line`: the number of its fence in the page. `kind`: a marker's, or "run".

    `prose`: what the page says between the block before and this one.
    """

    page: str
    line: int
    kind: str
    argument: str
    text: str
    prose: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def _kind(page: str, number: int, language: str, before: str) -> Tuple[str, str]:
    marker = _MARKER.fullmatch(before.strip())
    if marker:
        kind, argument = marker[1], marker[2] or ""
        if (kind in _WITH_ARGUMENT) != bool(argument):
            raise DocError(f"{page}:{number}: `{before.strip()}` {'lacks' if not argument else 'has'} an argument")
        return kind, argument
    if before.strip().startswith("<!--"):
        raise DocError(f"{page}:{number}: `{before.strip()}` is no marker")
    if language == "console":
        return "run", ""
    raise DocError(
        f"{page}:{number}: a block of `{language or 'text'}` without a marker: is it a file, output, or not run?"
    )


def read_blocks(path: Path, page: str) -> List[Block]:
    """The blocks of a page, in order. Raises DocError for one without a kind, and for code that no fence surrounds."""
    blocks: List[Block] = []
    lines = path.read_text().splitlines()
    start: Optional[int] = None
    language, end = "", 0
    for index, line in enumerate(lines):
        fence = re.fullmatch(r"```([a-z]*)", line)
        if start is None and fence:
            start, language = index, fence[1]
        elif start is not None and line == "```":
            kind, argument = _kind(page, start + 1, language, lines[start - 1] if start else "")
            text = "\n".join(lines[start + 1 : index]) + "\n"
            blocks.append(Block(page, start + 1, kind, argument, text, "\n".join(lines[end:start])))
            start, end = None, index + 1
        elif start is None and line.startswith(("    ", "\t", "```", "~~~")):
            raise DocError(f"{page}:{index + 1}: code outside of a fenced block, which no test would run")
    if start is not None:
        raise DocError(f"{page}:{start + 1}: a block without an end")
    return blocks


def read_commands(text: str) -> List[Tuple[str, List[str]]]:
    """The commands of a console block, each with the lines that it must print."""
    commands: List[Tuple[str, List[str]]] = []
    goes_on = False
    for line in text.splitlines():
        if goes_on:
            command, expected = commands[-1]
            commands[-1] = (f"{command}\n{line}", expected)
            goes_on = line.endswith("\\")
        elif line.startswith("$ "):
            commands.append((line[2:], []))
            goes_on = line.endswith("\\")
        elif not commands:
            raise DocError(f"output before the first command: {line!r}")
        else:
            commands[-1][1].append(line)
    return commands


def missing_line(expected: List[str], output: str) -> Optional[str]:
    """The first of the lines that the output does not have after those before it. Space within lines does not count."""
    printed = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in expected:
        wanted = " ".join(line.split())
        if wanted in ("", "..."):
            continue
        if not any(wanted in found for found in printed):
            return line
    return None


def put_section(content: str, section: str) -> str:
    """TOML text with `section` in place of the section that has the same header, or at the end."""
    header = section.splitlines()[0].strip()
    pattern = re.compile(rf"^{re.escape(header)}\n.*?(?=^\[|\Z)", re.M | re.S)
    if pattern.search(content):
        return pattern.sub(lambda _: section + "\n", content, count=1)
    return f"{content.rstrip()}\n\n{section}"


@dataclass
class Reader:
    """Somebody who follows pages: where they are, and what their shell has in its environment."""

    directory: Path
    env: Dict[str, str]
    printed: str = ""
    ran: List[str] = field(default_factory=list)

    def follow(self, blocks: List[Block]) -> None:
        """Do what the blocks say. Raises DocError for a command that does not do what its page says."""
        for block in blocks:
            if block.kind in ("file", "append", "section"):
                self._write(block)
            elif block.kind == "output":
                self._expect(block, block.text.splitlines(), self.printed)
            elif block.kind in ("run", "fails"):
                self._run(block)

    def _write(self, block: Block) -> None:
        path = self.directory / block.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        if block.kind == "append":
            path.write_text(f"{before.rstrip()}\n\n{block.text}" if before else block.text)
        else:
            path.write_text(block.text if block.kind == "file" else put_section(before, block.text))

    def _run(self, block: Block) -> None:
        self.printed = ""
        commands = read_commands(block.text)
        for number, (command, expected) in enumerate(commands, 1):
            must_fail = block.kind == "fails" and number == len(commands)
            status, output = self._shell(command)
            self.ran.append(command)
            if (status != 0) != must_fail:
                raise DocError(f"{block.where}: `{command}` ended with {status}:\n{output[-6000:]}")
            self._expect(block, expected, output)
            self.printed += output

    def _expect(self, block: Block, expected: List[str], output: str) -> None:
        line = missing_line(expected, output)
        if line is not None:
            raise DocError(f"{block.where}: nothing printed {line!r}. It was:\n{output[-6000:]}")

    def _shell(self, command: str) -> Tuple[int, str]:
        """Run it in bash; a `cd` in it holds for later ones."""
        state = self.directory.parent / ".where"
        script = f'{command}\nstatus=$?; pwd > "$READER_STATE"; exit $status\n'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env={**self.env, "READER_STATE": os.fspath(state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if state.exists():
            self.directory = Path(state.read_text().rstrip("\n"))
            state.unlink()
        return done.returncode, done.stdout
