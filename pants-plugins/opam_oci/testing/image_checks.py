"""What an `oci_image_test` asks of an image, as the sandbox tool takes it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, cast

from pants.util.frozendict import FrozenDict

if TYPE_CHECKING:
    from opam_sandbox.checking.requests import CommandCheck, ConfigCheck, FileCheck, LimitCheck, UserCheck, ValueCheck

# Seconds, where nobody says.
_COMMAND_TIMEOUT = 60


def config_check(config: Mapping[str, Any]) -> ConfigCheck:
    """The field `config`."""
    found = cast(Dict[str, Any], thawed(config))
    for key in ("env", "labels"):
        if key in found:
            found[key] = [_value(name, one) for name, one in sorted(found[key].items())]
    return cast("ConfigCheck", found)


def _value(name: str, expected: Any) -> ValueCheck:
    if expected is None:
        return {"name": name, "absent": True}
    if isinstance(expected, str):
        return {"name": name, "equals": expected}
    return {"name": name, "matches": expected["matches"]}


def limit_check(max_layers: int | None, max_size: int | None, max_unpacked_size: int | None) -> LimitCheck:
    """The fields that limit the image as a whole; None: any."""
    limits = {"max_layers": max_layers, "max_size": max_size, "max_unpacked_size": max_unpacked_size}
    return cast("LimitCheck", {name: limit for name, limit in limits.items() if limit is not None})


def file_checks(files: Mapping[str, Mapping[str, Any]]) -> List[FileCheck]:
    """The field `files`."""
    return [cast("FileCheck", {"path": path, **_present(check)}) for path, check in sorted(files.items())]


def user_checks(users: Mapping[str, Mapping[str, Any]]) -> List[UserCheck]:
    """The field `users`."""
    return [cast("UserCheck", {"name": name, **_present(check)}) for name, check in sorted(users.items())]


def _present(check: Mapping[str, Any]) -> dict[str, Any]:
    values = cast(Dict[str, Any], thawed(check))
    return values if values.pop("exists", True) else {**values, "absent": True}


def command_checks(commands: tuple[Mapping[str, Any], ...]) -> List[CommandCheck]:
    """The field `commands`. Two of one name get numbers."""
    found: List[CommandCheck] = []
    names: dict[str, int] = {}
    for command in commands:
        values = {"exit_code": 0, "timeout": _COMMAND_TIMEOUT, **cast(Dict[str, Any], thawed(command))}
        if "env" in values:
            values["env"] = [f"{name}={text}" for name, text in sorted(values["env"].items())]
        if "argv" not in values:
            values.setdefault("arguments", [])
        name = values.get("name") or shlex.join(values.get("argv") or values["arguments"]) or "of the image itself"
        names[name] = names.get(name, 0) + 1
        values["name"] = name if names[name] == 1 else f"{name} ({names[name]})"
        found.append(cast("CommandCheck", values))
    return found


def thawed(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, (dict, FrozenDict)):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
