"""The command line of the part `publishing`: `python3 -m opam_sandbox.publishing COMMAND ...`, for people, too."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import List, Optional

from opam_sandbox import inherited, machine_errors
from opam_sandbox.errors import ToolError


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python3 -m opam_sandbox.publishing",
        description="Shared directories of OCI images (layouts), registries, containers.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser("add", help="put an image into a shared layout directory")
    add.add_argument("layout", type=Path, help="the directory; made if it is not there")
    add.add_argument("--image", type=Path, required=True, help="the OCI image layout of one image")
    add.add_argument("--name", action="append", required=True, help="its name there, such as hello:1.0 (repeatable)")

    remove = commands.add_parser("remove", help="take images out of a shared layout directory, and what only they used")
    remove.add_argument("layout", type=Path)
    remove.add_argument("name", nargs="+", help="as `list` prints it")
    remove.add_argument("--missing-ok", action="store_true", help="ignore names that are not there")

    for name, text in (
        ("collect", "delete the blobs that nothing in a shared layout directory refers to"),
        ("list", "print the images of a layout directory"),
        ("check", "read a whole layout directory and compare all digests"),
    ):
        commands.add_parser(name, help=text).add_argument("layout", type=Path)

    verify = commands.add_parser(
        "verify", help="read all unpacked layers of this user and remove what is damaged, which builds then make again"
    )
    verify.add_argument("store", type=Path, help="the directory of unpacked layers: Pants' named cache opam_oci_layers")

    usage = commands.add_parser("usage", help="print what is kept between runs, how large and how old it is")
    prune = commands.add_parser(
        "prune", help="remove what was not used for the longest time, and what killed processes left"
    )
    for parser_of_store in (usage, prune):
        parser_of_store.add_argument("store", type=Path, help="as of `verify`")
        parser_of_store.add_argument("--format", choices=("text", "json"), default="text")
    prune.add_argument("--days", help="remove what was not used for more than so many days")
    prune.add_argument("--percent", help="keep so many percent of the bytes, of what was used last")
    prune.add_argument("--max-size", help="keep so much of what was used last, such as 20GiB, or 20%% of the disk")
    prune.add_argument("--kind", action="append", help="prune only what `usage` calls so (repeatable)")
    prune.add_argument("--dry-run", action="store_true", help="only print what would go")
    prune.add_argument("--brief", action="store_true", help="print one line, and nothing if nothing went")

    for name, text in (
        ("plan-push", "ask a registry what it lacks of an image, and write plan.json"),
        ("push", "copy an image to a registry with skopeo"),
        ("sign", "have a program sign an image that a registry has"),
        ("push-about", "send what is about an image to the repository that has the image"),
        ("load", "load an image into docker or podman"),
    ):
        commands.add_parser(name, help=text).add_argument("request", help="a JSON file, see docs/architecture.md")
    run = commands.add_parser("run", help="run a command in a container of an image")
    run.add_argument("request", help="a JSON file, see docs/architecture.md")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="in place of the image's Cmd")
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    inherited.settle_less()
    # A signal ends what runs here by the way that cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(make_parser().parse_args(arguments))
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        text = machine_errors.explained(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    # Imported when called for: a container does not wait for what locks and hashes.
    if options.command == "plan-push":
        from opam_sandbox.publishing import plan

        return plan.run(options)
    if options.command == "push":
        from opam_sandbox.publishing import push

        return push.run(options)
    if options.command == "sign":
        from opam_sandbox.publishing import sign

        return sign.run(options)
    if options.command == "push-about":
        from opam_sandbox.publishing import push_about

        return push_about.run(options)
    if options.command == "load":
        from opam_sandbox.running import engine

        return engine.run(options)
    if options.command == "run":
        from opam_sandbox.running import run

        return run.run(options)
    if options.command == "verify":
        from opam_sandbox.publishing import verify

        return verify.run(options)
    if options.command == "usage":
        from opam_sandbox.store import command

        return command.usage(options)
    if options.command == "prune":
        from opam_sandbox.store import command

        return command.run_prune(options)
    if options.command == "check":
        from opam_sandbox.oci.check_layout import problems

        found = problems(options.layout)
        for problem in found:
            print(problem)
        return 1 if found else 0

    from opam_sandbox.oci.shared_layout import SharedLayout

    layout = SharedLayout(options.layout)
    if options.command == "add":
        added = layout.add(options.image, options.name)
        print(json.dumps(asdict(added), sort_keys=True))
    elif options.command == "list":
        for name, digest in sorted(layout.names().items()):
            print(f"{digest} {name}")
    else:
        names: List[str] = options.name if options.command == "remove" else []
        if options.command == "remove" and options.missing_ok:
            known = layout.names() if layout.directory.exists() else {}
            names = [name for name in names if name in known]
            if not known:
                return 0
        print(json.dumps(asdict(layout.remove(names) if names else layout.collect()), sort_keys=True))
    return 0
