"""Which Debian archives this machine's apt uses."""

from __future__ import annotations

from pathlib import Path

from opam_oci.downloads.apt_sources import apt_mirrors

SOURCES = """\
# first
Types: deb deb-src
URIs: http://one.example/debian/ https://two.example/debian
Suites: trixie
 trixie-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://one.example/debian-security
Suites: trixie-security
Components: main

Types: deb
# a comment within
URIs: http://off.example/debian
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: trixie
Components: main
types: deb

Types: deb-src
URIs: http://only-sources.example/debian
Suites: trixie
Components: main
"""

LIST = """\
# deb http://comment.example/debian trixie main
deb http://old.example/debian/ trixie main contrib  # the mirror
deb [arch=amd64 signed-by=/k.gpg] https://user:secret@options.example/debian trixie main
deb-src http://source.example/debian trixie main
deb cdrom:[Debian]/ trixie main
deb http://security.example/debian-security bookworm/updates main
deb http://one.example/debian trixie-updates main
deb http://flat.example/repo ./
deb http://third-party.example/debian trixie stable
deb file:/srv/mirror trixie main
nonsense
"""


def etc_apt(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_both_styles_in_apts_order(tmp_path: Path) -> None:
    directory = etc_apt(
        tmp_path,
        {
            "sources.list": LIST,
            "sources.list.d/b.sources": SOURCES,
            "sources.list.d/a.list": "deb http://a.example/debian trixie main\n",
            "sources.list.d/c.list.disabled": "deb http://c.example/debian trixie main\n",
        },
    )
    assert apt_mirrors(directory) == (
        "http://old.example/debian",
        "https://user:secret@options.example/debian",
        "http://one.example/debian",
        "file:///srv/mirror",
        "http://a.example/debian",
        "https://two.example/debian",
        "http://sources.example/debian",
    )


def test_a_machine_without_apt(tmp_path: Path) -> None:
    assert apt_mirrors(tmp_path / "nowhere") == ()
    assert apt_mirrors(etc_apt(tmp_path, {"sources.list": ""})) == ()
