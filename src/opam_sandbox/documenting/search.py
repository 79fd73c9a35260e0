"""What the first page finds: names of modules, values, types and pages, as odoc's index has them.

Pages are read from a disk as well as from a server. There a script may load no data but as a script of its own, and start no
worker, so that the search which odoc's pages have room for would say nothing: the entries are a script, and the page's own finds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from opam_sandbox.errors import ToolError

SCRIPT, ENTRIES, STYLE = "search.js", "search-entries.js", "search.css"
# Of what is said of a name.
_LONGEST = 120
# What leads nowhere of its own.
_LEFT_OUT = ("doc", "dir", "impl")

# Kind, name with what it is in, where it is below the first page, and what is said of it.
Entry = Tuple[str, str, str, str]


def entries(index: bytes, where: str) -> List[Entry]:
    """The entries of what `odoc compile-index --json --simplified-json` wrote; of several of one place the first.

    Raises ToolError where it is no index."""
    found: Dict[Tuple[str, str], Entry] = {}
    try:
        for one in json.loads(index):
            kind, url = _text(one["kind"]), _text(one["url"]).lstrip("/")
            prefix, name = _text(one["prefixname"]), _text(one["name"])
            if kind not in _LEFT_OUT and name and url:
                whole = f"{prefix}.{name}" if prefix else name
                found.setdefault((kind, url), (kind, whole, url, _first_sentence(_text(one["comment"]))))
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{where}: odoc's index is none ({error!r:.100})") from None
    return list(found.values())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _first_sentence(comment: str) -> str:
    text = " ".join(comment.split())
    end = text.find(". ")
    text = text[: end + 1] if end >= 0 else text
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3].rstrip() + "..."


def entries_script(found: Iterable[Entry]) -> bytes:
    """The script that holds the entries, one a line."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in found)
    return f"var odocEntries = [\n{lines}\n];\n".encode()


def data_file(name: str) -> str:
    """The text of a file that stands beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
