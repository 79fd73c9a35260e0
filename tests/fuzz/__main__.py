"""What build-support/fuzz runs: every subject under atheris, one after another, each in a process of its own."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from tests.fuzz import _subjects

# Of libFuzzer, for one input: a run-away that no signal handler of Python's ends (seconds), and memory (MB).
_HANGS, _MEMORY = 60, 3000
# A process that ends early is started again, for the rest of its time.
_SHORTEST = 5.0
_CASE = re.compile(r"Test unit written to (\S+)")
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERAGE = re.compile(r"cov: (\d+)")


@dataclass
class Result:
    """What became of a subject: `runs` inputs, `coverage` edges of its code, `finds` files."""

    runs: int = 0
    coverage: int = 0
    finds: List[Path] = field(default_factory=list)
    problem: str = ""


def main(arguments: Optional[List[str]] = None) -> int:
    """Returns the exit status: 1 if there is a find, or a subject that does not run."""
    parser = argparse.ArgumentParser(prog="build-support/fuzz", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "opam-oci-pants", "fuzz")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each subject (default: %(default)s)")
    parser.add_argument("--max-length", type=int, default=8192, help="of inputs, in bytes (default: %(default)s)")
    parser.add_argument("--directory", type=Path, default=cache, help="keeps inputs and finds (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the subjects' names, and do nothing else")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one subject with one input, such as a find")
    options = parser.parse_args(arguments)
    known = _subjects.names()
    unknown = [name for name in options.subjects if name not in known]
    if unknown:
        parser.error(f"no subject is called {', '.join(unknown)}; there are {', '.join(known)}")
    if options.list:
        print("\n".join(known))
        return 0
    if options.again:
        if len(options.subjects) != 1:
            parser.error("--again takes one subject")
        _subjects.Subject(options.subjects[0]).run(options.again.read_bytes())
        return 0
    failed = False
    print(f"{'subject':20} {'runs':>10} {'a second':>9} {'coverage':>9} {'finds':>6}", flush=True)
    for name in options.subjects or known:
        started = time.monotonic()
        result = fuzz(name, options.directory.absolute(), options.seconds, options.max_length)
        rate = result.runs / max(time.monotonic() - started, 0.001)
        print(f"{name:20} {result.runs:10} {rate:9.0f} {result.coverage:9} {len(result.finds):6}", flush=True)
        for path in result.finds:
            print(f"  {path}", flush=True)
        if result.problem:
            print(f"  it does not run:\n{result.problem}", flush=True)
        failed = failed or bool(result.finds or result.problem)
    return 1 if failed else 0


def fuzz(name: str, directory: Path, seconds: float, most: int) -> Result:
    """Run one subject for that time; inputs are kept in `corpus/NAME`, finds in `finds/NAME`."""
    corpus, finds = directory / "corpus" / name, directory / "finds" / name
    for path in (corpus, finds):
        path.mkdir(parents=True, exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in finds.iterdir()}
    result = Result()
    end = time.monotonic() + seconds
    while not result.problem:
        left = end - time.monotonic()
        if left < _SHORTEST and result.runs:
            break
        argv = [sys.executable, "-m", "tests.fuzz._child", name, str(corpus), str(finds), str(most)]
        argv += [f"-max_total_time={max(1, int(left))}", f"-timeout={_HANGS}", f"-rss_limit_mb={_MEMORY}"]
        argv += [f"-artifact_prefix={finds}/", "-print_final_stats=1"]
        log = directory / f"{name}.log"
        with open(log, "wb") as out:
            status = subprocess.call(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        text = log.read_text(errors="replace")
        result.runs += sum(map(int, _RUNS.findall(text)))
        result.coverage = max([result.coverage, *map(int, _COVERAGE.findall(text))])
        if status != 0 and not _CASE.search(text):
            result.problem = "\n".join(f"    {line}" for line in text.splitlines()[-20:])
    result.finds = sorted(
        path for path in finds.iterdir() if path.suffix != ".txt" and before.get(path) != path.stat().st_mtime_ns
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
