"""What users configure, and what programs of the host say: locations of repositories, apt's sources, skopeo's messages."""

from __future__ import annotations

from typing import List

from opam_oci.downloads.apt_sources import parse_deb822_style, parse_one_line_style
from opam_oci.resolves.opam_repositories import InvalidRepositoryError, parse_location
from opam_sandbox.errors import ToolError
from opam_sandbox.locking.sources import SourceFinder
from opam_sandbox.locking.wanted_sources import wanted_sources
from opam_sandbox.opam import opamfile
from opam_sandbox.publishing import skopeo

SEEDS: List[bytes] = [
    b"https://example.org/r.tar.zst#sha256=" + b"ab" * 32 + b"&size=123",
    b"git+https://example.org/r#" + b"0" * 40,
    b"3rdparty/opam/overlay",
    b"deb [arch=amd64 signed-by=/x] https://example.org/debian trixie main contrib # x\n",
    b"Types: deb deb-src\nURIs: https://example.org/debian\nSuites: trixie\n trixie-updates\nComponents: main\nEnabled: no\n",
    b'time="x" level=fatal msg="writing blob: \\"denied\\": unauthorized: x509"\n',
    b'url { src: "https://[x" checksum: "md5=d41d8cd98f00b204e9800998ecf8427e" }\n',
]
TOKENS = [
    b"#sha256=",
    b"&size=",
    b"git+",
    b"://",
    b"[",
    b"]",
    b"deb ",
    b"Types: deb\n",
    b"level=fatal msg=",
    b"\xc2\xb2",
]
TOKENS += [b"@", b"//["]
_PLACE = skopeo.Destination("example.org:5000/x:y", True, "")


def run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        parse_location("name", text)
    except InvalidRepositoryError as error:
        assert str(error).startswith("`[opam].repositories` has name = ")
    list(parse_one_line_style(text))
    list(parse_deb822_style(text))
    skopeo._is_passing(text)
    skopeo._hint(text, _PLACE)
    assert "\n" not in skopeo.last_line("x").strip()
    try:
        wanted = wanted_sources(opamfile.parse(text, "p.1"), "p.1")
    except ToolError:
        return
    finder = SourceFinder([], [], [])
    for source in wanted:
        if not any(
            "://" in url and not url.startswith("https://[") for url in source.urls
        ):  # nothing is downloaded here
            try:
                finder.lock("p.1", source)
            except ToolError:
                pass
