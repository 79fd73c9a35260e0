"""What a package gets of opam is what `opam install` in one switch gives it: the same packages by hand and as an image."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Dict, Iterator

import pytest

from bench.scratch_project import ScratchProject
from tests.support.file_server import file_server
from tests.support.layouts import Layout
from tests.sweeps.differential import differences

SELF = (
    "name version depends build-id hash dev pinned installed enable opamfile bin sbin lib man doc share etc build "
    "with-test with-doc with-dev-setup"
).split()
GLOBAL = (
    "arch os os-distribution os-family os-version root switch prefix lib share make opam-version user group "
    "sys-ocaml-version exe build-id"
).split()
OTHERS = "version depends build-id hash dev installed enable opamfile greeting flag".split()

_LINES = [
    *(f"_:{name}=%{{_:{name}}}%" for name in SELF),
    *(f"{name}=%{{{name}}}%" for name in GLOBAL),
    *(f"{other}:{name}=%{{{other}:{name}}}%" for other in ("dep", "opt", "post", "absent") for name in OTHERS),
    "both=%{dep+opt:installed}% ask=%{dep:installed?yes:no}% ?%{absent:installed?yes:no}% e=%{dep:enable}%",
]
# With what builds are not shown, and images have all the same.
HEAD = (
    'opam-version: "2.0"\nmaintainer: "me" (* a comment *)\nsynopsis: "A \\"package\\""\nlicense: "ISC"\ntags: ["t"]\n'
    'x-commit-hash: "c0"\n'
)
DUMP = "\n".join(_LINES) + "\n"


def _sum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}={hashlib.new(kind, content).hexdigest()}"


def _archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, text in {"src/data": "hello\n", "src/substituted.in": DUMP}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


ARCHIVE = _archive()
GEN = b"""#!/bin/sh
set -e
cp substituted made
cat data >> made
env | grep -v '^PATH=\\|^PWD=\\|^OPAMJOBS=' | sort >> made
ls -l gen.sh | cut -c1-10 >> made
"""
PATCHES = {f"{n}.patch": f"--- a/data\n+++ b/data\n@@ -1 +1 @@\n-{a}\n+{b}\n".encode() for n, a, b in (
    (1, "hello", "first"), (2, "first", "second"), (3, "second", "never"))}  # fmt: skip
INSTALL = b'share: ["data" "made"]\nbin: ["gen.sh" {"tool-gen"} "?absent"]\ndoc: ["data" {"sub/data"}]\n'
CONFIG = b'opam-version: "2.0"\nvariables { greeting: "hi there" flag: true }\n'


# Packages of which only the environment matters: all operators, on variables of the image and on their own, in an order that is
# not that of dependencies; opam's ways to write paths; values with all that shells and opam know; a plugin of opam's.
_PLUGIN = r"printf '#!/bin/sh\\necho plugged $*\\n' > %{bin}%/opam-plug && chmod 755 %{bin}%/opam-plug"
_SEE = "env | sort | grep -v ^PWD= | grep -v ^OPAMJOBS="
ENVIRONMENT = {
    "setenv-a.1": (
        f'{HEAD}depends: ["setenv-b"]\n'
        'setenv: [[PATH += "%{lib}%/a"] [PATH =+ "/last"] [E1 = "a %{name}% %{setenv-b:version}%"] [E2 += "a"] [E3 =+ "a"]\n'
        '  [E4 := "a"] [E5 =: "a"] [E6 = ""] [E7 += ""] [E8 = "%{_:share}%:%{absent:lib}%;%{switch}%"] [LANG += "a"]\n'
        '  [INFOPATH := "%{share}%/info"] [MANPATH += "%{man}%/a"] [CAML_LD_LIBRARY_PATH += "%{stublibs}%"] [E9 += "x:y"]]\n'
    ).encode(),
    "setenv-b.2": (
        f'{HEAD}build-env: [[BUILD_ONLY = "no"]]\n'
        'setenv: [[PATH += "%{lib}%/b"] [PATH =+= "/middle"] [E1 = "b"] [E2 += "b"] [E3 =+ "b"] [E4 := "b"] [E5 =: "b"]\n'
        '  [QUOTED = "it\'s \\"q\\" $HOME `id` \\\\ %% \\n line 2"] [UTF = "caf\u00e9"] [E9 =+ "z"] [HOME2 = "%{prefix}%"]]\n'
    ).encode(),
    "setenv-c.3": (
        f'{HEAD}depends: ["setenv-a"]\nbuild: ["sh" "-c" "{_SEE} > seen"]\ninstall: ["cp" "seen" "%{{lib}}%/seen"]\n'
        'setenv: [[E2 += "%{lib}%/c"] [LIST += "/c d"]]\n'
        'x-env-path-rewrite: [[E2 false] [LIST (";" {os = "linux"} | ":" {os != "linux"}) "target-quoted"]]\n'
    ).encode(),
    "plug.1": f'{HEAD}flags: [plugin]\nsetenv: [[E2 += "plug"]]\ninstall: ["sh" "-c" "{_PLUGIN}"]\n'.encode(),
}


def _extra(files: Dict[str, bytes]) -> str:
    return "extra-files: [" + " ".join(f'["{name}" "{_sum(content)}"]' for name, content in files.items()) + "]\n"


TOOL_FILES = {"gen.sh": GEN, "tool.install": INSTALL, **PATCHES}


def repository(url: str) -> Dict[str, bytes]:
    """Files of the repository; the archive is at `url`."""
    source = f'src: "{url}"\nchecksum: "{_sum(ARCHIVE, "md5")}"\n'
    opam: Dict[str, bytes] = {
        "tool.1": (
            f"{HEAD}"
            'depends: ["dep" {>= "1"} "conf" {build} "gone" {with-test} ("absent" | "opt")]\ndepopts: ["absent"]\n'
            'conflicts: ["dep" {< "1"}]\navailable: os != "win32"\ntags: ["x"]\nfeatures: []\nx-own: [1 "two"]\n'
            'build: [["./gen.sh"] ["false"] {with-test} ["sh" "-c" "exit 1"] {os = "win32"}]\nsubsts: ["substituted"]\n'
            'patches: ["1.patch" "3.patch" {os = "win32"} "2.patch" {dep:installed}]\n'
            'build-env: [[BUILD_ENV = "a:%{name}%"] [ADDED += "z"]]\n'
            'setenv: [[TOOL_ENV = "tool"] [MANPATH += "%{man}%/own"]]\nmessages: "m"\npost-messages: ["p" {success}]\n'
            f'description: "caf\u00e9"\n{_extra(TOOL_FILES)}url {{\n{source}}}\n'
        ).encode("latin-1"),
        "dep.1": (
            f'{HEAD}depends: ["post" {{post}}]\nsetenv: [[DEP_ENV = "%{{share}}%"] [ADDED += "dep"]]\n'
            f'install: ["mkdir" "-p" "%{{lib}}%/dep"]\nflags: [light-uninstall]\n{_extra({"dep.config": CONFIG})}'
        ).encode(),
        "opt.2": f'{HEAD}depends: ["dep"]\nremove: [["rm" "x"]]\n'.encode(),
        "post.1": f'{HEAD}depends: ["tool" {{build}}]\n'.encode(),
        "conf.1": f'{HEAD}flags: [conf avoid-version]\nbuild: ["sh" "-c" "test %{{conf:name}}% = conf"]\n'.encode(),
        # opam's order is not that of bytes.
        **{f"{name}.1": HEAD.encode() for name in ("old-a", "Old", "oldB", "old_c")},
        "old.1": b'opam-version: "1.2"\nmaintainer: "me"\ndepends: "tool"\ninstall: ["cp" "data" "%{share}%/old"]\n',
    }
    opam.update(ENVIRONMENT)
    files = {f"packages/{title.partition('.')[0]}/{title}/opam": text for title, text in opam.items()}
    files.update({f"packages/tool/tool.1/files/{name}": content for name, content in TOOL_FILES.items()})
    files["packages/dep/dep.1/files/dep.config"] = CONFIG
    files["packages/old/old.1/url"] = f'archive: "{url}"\nchecksum: "{_sum(ARCHIVE, "md5")[4:]}"\n'.encode()
    files["packages/old/old.1/descr"] = b"an old package\n\nof opam 1\n"
    return {"repo": b'opam-version: "2.0"\n', **files}


ROOTS = ["tool", "old", "setenv-c", "plug", "old-a", "Old", "oldB", "old_c"]
# What somebody does in the image, offline; the archives of `tool` and `old` are not there.
ACTIONS = r"""
for command in 'plug a b' 'upgrade --show-actions' 'upgrade' 'update' 'upgrade' 'show tool' 'show --raw setenv-a' \
    'lint /home/opam/opam-repository/packages/setenv-c/setenv-c.3/opam' 'show -f all-installed-versions,depends old' \
    'exec -- opam env' 'reinstall setenv-b' 'remove setenv-a' 'env' 'list' 'install setenv-c' 'env' 'pin list' \
    'var setenv-b:version' 'remove plug' 'plug a' 'install plug' 'plug b' 'switch' 'list --roots' \
    'reinstall --show-actions tool' 'install --show-actions tool' 'install --show-actions absent' 'upgrade --show-actions' \
    'switch create second --empty' 'switch' 'env' 'switch default' 'env' 'switch remove default'; do
