"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import List

from bench.examples import EXAMPLES, CannotChange
from bench.figures import Row, machine, plot, table, write_json
from bench.session import Session
from tests.support.checkout import CommandFailed

# In this order: what is built from nothing comes first, and what changes the built checkout last.
BENCHMARKS = {
    "cold": "build from nothing, to `opam install` of the same closure and to the sum of bare package builds",
    "warm": "a `package` that finds everything done: of 1, 8, 50 images, of 34 and 125 layers, to the client's round trip",
    "start": "a run without a daemon, with this backend, to the same with none",
    "export": "an OCI layout out of built layers, to tar|sha256|gzip|sha256 in turn, to umoci and to buildah",
    "second": "a second image that shares all but one of the packages: time and bytes, to the first",
    "order": "what the longest way through a build waits for cores, to its builds' time",
    "change": "the image after a change of a leaf, of a package in the middle, of the base, to cold",
    "dockerfile": "images of one closure, in two orders and after changes, to a Dockerfile with one RUN for each package",
    "sandbox": "one small package over 40 layers, to `opam install` in a chroot",
    "process": "a package that installs nothing over 40 layers, by the parts of its process, to the same",
    "confinement": "a small command in a view, to the same in a chroot over a bare overlay",
    "store": "a build whose layers are unpacked already or not, to each other and to `tar -x`",
    "memory": "the compiler, or the whole image, from nothing in 1, 2 and 4 GiB of memory, to no limit",
    "scale": "100 images of 50 layers, to the first 25 of them: time, memory, bytes",
    "roots": "a health check of 100 to 4,000 roots whose builds are fake, per root, to 100; run again, to `list`",
    "local": "a project's tests, unchanged and after a change, to the client's round trip and to dune alone",
    "remote": "a fresh machine beside a filled remote cache, to cold",
}


def main() -> int:
    listed = "\n".join(f"  {name:11} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="bench/run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures ratios to named baselines, each pair in the same run, with caches and clones of its own.",
        epilog=f"benchmarks (default: all):\n{listed}",
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="which to run")
    parser.add_argument(
        "--image", choices=sorted(EXAMPLES), default="hello", help="the image to build (default: hello)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the ratios")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="samples of short measurements (default: 5)")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="images of `scale` (default: 100)")
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="take the image out of this user's Pants caches instead of building it from nothing; not for cold, change, "
        "remote",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIRECTORY",
        help="work here and keep it; a later run finds the built image there, and compares with that build's time "
        "(default: a directory below /var/tmp that is removed)",
    )
    options = parser.parse_args()
    names = options.benchmarks or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}: {', '.join(BENCHMARKS)}")
    if os.geteuid() != 0:
        print("error: the baselines use chroot, so the benchmarks need root", file=sys.stderr)
        return 1
    work = options.work or Path(tempfile.mkdtemp(prefix="opam-oci-bench-", dir="/var/tmp"))
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    # A Pants daemon that is ended leaves the inputs of its processes behind, hundreds of MB each.
    scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=work))
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    session = Session(EXAMPLES[options.image], work, max(1, options.repeat), options.images, options.reuse)
    about = {"image": options.image, "machine": machine()}
    rows: List[Row] = []
    failed = []
    try:
        for name in sorted(set(names), key=list(BENCHMARKS).index):
            print(f"{name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                found = importlib.import_module(f"bench.{name}").run(session)
            except (CommandFailed, CannotChange, OSError) as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                failed.append(name)
                continue
            print(f"  took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            rows += found
            if options.json:  # after each, so that a later failure loses nothing
                write_json(options.json, rows, about)
    finally:
        session.close()
        shutil.rmtree(scratch, ignore_errors=True)
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
    if rows:
        print(table(rows))
        if options.plot:
            title = f"//images:{options.image} on {about['machine']['cores']} cores"
            options.plot.parent.mkdir(parents=True, exist_ok=True)
            options.plot.write_text(plot(rows, title))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
