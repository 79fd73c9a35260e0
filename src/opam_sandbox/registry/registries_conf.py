"""Whether skopeo's own configuration may lead it elsewhere than to the host that a reference names.

Source: containers-registries.conf(5): an entry leads elsewhere by a `prefix` beside its `location`. (Mirrors are for pulls.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping

_SYSTEM = Path("/etc/containers")


def may_lead_elsewhere(env: Mapping[str, str]) -> str:
    """The path of a file that has an entry with a `prefix`, whichever registry it is for; "" where there is none."""
    for path in _files(env):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return str(path)  # skopeo may be able to read it
        if any("prefix" in line for line in text.splitlines() if not line.lstrip().startswith("#")):
            return str(path)
    return ""


def _files(env: Mapping[str, str]) -> Iterator[Path]:
    tops = [_SYSTEM]
    if env.get("HOME"):
        tops.insert(0, Path(env.get("XDG_CONFIG_HOME") or Path(env["HOME"], ".config"), "containers"))
    if env.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(env["CONTAINERS_REGISTRIES_CONF"])
    for top in tops:
        yield top / "registries.conf"
        yield from sorted((top / "registries.conf.d").glob("*.conf"))
