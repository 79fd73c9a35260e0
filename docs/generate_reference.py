"""Writes docs/reference/ from the code: targets, fields, options and goals, with the help that Pants itself shows.

    PYTHONPATH=src:pants-plugins $(build-support/test-python) docs/generate_reference.py [--check]

With `--check` it writes nothing, names each page that is out of date, and ends with 1 if there is one. It starts no
engine and reads no configuration, so that the same code gives the same pages on every machine.
"""

from __future__ import annotations

import os
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Iterable, List, Mapping, Tuple, Type

# Help names the program by this variable, which is read when modules are imported.
os.environ["__PANTS_BIN_NAME"] = "pants"

from pants.build_graph.build_configuration import BuildConfiguration
from pants.core.goals.export import ExportRequest
from pants.core.goals.generate_lockfiles import GenerateLockfile
from pants.core.goals.package import PackageFieldSet
from pants.core.goals.publish import PublishFieldSet
from pants.core.goals.run import RunFieldSet
from pants.core.goals.tailor import PutativeTargetsRequest
from pants.engine.goal import GoalSubsystem
from pants.engine.target import Field, FieldSet, Target, TargetGenerator
from pants.engine.unions import UnionMembership
from pants.help.help_info_extracter import HelpInfoExtracter, OptionHelpInfo, TargetFieldHelpInfo
from pants.init.extension_loader import load_build_configuration_from_source
from pants.option.options_bootstrapper import OptionsBootstrapper
from pants.option.subsystem import Subsystem

OUTPUT = Path(__file__).resolve().parent / "reference"
HEADER = "<!-- Written by docs/generate_reference.py. Do not edit: change the help in the code, and run it again. -->\n"


class Backend:
    """What the backend `opam_oci` registers."""

    def __init__(self) -> None:
        builder = BuildConfiguration.Builder()
        load_build_configuration_from_source(builder, ["opam_oci"])
        configuration = builder.create()
        self.targets: List[Type[Target]] = sorted(
            # Those that Pants makes itself, as `_opam_lockfile`, nobody writes.
            (one for one in configuration.target_types if is_ours(one) and not one.alias.startswith("_")),
            key=lambda target: target.alias,
        )
        self.unions = UnionMembership.from_rules(configuration.union_rules)
        self.subsystems: List[Type[Subsystem]] = sorted(
            (subsystem for subsystem in configuration.all_subsystems if is_ours(subsystem)),
            key=lambda subsystem: str(subsystem.options_scope),
        )
        bootstrapper = OptionsBootstrapper.create(env={}, args=["--pants-config-files=[]"], allow_pantsrc=False)
        self.options = bootstrapper.full_options(configuration, self.unions)

    def options_of(self, subsystem: Type[Subsystem]) -> List[Tuple[OptionHelpInfo, bool]]:
        """The subsystem's options, each with whether it is advanced: those last, else in alphabetical order."""
        scope = str(subsystem.options_scope)
        self.options.for_scope(scope)  # Registers them.
        parser = self.options.get_parser(scope)
        info = HelpInfoExtracter(scope).get_option_scope_help_info("", parser, False, "", None)
        both = [(option, False) for option in info.basic] + [(option, True) for option in info.advanced]
        return sorted(both, key=lambda entry: (entry[1], entry[0].config_key))


def is_ours(thing: type) -> bool:
    """Whether a class is the backend's own and not Pants'."""
    return thing.__module__.split(".")[0] == "opam_oci"


def has_own_help(field: Type[Field]) -> bool:
    """Whether the backend says what a field is, and not Pants."""
    return any(is_ours(base) and "help" in vars(base) for base in field.__mro__)


def markdown(text: str) -> str:
    """Help as Markdown: its indented blocks are code, and `<` outside of code is no tag."""
    lines = []
    for line in text.strip().splitlines():
        if line.startswith("    "):
            lines.append(line)
            continue
        pieces = re.split(r"(`[^`]*`)", line)
        lines.append("".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces))
    return "\n".join(lines)


