"""/etc/passwd and its kin, as maintainer scripts left them in several layers: what is merged is whole, and no number is twice."""

from __future__ import annotations

from typing import Dict, List

from opam_sandbox import accounts
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import merge_accounts
from tests.fuzz._places import place

_BASE = b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/sh\n"
# The parts: group, passwd, shadow of one layer; of another; `\n\n` stands between them.
SEEDS: List[bytes] = [
    b"""a:x:100:m,n

a:x:100:100::/:/bin/sh

a:!:1::::::

b:x:100:m

b:x:100:100::/:/bin/sh

b:!:1::::::""",
    b"root\n\nroot:x\n\n:::\n\nroot:\r\n\n\x00:x:-1:99999999999999999999\n\n\xff:x:1000:0",
]
TOKENS = [
    b":",
    b"::",
    b":x:0:0:",
    b":x:100:",
    b"a:x:100:100::/:/bin/sh\n",
    b"+::::::\n",
    b"a\n",
    b",",
    b"\n\n",
    b"opam:x:",
]
_FILES = ("group", "passwd", "shadow")


def run(data: bytes) -> None:
    parts = (data.split(b"\n\n") + [b""] * 6)[:6]
    layers = [place(f"accounts-{number}") for number in range(4)]
    view = place("accounts-view")
    for root in (*layers, view):
        (root / "etc").mkdir(exist_ok=True)
    for number, name in enumerate(_FILES):
        for layer in layers[:2]:
            (layer / "etc" / name).write_bytes(_BASE)
        for place_of, layer in enumerate(layers[2:]):
            (layer / "etc" / name).write_bytes(_BASE + parts[3 * place_of + number] + b"\n")
        (view / "etc" / name).write_bytes((layers[-1] / "etc" / name).read_bytes())
    before = {name: _names((view / "etc" / name).read_bytes()) for name in _FILES}
    try:
        merge_accounts.merge(view, layers)
        accounts.has_user(view)
        accounts.add_user(view)
    except ToolError:
        return
    for name in _FILES:
        text = (view / "etc" / name).read_bytes()
        found = _names(text)
        assert before[name] <= found, (name, before[name] - found)
        assert _names((layers[2] / "etc" / name).read_bytes()) <= found


def _names(text: bytes) -> Dict[bytes, None].keys:  # type: ignore[valid-type]
    return dict.fromkeys(line.split(b":")[0] for line in text.split(b"\n") if line).keys()
