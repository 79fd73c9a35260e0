"""Depexts from a real Debian: installed in layers beside one another, dpkg and apt of the image find nothing wrong; what
conflicts is an error when locking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator

import pytest

from bench.scratch_project import ScratchProject
from opam_oci.resolves.lockfile_reader import read_opam_lock
from tests.e2e.conftest import Layout, Unpacked, unpack

PACKAGES = {
    # Pre-Depends
    "conf-python": ["python3"],
    # one diverts what the other brings, which is installed over it
    "conf-parallel": ["parallel"],
    "conf-moreutils": ["moreutils"],
    # the same command twice
    "conf-nano": ["nano"],
    "conf-vim": ["vim-tiny"],
    # questions of debconf, a named trigger
    "conf-certificates": ["ca-certificates"],
    "conf-gnutls": ["libcurl4-gnutls-dev"],
    "conf-openssl": ["libcurl4-openssl-dev"],
    "conf-mail": ["mail-transport-agent"],
}
DEPENDS = {"conf-moreutils": "conf-parallel", "conf-openssl": "conf-gnutls"}
GOOD = list(PACKAGES)[:6]
RESOLVES = {"good": GOOD, "chain": ["conf-openssl"], "virtual": ["conf-mail", "conf-nano"]}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs containers with owners: needs root")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    project = ScratchProject(tmp_path_factory.mktemp("depexts") / "project", list(RESOLVES))
    files: Dict[str, str] = {}
    for name, depexts in PACKAGES.items():
        listed = " ".join(f'"{depext}"' for depext in depexts)
        depends = f'depends: ["{DEPENDS[name]}"]\n' if name in DEPENDS else ""
        files[f"repository/packages/{name}/{name}.1/opam"] = (
            f'opam-version: "2.0"\n{depends}depexts: [[{listed}] {{os-family = "debian"}}]\nflags: conf\n'
        )
    targets = [
        f'opam_requirement(name="{name}-roots", resolve="{name}", requirements={RESOLVES[name]!r})\n'
        for name in RESOLVES
    ]
    roots = [f":good#{name}" for name in GOOD]
    image = f'opam_packages(name="good", resolve="good")\noci_package_image(name="image", packages={roots!r})\n'
    project.write({**files, "BUILD": "".join(targets) + image})
    yield project
    project.stop_daemon()


@pytest.fixture(scope="module")
def image(project: ScratchProject, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    for command in (["generate-lockfiles", "--resolve=good"], ["package", ":image"]):
        run = project.pants(*command)
        assert run.status == 0, run.output[-5000:]
    return unpack(Layout(project.directory / "dist/image"), tmp_path_factory.mktemp("unpacked") / "bundle")


@pytest.mark.parametrize("command", ["dpkg --audit", "dpkg --verify", "apt-get check -qq"])
def test_nothing_is_wrong(image: Unpacked, command: str) -> None:
    done = image.run(*command.split(), user=0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_is_installed(project: ScratchProject, image: Unpacked) -> None:
    """What the lockfile names is what dpkg has, of the same versions."""
    lock = read_opam_lock("good.lock", "good", (project.directory / "3rdparty/opam/good.lock").read_bytes())
    text = image.run("dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Package} ${Version}\n").stdout
    installed = {line.split()[1]: (line.split()[0], line.split()[2]) for line in text.splitlines()}
    assert {state for state, _ in installed.values()} == {"ii"}
    assert {name: deb.version for name, deb in lock.debs.items()} == {name: installed[name][1] for name in lock.debs}
    assert image.run("python3", "-c", "print(1)").stdout == "1\n"


def test_records_of_layers_beside_one_another(image: Unpacked) -> None:
    diversions = image.run("dpkg-divert", "--list").stdout
    assert "diversion of /usr/bin/parallel to /usr/bin/parallel.moreutils by parallel\n" in diversions
    assert image.run("test", "-x", "/usr/bin/parallel.moreutils").returncode == 0
    assert "GNU" in image.run("head", "-c", "2000", "/usr/bin/parallel").stdout
    editor = image.run("update-alternatives", "--query", "editor").stdout
    assert "Alternative: /bin/nano\n" in editor and "Alternative: /usr/bin/vim.tiny\n" in editor
    assert "Best: /bin/nano\nValue: /bin/nano\n" in editor
    assert os.readlink(image.rootfs / "etc/alternatives/editor") == "/bin/nano"
    assert "ca-certificates/enable_crts" in image.run("debconf-show", "ca-certificates", user=0).stdout
    assert image.run("cat", "/var/lib/dpkg/triggers/update-ca-certificates").stdout == "ca-certificates\n"
    assert Path(image.rootfs / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100_000


@pytest.mark.parametrize(
    "resolve, words",
    [
        (
            "chain",
            [
                "conf-gnutls.1 (libcurl4-gnutls-dev), conf-openssl.1 (libcurl4-openssl-dev) cannot be installed together",
                "onflicts",
                "different resolves",
            ],
        ),
        ("virtual", ["conf-mail.1: its depexts: ", "is a virtual package provided by", " postfix ", " msmtp-mta "]),
    ],
)
def test_what_cannot_be_installed_is_an_error_when_locking(
    project: ScratchProject, resolve: str, words: "list[str]"
) -> None:
    run = project.pants("generate-lockfiles", f"--resolve={resolve}")
    assert run.status == 1 and [word for word in words if word not in run.output] == [], run.output[-5000:]
    assert not (project.directory / f"3rdparty/opam/{resolve}.lock").exists() and "Traceback" not in run.output
