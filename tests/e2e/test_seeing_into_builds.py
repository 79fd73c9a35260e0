"""`opam-shell`, `opam-log` and `opam-which` with real builds of packages that no earlier run had, one of which fails."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import pytest

from tests.e2e.conftest import Pants
from tests.support.checkout import make_clone

PATCH = """--- a/word
+++ b/word
@@ -1 +1 @@
-unpatched
+patched
"""
# What a package's command sees of where it is: the sources, the variables that opam sets, what it depends on, who it is, the
# network. Not what every shell sets, nor what the goal needs to be there: its notes.
LOOK = r"""
pwd; id; umask; hostname; ls -lR --time-style=+; find . -type f | sort | xargs sha256sum
export -p | sed -E '/^export (OLDPWD|SHLVL|TERM)=/d' | sort
ls -A ~/.opam/default/lib ~/.opam/default/bin; ocamlfind list 2> /dev/null | sort; opam list --short --installed
cut -d: -f1 /proc/net/dev; ls -A /tmp | sed '/^\.opam-shell$/d'; ls /dev | sed '/^opam-/d'; cut -d' ' -f5 /proc/self/mountinfo
"""
BEGIN, END = "what-the-build-sees-begins", "what-the-build-sees-ends"


def package(name: str, version: str, depends: List[str], opam: str, more: str = "") -> str:
    listed = ", ".join(f'"{one}"' for one in depends)
    return f"""
[[package]]
name = "{name}"
version = "{version}"
depends = [{listed}]
post_depends = []
depexts = []
debs = []
opam = '''
opam-version: "2.0"
depends: [{listed.replace(",", "")}]
{opam}
'''
{more}"""


def archive_of(files: Dict[str, str], target: Path) -> str:
    """Write an archive with one directory at its top; its sha256."""
    with tarfile.open(target, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(target.read_bytes()).hexdigest()


@dataclass
class Project:
    """A clone of this checkout. Its resolve `system` has three packages more: `seen` and `broken`, each by itself on
    ocamlfind, and `above`, on `broken`. mark: in what both build, and in no earlier run."""

    pants: Pants
    mark: str

    @property
    def version(self) -> str:
        # Failures are remembered by name and version.
        return f"1+{self.mark}"

    def run(self, goal: str, *arguments: str, status: int = 0) -> Any:
        done = self.pants.run(goal, *arguments, check=False)
        assert done.returncode == status, f"{goal} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}"
        assert "Traceback" not in done.stderr, done.stderr[-6000:]
        return done

    def shell(self, name: str, *command: str, options: Sequence[str] = (), status: int = 0) -> Any:
        return self.run("opam-shell", *options, f"3rdparty/opam:system#{name}", "--", *command, status=status)


def add_packages(root: Path, archive: Path, version: str) -> None:
    sha256 = archive_of({"word": "unpatched\n", "sub/data": f"{version}\n", "look": LOOK}, archive)
    source = f"""
[[package.file]]
path = "fix.patch"
content = '''
{PATCH}'''
[[package.source]]
name = ""
urls = ["{archive.as_uri()}"]
sha256 = "{sha256}"
size = {archive.stat().st_size}
"""
    patch = hashlib.sha256(PATCH.encode()).hexdigest()
    fix = f'patches: ["fix.patch"]\nextra-files: ["fix.patch" "sha256={patch}"]'
    url = f'{fix}\nurl {{\n  src: "{archive.as_uri()}"\n  checksum: "sha256={sha256}"\n}}'
    seen = f"""build: ["sh" "-e" "-c" "echo {BEGIN}; . ./look; echo {END}"]
