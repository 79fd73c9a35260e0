"""What an image's configuration and manifest say: entrypoint, variables, labels; layers and sizes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from opam_sandbox.checking.requests import ConfigCheck, LimitCheck, ValueCheck
from opam_sandbox.checking.results import Result, differs, shown, unmatched

# Texts and lists of texts: the request's name, the configuration's, and what stands for a missing one.
_TEXTS = {"user": "User", "workdir": "WorkingDir", "stop_signal": "StopSignal"}
_LISTS = {"entrypoint": "Entrypoint", "cmd": "Cmd"}
# Objects whose keys are what counts.
_SETS = {"exposed_ports": "ExposedPorts", "volumes": "Volumes"}


def check_config(config: Mapping[str, Any], check: ConfigCheck) -> List[Result]:
    """A result for each value. config: the object `config` of an image's configuration, whatever is in it."""
    found: List[Result] = []
    for name, key in _TEXTS.items():
        if name in check:
            found.append(Result("config", name, differs("it", config.get(key) or "", check[name])))  # type: ignore[literal-required]
    for name, key in _LISTS.items():
        if name in check:
            found.append(Result("config", name, differs("it", config.get(key) or [], check[name])))  # type: ignore[literal-required]
    for name, key in _SETS.items():
        if name in check:
            value, wanted = config.get(key) or {}, sorted(check[name])  # type: ignore[literal-required]
            there = sorted(_port(one) if name == "exposed_ports" else one for one in value)
            found.append(Result("config", name, differs("it", there, wanted)))
    variables = _variables(config.get("Env") or [])
    found += [Result("config", f"env {one['name']}", _value(variables, one)) for one in check.get("env", ())]
    labels = config.get("Labels") or {}
    found += [Result("config", f"label {one['name']}", _value(labels, one)) for one in check.get("labels", ())]
    return found


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _variables(entries: List[str]) -> Dict[str, str]:
    # The last entry of a name counts, as for those who read an environment.
    return dict(entry.partition("=")[::2] for entry in entries)


def _value(values: Mapping[str, str], check: ValueCheck) -> List[str]:
    found: Optional[str] = values.get(check["name"])
    if check.get("absent"):
        return [] if found is None else [f"it is {shown(found)}, but should not be there"]
    if found is None:
        return ["it is not there"]
    if "equals" in check:
        return differs("it", found, check["equals"])
    return unmatched(f"its value {shown(found)}", found, [check["matches"]] if "matches" in check else [], [])


def check_limits(check: LimitCheck, layers: int, size: int, unpacked: Optional[int]) -> List[Result]:
    """A result for each. size: bytes of the layers' blobs; unpacked: of all files in them, None where nobody asks."""
    found: List[Result] = []
    if "max_layers" in check:
        found.append(Result("limit", "max_layers", _more("layers", layers, check["max_layers"])))
    if "max_size" in check:
        found.append(Result("limit", "max_size", _more("bytes of compressed layers", size, check["max_size"])))
    if "max_unpacked_size" in check and unpacked is not None:
        problems = _more("bytes of files in its layers", unpacked, check["max_unpacked_size"])
        found.append(Result("limit", "max_unpacked_size", problems))
    return found


def _more(what: str, found: int, most: int) -> List[str]:
    return [] if found <= most else [f"the image has {found:,} {what}, but should have at most {most:,}"]
