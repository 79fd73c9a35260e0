"""Which package has a path of a layer: by what dpkg and opam write down of each in the layer itself.

A layer may be of many packages: a base, packages that were joined, a whole image. dpkg lists a package's files in
var/lib/dpkg/info/NAME.list, opam in .opam-switch/install/NAME.changes.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, NamedTuple, Sequence, Set

from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.read_tar import TarReader
from opam_sandbox.oci.layer_file import LayerFile, content_of

_DPKG = re.compile(rb"var/lib/dpkg/info/([^/:]+)(?::[^/]+)?\.[a-z0-9]+\Z")
_OPAM = re.compile(rb"(.*/)?\.opam-switch/install/([^/]+)\.changes\Z", re.DOTALL)
# What opam keeps of a package: in the switch, and in its repositories.
_OPAM_OWN = re.compile(
    rb"(?:.*/)?(?:\.opam-switch/(?:(?:packages|sources|build)/([^/.]+)[./]|(?:install|config)/([^/]+)\.(?:install|config)\Z)"
    rb"|packages/([^/.]+)/\3\.[^/]+/(?:opam\Z|files/))",
    re.DOTALL,
)
# Bytes of one such list; others are left alone.
_LARGEST = 16 << 20


class Owners(NamedTuple):
    """names: of the package that has a path, as `dpkg libc6` or `opam lwt`."""

    names: Dict[bytes, str] = {}

    def of(self, path: bytes) -> str:
        """Of one path; "" where nobody says."""
        return self.names.get(path, "")


def owners_of(layers: Sequence[LayerFile], paths: Iterable[bytes]) -> Owners:
    """Of these paths in layers, by the lists that are in them; the layers are read for it. Raises ToolError."""
    wanted = set(paths)
    names = {path: name for path, name in ((path, _own(path)) for path in wanted) if name}
    for layer in layers if wanted else ():
        with content_of(layer) as content:
            reader = TarReader(content, layer.title)
            for member in reader:
                if member.kind == tar_headers.REGULAR and member.size <= _LARGEST:
                    _read(member.name, reader, wanted, names)
    return Owners(names)


def _own(path: bytes) -> str:
    """Of a path that is a package's by its name: what dpkg and opam themselves keep of it."""
    dpkg = _DPKG.match(path)
    if dpkg:
        return f"dpkg {dpkg.group(1).decode('utf-8', 'backslashreplace')}"
    opam = _OPAM.match(path)
    own = opam or _OPAM_OWN.match(path)
    if not own:
        return ""
    name = opam.group(2) if opam else next(filter(None, own.groups()))
    return f"opam {name.decode('utf-8', 'backslashreplace')}"


def _read(name: bytes, reader: TarReader, wanted: Set[bytes], names: Dict[bytes, str]) -> None:
    dpkg, opam = _DPKG.match(name), _OPAM.match(name)
    if dpkg and name.endswith(b".list"):
        lines = b"".join(reader.content()).split(b"\n")
        owned = (line.strip(b"/") for line in lines)
        title = f"dpkg {dpkg.group(1).decode('utf-8', 'backslashreplace')}"
    elif opam:
        prefix = opam.group(1) or b""
        # Names stand in quotes. What else is between two quotes is no path that anybody asks for.
        owned = (prefix + text for text in b"".join(reader.content()).split(b'"'))
        title = f"opam {opam.group(2).decode('utf-8', 'backslashreplace')}"
    else:
        return
    for path in owned:
        if path in wanted:
            names.setdefault(path, title)
