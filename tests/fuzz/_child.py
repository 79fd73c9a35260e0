"""Runs one subject under atheris: `python3 -m tests.fuzz._child SUBJECT CORPUS FINDS MOST_BYTES ARGUMENTS_OF_LIBFUZZER`.

Finds do not end it: each kind of error, told by its type and the lines that raised it, is kept once, as an input and beside it
what was raised.
"""

from __future__ import annotations

import hashlib
import random
import sys
import traceback
from pathlib import Path

import atheris

from tests.fuzz._mutations import Mutator

# What is looked at for coverage: our own code, and readers written in Python that it calls.
_INSTRUMENTED = ["opam_sandbox", "opam_oci", "tests.fuzz", "tomli", "tarfile", "zipfile", "shlex", "fnmatch"]


def main() -> None:
    name, corpus, finds, most = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz._subjects import Subject

        subject = Subject(name)
    for data in subject.seeds:
        (corpus / f"seed-{hashlib.sha1(data).hexdigest()}").write_bytes(data)

    def one(data: bytes) -> None:
        try:
            subject.run(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # RunAway and SystemExit are finds as well
            _keep(finds, data, error)

    mutator = Mutator(subject.seeds, subject.tokens, most)

    def change(data: bytes, room: int, number: int) -> bytes:
        source = random.Random(number)
        if source.random() < 0.5:
            return bytes(atheris.Mutate(data, room))
        return mutator.mutate(bytes(data), source)[:room]

    atheris.Setup([sys.argv[0], str(corpus), f"-max_len={most}", *sys.argv[5:]], one, custom_mutator=change)
    atheris.Fuzz()


def _keep(finds: Path, data: bytes, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    # The last of them say where it is; of a recursion, the same few.
    where = [f"{Path(frame.filename).name}:{frame.name}:{frame.line}" for frame in frames[-2:]]
    key = hashlib.sha1(repr((type(error).__name__, where)).encode()).hexdigest()[:12]
    target = finds / f"{type(error).__name__}-{key}"
    if not target.exists() or len(data) < target.stat().st_size:
        target.write_bytes(data)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-12))
        target.with_name(target.name + ".txt").write_text(text, errors="backslashreplace")


if __name__ == "__main__":
    main()