install: ["sh" "-e" "-c" "mkdir -p %{{lib}}%/seen; cp word %{{lib}}%/seen/{version}; echo '#!/bin/sh' > %{{bin}}%/seen"]
{url}"""
    broken = f"""build: [
  ["sh" "-c" "echo {version} > made; cat word >> made"]
  ["sh" "-c" "echo it is broken in {version}; exit 3"]
]
{url}"""
    lock = root / "3rdparty/opam/system.lock"
    kept = "".join(line for line in lock.read_text().splitlines(True) if not line.startswith("tables = "))
    lock.write_text(
        kept
        + package("seen", version, ["ocamlfind"], seen, source)
        + package("broken", version, ["ocamlfind"], broken, source)
        + package("above", version, ["broken"], 'build: ["true"]')
    )
    with open(root / "images/BUILD", "a") as build:
        build.write(
            'oci_package_image(name="seeing", packages=["3rdparty/opam:system#seen", "3rdparty/opam:system#ocamlfind"])\n'
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    top = tmp_path_factory.mktemp("seeing")
    root = make_clone(top / "main")
    project = Project(Pants(root), uuid.uuid4().hex[:12])
    add_packages(root, top / "source.tar.gz", project.version)
    yield project
    project.pants.stop()
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def unknown(project: Project) -> Any:
    """What `opam-log` says before anything was built."""
    return project.run("opam-log", "3rdparty/opam:system#seen", "3rdparty/opam:system#broken", status=1)


@pytest.fixture(scope="module")
def built(project: Project, unknown: Any) -> Any:
    """What it says where it builds."""
    return project.run(
        "opam-log", "--build", *(f"3rdparty/opam:system#{name}" for name in ("seen", "broken")), status=1
    )


def test_nothing_is_built_to_have_a_log(project: Project, unknown: Any) -> None:
    for name in ("seen", "broken"):
        assert f"{name}.{project.version}: there is no build log: no cache has it" in unknown.stderr
    assert project.mark not in unknown.stdout and "Build opam package seen" not in unknown.stderr


def test_logs_of_a_success_and_of_a_failure(project: Project, built: Any) -> None:
    assert f"broken.{project.version} failed" in built.stderr
    again = project.run("opam-log", *(f"3rdparty/opam:system#{name}" for name in ("seen", "broken")))
    failed, _, success = again.stdout.partition(f"==> seen.{project.version}\n")
    assert f"==> broken.{project.version}, a build that failed on " in failed
    assert f"it is broken in {project.version}" in failed and "# exit-code            3" in failed
    assert BEGIN in success and f"installed seen.{project.version}" in success
    assert "Starting: Build opam package" not in again.stderr


def printed(log: str) -> List[str]:
    """What the command of `seen` printed, without what opam puts before each line."""
    lines = [line[2:] if line.startswith("- ") else line for line in log.splitlines()]
    return lines[lines.index(BEGIN) + 1 : lines.index(END)]


def test_a_shell_sees_what_the_build_saw(project: Project, built: Any) -> None:
    expected = printed(built.stdout)
    seen = project.shell("seen", "sh", "-e", "-c", ". ./look").stdout.splitlines()
    assert seen == expected
    text = "\n".join(seen)
    assert hashlib.sha256(b"patched\n").hexdigest() in text and "./sub/data" in text
    assert f"/.opam-switch/build/seen.{project.version}" in seen[0] and "uid=1000" in seen[1]
    # What it depends on, and nothing else of the lock.
    assert "findlib" in seen and "react" not in seen and f"OPAM_PACKAGE_VERSION='{project.version}'" in text


def test_what_is_written_in_a_shell_is_gone(project: Project, built: Any) -> None:
    """Also in the layer: it is the build's."""
    project.shell("seen", "sh", "-c", "echo other > word; touch ~/.opam/default/lib/written")
    left = project.shell("seen", "sh", "-c", "cat word; ls ~/.opam/default/lib/written", status=2)
    assert left.stdout == "patched\n"
    again = project.run("opam-log", "3rdparty/opam:system#seen")
    assert printed(again.stdout) == printed(built.stdout)