def value_text(value: Any) -> str:
    """A value as pants.toml and BUILD files have it."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        value = dict(value)
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(repr(item) for item in value)}]`".replace("'", '"')
    return f"`{value!r}`".replace("'", '"')


def sentence(label: str, text: str) -> str:
    return f"**{label}:** {text}"


def field_section(target: Type[Target], field: Type[Field]) -> List[str]:
    """The section of one field: type, default or that it is required, and its help."""
    info = TargetFieldHelpInfo.create(field, provider="")
    facts = [sentence("Type", f"`{info.type_hint}`".replace("'", '"'))]
    if info.required:
        facts.append("**required**")
    else:
        facts.append(sentence("Default", value_text(field.default)))
    anchor = f"{target.alias}-{field.alias}".replace("_", "-")
    return [f"### `{field.alias}` {{ #{anchor} }}", " · ".join(facts), markdown(info.description)]


def targets_page(backend: Backend) -> str:
    """Every target type with its own fields; the fields that all targets have are named only."""
    parts = ["# Targets", "`pants help TARGET` shows the same on a terminal."]
    parts.append("\n".join(f"- [`{target.alias}`](#{target.alias.replace('_', '-')})" for target in backend.targets))
    for target in backend.targets:
        fields = list(target.class_field_types(union_membership=backend.unions))
        if issubclass(target, TargetGenerator):
            fields += target.moved_fields
        shown = sorted(
            (field for field in fields if has_own_help(field)), key=lambda one: (not one.required, one.alias)
        )
        common = sorted(field.alias for field in fields if field not in shown and not field.alias.startswith("_"))
        parts += [f"## `{target.alias}` {{ #{target.alias.replace('_', '-')} }}", markdown(str(target.help))]
        parts.append(f"Fields of Pants' own: {', '.join(f'`{alias}`' for alias in common)}, and `name`.")
        for field in shown:
            parts += field_section(target, field)
    return page(parts)


def type_text(option: OptionHelpInfo) -> str:
    if option.choices:
        return " | ".join(f'`"{choice}"`' for choice in option.choices)
    return f"`{option.typ.__name__}`"


def option_section(scope: str, option: OptionHelpInfo, advanced: bool) -> List[str]:
    """The section of one option: where it is set, type, default and its help."""
    flag = option.display_args[-1] if option.display_args else ""
    places = f"`[{scope}].{option.config_key}` in pants.toml, `{flag}`, or the variable `{option.env_var}`"
    facts = [sentence("Type", type_text(option)), sentence("Default", value_text(option.default))]
    if advanced:
        facts.append("advanced")
    anchor = f"{scope}-{option.config_key}".replace("_", "-")
    heading = f"### `{option.config_key}` {{ #{anchor} }}"
    return [heading, " · ".join(facts), f"Set it as {places}.", markdown(option.help)]


def options_page(backend: Backend) -> str:
    """Every option, by the section of pants.toml that it is in."""
    subsystems = [subsystem for subsystem in backend.subsystems if not issubclass(subsystem, GoalSubsystem)]
    scopes = [str(subsystem.options_scope) for subsystem in subsystems]
    parts = [
        "# Options",
        "`pants help-advanced SECTION` shows the same on a terminal, with the values that are in force.",
    ]
    parts.append("\n".join(f"- [`[{scope}]`](#{scope})" for scope in scopes))
    for scope, subsystem in zip(scopes, subsystems):
        parts += [f"## `[{scope}]` {{ #{scope} }}", markdown(str(subsystem.help))]
        for option, advanced in backend.options_of(subsystem):
            parts += option_section(scope, option, advanced)
    return page(parts)


def target_aliases(backend: Backend, field_sets: Iterable[Type[FieldSet]]) -> str:
    """The target types that any of the field sets applies to."""
    aliases = {
        f"[`{target.alias}`](targets.md#{target.alias.replace('_', '-')})"
        for field_set in field_sets
        if is_ours(field_set)
        for target in backend.targets
        if target.class_has_fields(field_set.required_fields, union_membership=backend.unions)
    }
    return ", ".join(sorted(aliases))


def goals_page(backend: Backend) -> str:
    """The goals that the backend adds, and what it adds to Pants' goals."""
    parts = ["# Goals", "`pants help GOAL` shows a goal's own options on a terminal.", "## Goals of Pants"]
    rows = ["| Goal | For |", "| --- | --- |"]
    for goal, union in (("package", PackageFieldSet), ("publish", PublishFieldSet), ("run", RunFieldSet)):
        rows.append(f"| `pants {goal}` | {target_aliases(backend, backend.unions.get(union))} |")
    if any(is_ours(member) for member in backend.unions.get(GenerateLockfile)):
        rows.append("| `pants generate-lockfiles` | the resolves of `[opam].resolves` and of `[debian].resolves` |")
    if any(is_ours(member) for member in backend.unions.get(ExportRequest)):
        rows.append("| `pants export` | the resolves of `[opam].resolves`, as switches for [editors](../howto/editors.md) |")
    if any(is_ours(member) for member in backend.unions.get(PutativeTargetsRequest)):
        rows.append("| `pants tailor` | `opam_requirement` for files `*.opam` and `opam`, `opam_packages` for lockfiles |")
    parts += [
        "\n".join(rows),
        "`list`, `peek`, `dependencies`, `dependents` and the others take every target.",
        "## Own goals",
    ]
    for subsystem in backend.subsystems:
        if not issubclass(subsystem, GoalSubsystem):
            continue
        parts += [f"### `pants {subsystem.name}`", markdown(str(subsystem.help))]
        options = backend.options_of(subsystem)
        for option, advanced in options:
            parts += option_section(subsystem.name, option, advanced)
        if not options:
            parts.append("It has no options of its own.")
    return page(parts)


def page(parts: List[str]) -> str:
    return HEADER + "\n" + "\n\n".join(parts) + "\n"


def pages() -> "dict[str, str]":
    """The text of each page, by its name below docs/reference/."""
    backend = Backend()
    return {
        "targets.md": targets_page(backend),
        "options.md": options_page(backend),
        "goals.md": goals_page(backend),
    }


def main(check: bool) -> int:
    stale = []
    for name, text in pages().items():
        path = OUTPUT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"docs/reference/{name} {'is out of date' if check else 'is written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
