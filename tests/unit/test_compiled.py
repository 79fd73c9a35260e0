"""compiled: bytecode is kept in a private store, for these sources and this Python; what is damaged is never run."""

from __future__ import annotations

import hashlib
import marshal
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from tests.support.sandbox_tool import copy_tool

# Prints what loads a module, and a word that a test may have put into its source.
SHOW = """
import sys
sys.path.insert(0, "__tool")
from opam_sandbox import compiled
compiled.use()
from opam_sandbox import errors
print(type(errors.__spec__.loader).__module__, getattr(errors, "WORD", "-"), errors.__file__)
"""
KEPT, PYTHONS = "opam_sandbox.compiled", "importlib"


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A directory as processes have it."""
    copy_tool(tmp_path / "__tool")
    (tmp_path / "store").mkdir(mode=0o700)
    return tmp_path


def show(sandbox: Path, flags: str = "-sSEB") -> List[str]:
    """By whom the module was loaded, its word, and its file."""
    argv = [sys.executable, flags, "-c", SHOW]
    done = subprocess.run(argv, cwd=sandbox, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    loader, word, file = done.stdout.split()
    assert file == str(sandbox / "__tool/opam_sandbox/errors.py")
    return [loader.partition("._")[0], word]


def kept(sandbox: Path) -> List[Path]:
    return sorted((sandbox / "store/compiled").iterdir())


def test_bytecode_is_kept_once(sandbox: Path) -> None:
    assert show(sandbox) == [KEPT, "-"]
    [file] = kept(sandbox)
    before = os.lstat(file)
    assert (sandbox / "store/compiled").stat().st_mode & 0o777 == 0o700
    assert show(sandbox) == [KEPT, "-"]
    assert kept(sandbox) == [file]
    assert os.path.samestat(os.lstat(file), before) and os.lstat(file).st_mtime_ns == before.st_mtime_ns


def test_what_is_kept_is_what_runs(sandbox: Path) -> None:
    """The next process takes the code out of the file, and compiles nothing."""
    show(sandbox)
    [file] = kept(sandbox)
    put_word(file, "kept", damaged=False)
    assert show(sandbox) == [KEPT, "kept"]


def put_word(file: Path, word: str, damaged: bool) -> None:
    """Have the kept module define WORD; damaged: the digest is not that of the content."""
    content = file.read_bytes()
    modules = marshal.loads(content[32:])
    path, is_package, _ = modules["opam_sandbox.errors"]
    code = compile(
        f"WORD = {word!r}\nclass ToolError(Exception): pass\nclass RequestError(ToolError): pass\n", path, "exec"
    )
    modules["opam_sandbox.errors"] = (path, is_package, marshal.dumps(code))
    body = marshal.dumps(modules)
    file.write_bytes((content[:32] if damaged else hashlib.sha256(body).digest()) + body)


def test_damaged_bytecode_is_never_run(sandbox: Path) -> None:
    show(sandbox)
    [file] = kept(sandbox)
    whole = file.read_bytes()
    put_word(file, "damaged", damaged=True)
    assert show(sandbox) == [KEPT, "-"]
    # As a power loss or a disk leaves it. What is found is made again, whole.
    for content in (b"", whole[:32], whole[:40], whole[:-1], whole + b"x", bytes(len(whole)), b"\xff" + whole[1:]):
        file.write_bytes(content)
        assert show(sandbox) == [KEPT, "-"]
        assert kept(sandbox) == [file]
        found = file.read_bytes()
        assert found[:32] == hashlib.sha256(found[32:]).digest() and len(found) == len(whole)


def test_other_sources_are_other_bytecode(sandbox: Path) -> None:
    """Also where size and time of a file are what they were."""
    source = sandbox / "__tool/opam_sandbox/errors.py"
    source.write_text(source.read_text() + 'WORD = "one"\n')
    status = source.stat()
    assert show(sandbox) == [KEPT, "one"]
    source.write_text(source.read_text().replace('"one"', '"two"'))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert show(sandbox) == [KEPT, "two"]
    assert len(kept(sandbox)) == 2


def test_another_python_has_its_own(sandbox: Path) -> None:
    """Here the same one with -O, which leaves assertions out."""
    show(sandbox)
    assert show(sandbox, "-sSEBO") == [KEPT, "-"]
    assert len(kept(sandbox)) == 2


def test_nothing_is_kept_where_others_could_write(sandbox: Path) -> None:
    (sandbox / "store").chmod(0o755)
    assert show(sandbox)[0].startswith("_frozen_" + PYTHONS)
    assert not (sandbox / "store/compiled").exists()
    (sandbox / "store").chmod(0o700)
    show(sandbox)
    [file] = kept(sandbox)
    put_word(file, "foreign", damaged=False)
    file.parent.chmod(0o770)
    assert show(sandbox) == [KEPT, "-"]


def test_nothing_is_kept_without_a_store_or_beside_pythons_own(sandbox: Path) -> None:
    assert show(sandbox, "-sSE")[0].startswith("_frozen_" + PYTHONS)
    (sandbox / "store").rmdir()
    assert show(sandbox)[0].startswith("_frozen_" + PYTHONS)
    assert not (sandbox / "store").exists()


def test_a_disk_that_keeps_nothing_is_no_error(sandbox: Path) -> None:
    (sandbox / "store/compiled").write_text("")
    assert show(sandbox) == [KEPT, "-"]


def test_old_bytecode_goes(sandbox: Path) -> None:
    """When something is kept anew, and not before."""
    show(sandbox)
    [file] = kept(sandbox)
    old, left = file.with_name("0" * 64), file.with_name("0" * 64 + ".0123456789abcdef")
    for path in (old, left):
        path.write_bytes(b"")
        os.utime(path, (1, time.time() - 15 * 24 * 3600))
    show(sandbox)
    assert kept(sandbox) == sorted([old, left, file])
    file.unlink()
    show(sandbox)
    assert kept(sandbox) == [file]


def test_errors_show_lines_of_the_source(sandbox: Path) -> None:
    source = sandbox / "__tool/opam_sandbox/errors.py"
    source.write_text(source.read_text() + "def fail() -> None:\n    raise KeyError(1)  # here\n")
    script = SHOW + "errors.fail()\n"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-sSEB", "-c", script], cwd=sandbox, stderr=subprocess.PIPE, text=True)
        assert "__tool/opam_sandbox/errors.py" in done.stderr and "raise KeyError(1)  # here" in done.stderr
