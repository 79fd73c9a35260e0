"""`opam-which`: which layer has a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Sequence

from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem, Outputting
from pants.engine.target import Target, Targets
from pants.option.option_types import ArgsListOption, EnumOption
from pants.util.strutil import help_text

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.asked_packages import NoPackagesError, is_package, package_of
from opam_oci.images.environment import environment_of, image_env
from opam_oci.images.parts import ImagePartsRequest, build_image_parts
from opam_oci.images.state_layer import make_state_layer
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.layers.contents import Contents, ContentsRequest, Holder, Union, contents_of, list_contents
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.layers.package import PackageLayerRequest, build_package_layer
from opam_oci.pants_engine.rules import collect_rules, concurrently, goal_rule, implicitly
from opam_oci.sandbox.layer import Layer
from opam_oci.subsystems.output_format import Format

# In a package's own view.
_PATH = "/home/opam/.opam/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MODES = {"file": "-", "hard link": "-", "link": "l", "directory": "d", "character device": "c", "block device": "b"}


class OpamWhichSubsystem(Outputting, GoalSubsystem):
    name = "opam-which"
    help = help_text(
        """
        Say which layer has a file: `opam-which images:hello -- ocamlfind '/usr/lib/*/libssl*'`. A file is an absolute path, a
        glob pattern (`*` also stands for slashes), or the name of a command, looked up in the PATH.

        Targets are `oci_package_image`, with all layers of the image, base and state among them (one for each package, also
        where the image puts several together; of a runtime image, those that its files come from), or `opam_package`, with what
        the package is built over. What no cache has is built. Each layer that has the file is named, the uppermost first, with
        mode, owner and size, and who hides or removes it. Exit status 1 if no layer shows some file.
        """
    )

    args = ArgsListOption(example="ocamlfind", passthrough=True, extra_help="The files to look for.")
    format = EnumOption(default=Format.text, help="`text`, or `json` for programs.")

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OpamWhich(Goal):
    """The goal `opam-which`."""

    subsystem_cls = OpamWhichSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


class NoFilesError(Exception):
    """Nothing is looked for."""


@dataclass(frozen=True)
class Looked:
    """A target's layers, bottom first, and the PATH there."""

    target: str
    layers: tuple[Layer, ...]
    path: str


async def look_at(target: Target) -> Looked:
    """Build what a target needs. Raises what cannot be built, NoPackagesError."""
    if is_package(target):
        asked = package_of(target)
        outcome = await build_package_layer(PackageLayerRequest(asked.resolve, asked.name), **implicitly())
        if not outcome.ok:
            because = outcome.failed or f"because of {', '.join(outcome.blocked_by)}"
            raise NoPackagesError(f"{outcome.package} was not built: {because}")
        plan = await plan_build(BuildPlanRequest(asked.resolve), **implicitly())
        ground = await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
        layers = (*ground.layers, *(outcome.layers[name] for name in plan.lock.in_build_order(outcome.layers)))
        return Looked(str(target.address), layers, _PATH)
    field_set = OciPackageImageFieldSet.create(target)
    parts = await build_image_parts(ImagePartsRequest(field_set), **implicitly())
    below = (*parts.ground.layers, *parts.layers)
    state = await make_state_layer(parts, below)
    env = dict(item.split("=", 1) for item in image_env(field_set, await environment_of(state)))
    return Looked(str(target.address), (*below, state), env.get("PATH", _PATH))


def as_json(wanted: str, found: Sequence[str], union: Union) -> dict[str, Any]:
    """What is known of a file, as `--format=json` has it."""
    paths = []
    for path in found:
        layers = [
            {
                "layer": one.layer,
                "kind": one.kind,
                "type": one.entry.kind,
                "mode": one.entry.mode,
                "uid": one.entry.uid,
                "gid": one.entry.gid,
                "size": one.entry.size,
                "target": one.entry.target,
                "hidden_by": one.hidden_by,
                "removed": one.removed,
            }
            for one in reversed(union.holders[path])
        ]
        paths.append({"path": f"/{path}", "seen": union.seen(path) is not None, "layers": layers})
    return {"file": wanted, "paths": paths}


def as_line(holder: Holder) -> str:
    """A layer that has a path."""
    entry = holder.entry
    bits = int(entry.mode, 8)
    mode = "".join("rwx"[n % 3] if bits >> (8 - n) & 1 else "-" for n in range(9))
    special = "".join(word for bit, word in ((11, " set-uid"), (10, " set-gid"), (9, " sticky")) if bits >> bit & 1)
    target = f" -> {entry.target}" if entry.target else ""
    hidden = f"  ({'removed' if holder.removed else 'hidden'} by {holder.hidden_by})" if holder.hidden_by else ""
    size = f" {entry.size} bytes" if entry.kind in ("file", "hard link") else ""
    owner = f"{entry.uid}:{entry.gid}"
    return f"  {holder.layer}  {_MODES.get(entry.kind, 'p')}{mode}{special} {owner}{size}{printable(target)}{hidden}"


def printable(text: str) -> str:
    """A name for a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def as_text(found: Sequence[str], union: Union) -> list[str]:
    """The same for people."""
    return [
        line
        for path in found
        for line in (f"/{printable(path)}", *(as_line(one) for one in reversed(union.holders[path])))
    ]


async def read_all(looked: Looked) -> list[Contents]:
    """What each of its layers has. Raises LayerError."""
    listed = await concurrently(list_contents(ContentsRequest(layer), **implicitly()) for layer in looked.layers)
    return [await contents_of(layer, one) for layer, one in zip(looked.layers, listed)]


@goal_rule
async def opam_which(console: Console, targets: Targets, subsystem: OpamWhichSubsystem) -> OpamWhich:
    """Look in each target for each file."""
    files = list(subsystem.args)
    if not files:
        raise NoFilesError("`opam-which` is told what to look for behind `--`: `opam-which images:hello -- ocamlfind`.")
    usable = [one for one in targets if is_package(one) or OciPackageImageFieldSet.is_applicable(one)]
    if not usable:
        raise NoPackagesError("`opam-which` looks in `oci_package_image` and `opam_package` targets; none is named.")
    missing = False
    answers: list[dict[str, Any]] = []
    with subsystem.output(console) as write:
        for target in sorted(usable, key=lambda target: target.address):
            looked = await look_at(target)
            union = Union(await read_all(looked))
            for wanted in files:
                found = union.find(wanted, looked.path)
                if not any(union.seen(path) for path in found):
                    missing = True
                    console.print_stderr(
                        f"{console.sigil_failed()} {looked.target}: no layer shows {printable(wanted)}"
                    )
                answers.append({"target": looked.target, **as_json(wanted, found, union)})
                if subsystem.format is Format.text and found:
                    write(
                        "\n".join([f"{looked.target}:" if len(usable) > 1 else "", *as_text(found, union)]).lstrip()
                        + "\n"
                    )
        if subsystem.format is Format.json:
            write(json.dumps(answers, indent=2) + "\n")
    return OpamWhich(1 if missing else 0)


def rules() -> list[object]:
    return [*collect_rules()]
