"""Thousands of generated targets: `pants list ::` and `pants dependencies`, without and with a running daemon.

    PYTHONPATH=src $(build-support/test-python) -m bench.many_targets [--packages=4000] [--resolves=1]

The lockfiles are made up: `packages` packages in all, spread over `resolves`, each with an opam file of the usual size and
dependencies on up to eight packages before it. Baseline, in the same run: the same commands in the same project with one
package in each lockfile, so that the difference is what the packages cost. Times in seconds of wall time. Cold: no daemon
runs and nothing of these files is in Pants' cache. Warm: the daemon runs; the middle one of five.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import tempfile
import uuid
from pathlib import Path
from typing import Dict, List

from bench.scratch_project import ScratchProject

RUNS = 5


def lockfile(resolve: str, count: int) -> str:
    seed = random.Random(resolve)
    unique = uuid.uuid4().hex
    parts = [
        f'[metadata]\nlock_version = 1\nkind = "opam"\nresolve = "{resolve}"\nbase = "//3rdparty/debian:trixie"\n'
        f'requirements = ["p0"]\nconstraints = []\n# {unique}\n\n'
    ]
    for number in range(count):
        depends = sorted({f"p{seed.randrange(number)}" for _ in range(min(number, 8))})
        sha256 = hashlib.sha256(f"{resolve}{number}".encode()).hexdigest()
        build = 'build: ["dune" "build" "-p" name "-j" jobs "@install"]\n' * 12
        opam = f'opam-version: "2.0"\nsynopsis: "package {number}"\n{build}'
        parts.append(
            f'[[package]]\nname = "p{number}"\nversion = "1.{number}"\ndepends = {json.dumps(depends)}\npost_depends = []\n'
            f'depexts = []\ndebs = []\nopam = """\n{opam.replace(chr(34), chr(92) + chr(34))}"""\n\n[[package.source]]\n'
            f'name = ""\nurls = ["https://example.org/p{number}.tbz"]\nsha256 = "{sha256}"\nsize = 1\n\n'
        )
    return "".join(parts)


def measure(directory: Path, packages: int, resolves: int) -> Dict[str, float]:
    names = [f"r{number}" for number in range(resolves)]
    project = ScratchProject(directory, names)
    share = packages // resolves
    project.write({f"3rdparty/opam/{name}.lock": lockfile(name, share) for name in names})
    project.write({"3rdparty/opam/BUILD": "".join(f'opam_packages(name="{n}", resolve="{n}")\n' for n in names)})
    last = f"3rdparty/opam:{names[-1]}#p{share - 1}"
    commands = {
        "list ::": ["list", "::"],
        "dependencies ::": ["dependencies", "::"],
        "dependencies --transitive, of one": ["dependencies", "--transitive", last],
    }
    result: Dict[str, float] = {}
    try:
        for title, command in commands.items():
            project.stop_daemon()
            run = project.must(*command)
            result[f"{title}, cold"] = run.seconds
            if title == "list ::":
                listed = [line for line in run.output.splitlines() if "#p" in line]
                assert len(listed) == share * resolves, len(listed)
            times: List[float] = [project.must(*command).seconds for _ in range(RUNS)]
            result[f"{title}, warm"] = statistics.median(times)
    finally:
        project.stop_daemon()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", type=int, default=4000)
    parser.add_argument("--resolves", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        small = measure(Path(temporary, "small"), options.resolves, options.resolves)
        many = measure(Path(temporary, "many"), options.packages, options.resolves)
    print(f"{options.packages} packages in {options.resolves} lockfiles, against one package in each")
    print(f"{'':44}{'many':>8}{'one':>8}{'ratio':>8}")
    for title, seconds in many.items():
        print(f"{title:44}{seconds:8.2f}{small[title]:8.2f}{seconds / small[title]:8.2f}")
    print(json.dumps({"packages": options.packages, "resolves": options.resolves, "many": many, "one": small}))


if __name__ == "__main__":
    main()
