"""Whether `package` need not write a target's output again: it is in dist/ as an earlier run left it.

The engine hands what a target packages to whoever asks, and writes all of it in each run. What asks may be the goal, or a target
that packages others, such as `archive`; a rule cannot know, and to the latter nothing may be missing. So output is left out only
in a run that packages targets of this backend and nothing else: these ask each other for images, never for packages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from pants.base.build_environment import get_buildroot
from pants.base.glob_match_error_behavior import GlobMatchErrorBehavior
from pants.base.specs import DirGlobSpec, RawSpecsWithoutFileOwners, RecursiveGlobSpec
from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, PackageFieldSet, PackageSubsystem
from pants.core.util_rules.distdir import DistDir
from pants.engine.addresses import Addresses, UnparsedAddressInputs
from pants.engine.env_vars import CompleteEnvironmentVars
from pants.engine.fs import EMPTY_DIGEST, Digest
from pants.engine.unions import UnionMembership
from pants.option.global_options import GlobalOptions
from pants.option.options_bootstrapper import OptionsBootstrapper

from opam_oci.images.stored_files import verified
from opam_oci.pants_engine.calls import addresses_of, executing_goals, session_values, targets_of, unexpanded_targets
from opam_oci.pants_engine.digests import file_entries
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule, uncacheable_rule
from opam_oci.run_end.dist_links import dist_record, outputs_of_this_run
from opam_oci.run_end.dist_record import Output

# Pants' goal that asks for packages as well.
_PUBLISH = "publish"


@dataclass(frozen=True)
class OutputRequest:
    """Asks whether dist/ has the output already."""

    output: Output


@dataclass(frozen=True)
class OutputState:
    """is_kept: it has, and nobody else needs it. dist: the distribution directory, relative to the build root.

    is_published: nobody needs it but this backend's `publish`, which asks for as little of it as it can, and compares that.
    """

    is_kept: bool
    dist: str
    is_published: bool = False


@dataclass(frozen=True)
class PackagedAloneRequest:
    """Asks whether these addresses and globs, as a command line has them, are targets of this backend and nothing else."""

    specs: tuple[str, ...]


@dataclass(frozen=True)
class PackagedAlone:
    """Whether they are, as far as `package` is concerned."""

    is_so: bool


def packaged_specs(arguments: Sequence[str], in_build_root: bool, goal: str = PackageSubsystem.name) -> tuple[str, ...]:
    """The addresses and globs that a command line packages, if that is all that it says; else none.

    arguments: with the program's name first. goal: another one that asks for packages."""
    words = []
    for argument in arguments[1:]:
        if argument == "--" or argument.startswith("--spec-files"):
            return ()
        if not argument.startswith("-"):  # what begins with it takes away at most: options, and specs that are left out
            words.append(argument)
    specs = tuple(words[1:])
    if words[:1] != [goal] or any(":" not in spec or "*" in spec for spec in specs):
        return ()
    # What is no path from the top of the build root is relative to the directory of the caller.
    return specs if in_build_root or all(spec.startswith("//") for spec in specs) else ()


def raw_specs(specs: Sequence[str]) -> tuple[UnparsedAddressInputs, RawSpecsWithoutFileOwners]:
    """Addresses, and globs that end in `:` or `::`."""
    origin = "the targets to package"
    paths = [spec[2:] if spec.startswith("//") else spec for spec in specs]
    literals = [spec for spec in specs if not spec.endswith(":")]
    return (
        UnparsedAddressInputs(literals, owning_address=None, description_of_origin=origin),
        RawSpecsWithoutFileOwners(
            description_of_origin=origin,
            dir_globs=tuple(DirGlobSpec(path[:-1]) for path in paths if path.endswith(":") and not path.endswith("::")),
            recursive_globs=tuple(RecursiveGlobSpec(path[:-2]) for path in paths if path.endswith("::")),
            unmatched_glob_behavior=GlobMatchErrorBehavior.ignore,
        ),
    )


def _is_ours(field_set: type) -> bool:
    return field_set.__module__.startswith(f"{__name__.partition('.')[0]}.")


@rule
async def find_packaged_alone(request: PackagedAloneRequest, union_membership: UnionMembership) -> PackagedAlone:
    """By the targets that they are."""
    literals, globs = raw_specs(request.specs)
    found = [*(await addresses_of(literals)), *(target.address for target in await unexpanded_targets(globs))]
    others = [field_set for field_set in union_membership.get(PackageFieldSet) if not _is_ours(field_set)]
    targets = await targets_of(Addresses(found))
    return PackagedAlone(not any(other.is_applicable(target) for other in others for target in targets))


async def specs_of_this_run(goal: str = PackageSubsystem.name) -> tuple[str, ...]:
    """What the command line packages, or publishes, if it says so plainly."""
    values = await session_values()
    env = values.get(CompleteEnvironmentVars) or {}
    directory = env.get("PWD", "")
    in_build_root = bool(directory) and Path(directory).resolve() == Path(get_buildroot()).resolve()
    return packaged_specs(getattr(values.get(OptionsBootstrapper), "args", ()), in_build_root, goal)


@uncacheable_rule
async def look_at_output(request: OutputRequest, dist_dir: DistDir, options: GlobalOptions) -> OutputState:
    """In each run. What it writes is noted, so that a later run may keep it."""
    dist = str(dist_dir.relpath)
    outputs = await outputs_of_this_run(**implicitly())
    goals = await executing_goals()
    if not goals.is_running(PackageSubsystem.name):
        specs = await specs_of_this_run(_PUBLISH) if goals.is_running(_PUBLISH) else ()
        if not specs or options.spec_files:
            return OutputState(False, dist)
        published = await find_packaged_alone(PackagedAloneRequest(specs), **implicitly())
        return OutputState(False, dist, is_published=published.is_so)
    specs = await specs_of_this_run()
    if specs and not options.spec_files and dist_record(dist_dir, options).holds(request.output):
        alone = await find_packaged_alone(PackagedAloneRequest(specs), **implicitly())
        if alone.is_so:
            return OutputState(True, dist)
    outputs.add(request.output)
    return OutputState(False, dist)


async def written_or_kept(digest: Digest, artifacts: tuple[BuiltPackageArtifact, ...], name: str) -> BuiltPackage:
    """The package of a target, for `package` to write; without its files where dist/ has them already. `name`: for messages.

    Raises DamagedStoreError where Pants' store has lost what is to be written."""
    paths = tuple(artifact.relpath for artifact in artifacts if artifact.relpath)
    files = tuple(
        (path, entry.file_digest.serialized_bytes_length) for path, entry in (await file_entries(digest)).items()
    )
    state = await look_at_output(OutputRequest(Output(paths, digest.fingerprint, files)), **implicitly())
    if state.is_published:
        return BuiltPackage(digest, artifacts)
    if not state.is_kept:
        return BuiltPackage(await verified(digest, name), artifacts)
    # Pants removes what lies at an artifact's path, and says of it that it was written.
    kept = [
        BuiltPackageArtifact(None, (f"Kept {state.dist}/{artifact.relpath}", *artifact.extra_log_lines))
        for artifact in artifacts
    ]
    return BuiltPackage(EMPTY_DIGEST, tuple(kept))


def rules() -> list[object]:
    return [*collect_rules()]