echo "## opam $command"; opam $command 2>&1
echo "exit status $?"
done
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    directory = tmp_path_factory.mktemp("differential") / "project"
    project = ScratchProject(directory, ["default"])
    names = ", ".join(f'"{root}"' for root in ROOTS)
    build = f'opam_packages(name="opam")\nopam_requirement(name="roots", requirements=[{names}])\n'
    # The second image is the first one with an environment of its own on top.
    for name, env in {
        "image": {},
        "own": {"PATH": "/opt/bin:${PATH}", "E1": "$E9", "NEW": "${E6:-n} ${NO+x}\\\\$E1"},
    }.items():
        build += f'oci_package_image(name="{name}", env={env}, packages=[":opam#" + one for one in [{names}]])\n'
    project.write({"BUILD": build})
    yield project
    project.stop_daemon()


def test_the_same_as_by_hand(project: ScratchProject, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    kind, _, value = _sum(ARCHIVE, "md5").partition("=")
    (downloads / kind / value[:2]).mkdir(parents=True)
    (downloads / kind / value[:2] / value).write_bytes(ARCHIVE)
    with file_server() as server:
        server.files = {"/src.tar.gz": ARCHIVE}
        for name, content in repository(f"{server.url}/src.tar.gz").items():
            path = project.directory / "repository" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.endswith(".sh") else 0o644)
        project.must("generate-lockfiles")
        project.must("package", ":image", ":own")
    lock = (project.directory / "3rdparty/opam/default.lock").read_text()
    assert re.search(r'path = "gen.sh"\nexecutable = true\n', lock)
    [text] = re.findall(r'opam_base64 = "(.*)"', lock)
    assert b'"caf\xe9"' in base64.b64decode(text)
    work = tmp_path / "work"
    work.mkdir()
    found = differences(
        project.directory / "dist/image", project.directory / "repository", downloads, ROOTS, work, ACTIONS
    )
    assert found == [], "\n".join(found)
    shown = (work / "image.txt").read_text(errors="replace")
    # `exec` is the section of the same in an environment without opam.
    by_hand = (work / "hand.txt").read_text(errors="replace").partition("## exec\n")[2].partition("\n## ")[0]
    env = Layout(project.directory / "dist/image").config["config"]["Env"]
    assert "\n".join(sorted(env, key=lambda item: item.partition("=")[0])) == by_hand
    own = Layout(project.directory / "dist/own").config["config"]["Env"]
    values = dict(item.split("=", 1) for item in env)
    changed = {"PATH": f"/opt/bin:{values['PATH']}", "E1": values["E9"], "NEW": f"n \\{values['E9']}"}
    assert own == [f"{name}={value}" for name, value in {**values, **changed}.items()]
    assert re.search(r"^share/tool/made\|f\|644\|$", shown, re.MULTILINE)