@pytest.mark.parametrize("script, status", [("exit 37", 37), ("kill -TERM $$", 143), ("exec no-such-command", 127)])
def test_the_exit_status_is_the_commands(project: Project, built: Any, script: str, status: int) -> None:
    project.shell("seen", "sh", "-c", script, status=status)


def test_a_shell_after_a_failed_build(project: Project, built: Any) -> None:
    """Without --after-build nothing has run, whatever failed before; with it all that was made until then is there."""
    before = project.shell("broken", "sh", "-c", "cat word; cat made", status=1)
    assert before.stdout == "patched\n"
    after = project.shell("broken", "cat", "made", options=("--after-build",))
    assert after.stdout == f"{project.version}\npatched\n"
    assert f"it is broken in {project.version}" in after.stderr
    assert f"broken.{project.version} has failed to build (opam's exit status 31)" in after.stderr
    mended = project.shell(
        "broken", "sh", "-c", "echo mended > made && cat made; exit 5", options=("--after-build",), status=5
    )
    assert mended.stdout == "mended\n"


def test_the_build_directory_is_kept(project: Project, built: Any) -> None:
    project.shell("broken", "true", options=("--after-build", "--keep=dist/kept"))
    kept = project.pants.root / f"dist/kept/broken.{project.version}"
    assert (kept / "made").read_text() == f"{project.version}\npatched\n" and (kept / "sub/data").exists()
    again = project.shell("broken", "true", options=("--keep=dist/kept",), status=1)
    assert "is not empty" in again.stderr


def test_no_shell_where_a_dependency_does_not_build(project: Project, built: Any) -> None:
    said = project.shell("above", "touch", "dist/ran", status=1).stderr
    assert f"There is no sandbox of above.{project.version}: what it depends on was not built" in said
    assert f"it is broken in {project.version}" in said


def test_which_layer_has_a_file(project: Project, built: Any) -> None:
    lib = "/home/opam/.opam/default/lib"
    asked = ("seen", "/etc/debian_version", f"{lib}/*/{project.version}", "ocamlfind", "ocamlopt", "/nowhere/*")
    done = project.run("opam-which", "images:seeing", "--", *asked, status=1)
    assert "images:seeing: no layer shows /nowhere/*" in done.stderr and done.stderr.count("no layer shows") == 1
    lines = done.stdout.splitlines()
    assert f"{lib}/seen/{project.version}" in lines
    by_path: Dict[str, List[str]] = {}
    for line in lines:
        if line.startswith("/"):
            by_path[line] = []
        else:
            by_path[list(by_path)[-1]].append(line.strip().partition("  ")[0])
    own = f"seen.{project.version}"
    assert by_path == {
        "/home/opam/.opam/default/bin/seen": [own],
        "/etc/debian_version": ["base trixie-ocaml"],
        f"{lib}/seen/{project.version}": [own],
        "/home/opam/.opam/default/bin/ocamlfind": ["ocamlfind.1.9.8"],
        "/usr/bin/ocamlopt": ["base trixie-ocaml"],
    }


def test_a_file_that_several_layers_have(project: Project, built: Any) -> None:
    """The image's state layer is over all; a package is seen over what it is built on, without its dependents."""
    path = "/home/opam/.opam/default/.opam-switch/switch-state"
    [found] = json.loads(project.run("opam-which", "--format=json", "images:seeing", "--", path).stdout)
    layers = found["paths"][0]["layers"]
    assert found["paths"][0]["seen"] and (layers[0]["kind"], layers[0]["hidden_by"]) == ("state", "")
    assert all(layer["hidden_by"] for layer in layers[1:])
    target = "3rdparty/opam:system#ocamlfind"
    done = project.run("opam-which", target, "--", "ocamlfind", f"*/lib/seen/{project.version}", status=1)
    assert "  ocamlfind.1.9.8  -rwxr-xr-x 1000:1000" in done.stdout and "no layer shows */lib/seen/" in done.stderr
