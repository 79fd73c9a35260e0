"""The statement of what an image was made of: in-toto's own code reads it, it is complete, and the same for the same."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from pants.testutil.rule_runner import RuleRunner

from opam_oci.goals.package_image_layout import OciImageLayoutFieldSet
from opam_oci.images import plugin_files
from opam_oci.images.provenance_document import (
    MEDIA_TYPE,
    PREDICATE_TYPE,
    Dependency,
    LockedDebs,
    ProvenanceContent,
    deb_dependencies,
    dir_hash,
    statement,
)
from opam_oci.resolves.lockfile import Deb
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, deb_toml, debian_lock, image, opam_lock, project, source_toml
from tests.backend.projects import FILES
from tests.backend.test_images import blob_of, build
from tests.support.file_server import FileServer, file_server

REPOSITORY = Path(__file__).parents[2]
IMAGE = "sha256:" + "ab" * 32


def sha256(content: "str | bytes") -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def read(text: bytes) -> Any:
    """The statement, as in-toto's own code reads it: an unknown field, or one of another type, is an error there."""
    found = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(found).validate()
    predicate = json_format.MessageToJson(found.predicate)
    provenance = json_format.Parse(predicate, provenance_pb2.Provenance())
    definition = provenance.build_definition
    # What SLSA requires of every statement.
    assert definition.build_type.startswith("urn:") and provenance.run_details.builder.id.startswith("urn:")
    assert definition.HasField("external_parameters")
    for one in definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(one).validate()
        [(algorithm, digest)] = one.digest.items()
        assert re.fullmatch({"gitCommit": "[0-9a-f]{40}"}.get(algorithm, "[0-9a-f]{64}"), digest), one
    names = [one.name for one in definition.resolved_dependencies]
    assert len(names) == len(set(names))
    return json.loads(text)


def dependencies(document: Any) -> Dict[str, Any]:
    """By name, without the name."""
    found = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in found}


# The document


def test_other_peoples_code_finds_mistakes() -> None:
    """So what it says of ours means something."""
    document = json.loads(statement(ProvenanceContent("x", True, {}, ()), IMAGE))
    read(json.dumps(document).encode())
    wrong = {**document, "subject": [{"name": "x"}]}
    with pytest.raises(ValueError, match="digest required"):
        read(json.dumps(wrong).encode())
    document["predicate"]["buildDefinition"]["resolvedDependencies"] = [{"nam": "x"}]
    with pytest.raises(json_format.ParseError, match="nam"):
        read(json.dumps(document).encode())


def test_subject_and_type() -> None:
    document = read(statement(ProvenanceContent("Hello", True, {"a": [1]}, ()), IMAGE))
    assert document["subject"] == [{"name": f"pkg:oci/hello@{IMAGE}", "digest": {"sha256": "ab" * 32}}]
    assert document["predicateType"] == PREDICATE_TYPE
    assert document["predicate"]["buildDefinition"]["externalParameters"] == {"a": [1]}


def test_bytes_that_are_no_text() -> None:
    one = Dependency("opam a source \udcff", "sha256", "ab" * 32, "https://\udcff/", mirrors=("https://b/\udcff",))
    text = statement(ProvenanceContent("x", True, {}, (one,)), IMAGE).decode("utf-8")
    assert "source \ufffd" in text and "https://\ufffd/" in text and "https://b/\ufffd" in text


def test_a_directory_is_what_sha256sum_says(tmp_path: Path) -> None:
    """in-toto gives this command for its `dirHash`."""
    files = {"b": "1", "a/b.ml": "2", "a-b": "3", "ä": "4", "B": ""}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    command = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -f1 -d' '"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert dir_hash((path, sha256(text)) for path, text in files.items()) == done.stdout.strip()
    # One file of an odd name is not two.
    assert dir_hash([("a", "1"), ("b", "2")]) != dir_hash([("a\n2  b", "1")])


def test_a_deb_that_two_lockfiles_have() -> None:
    def deb(name: str, version: str, digit: str) -> Deb:
        return Deb(name, version, "amd64", f"pool/{name}_{version}.deb", digit * 64, 1)

    base = LockedDebs("base.lock", "trixie", (deb("a", "1", "1"), deb("b", "1", "2")))
    slim = LockedDebs("slim.lock", "trixie", (deb("a", "1", "1"), deb("b", "2", "3")))
    found = {one.name: (one.digest[0], one.uri, one.download) for one in deb_dependencies([slim, base])}
    distro = "arch=amd64&distro=trixie"
    assert found == {
        "deb a": ("1", f"pkg:deb/debian/a@1?{distro}", "debian:pool/a_1.deb"),
        "deb b of base.lock": ("2", f"pkg:deb/debian/b@1?{distro}", "debian:pool/b_1.deb"),
        "deb b of slim.lock": ("3", f"pkg:deb/debian/b@2?{distro}", "debian:pool/b_2.deb"),
    }
    assert deb_dependencies([slim, base]) == deb_dependencies([base, slim])


def test_the_plugins_files_are_those_of_a_wheel() -> None:
    """pyproject.toml says which those are: a checkout's plugin and an installed one have the same hash."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    patterns = re.search(r'^"\*" = \[(.*)\]$', text, re.M)
    assert patterns is not None
    suffixes = {Path(name).suffix for name in re.findall(r'"([^"]*)"', patterns[1])}
    assert {".py", *suffixes} == set(plugin_files.SUFFIXES)
    for top in ("pants-plugins/opam_oci", "src/opam_sandbox"):
        found = {path.relative_to(REPOSITORY / top).as_posix() for path in plugin_files.files_below(REPOSITORY / top)}
        assert {"__init__.py", "py.typed"} <= found and not any("__pycache__" in path for path in found)


# Of images. The sandbox tool is fake_tool.py.


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as state:
        yield state


def document_of(files: Dict[str, bytes], name: str = "image") -> Any:
    return read(files[f"images/{name}.provenance.json"])


SOURCE, DEB = b"an archive\n", b"a .deb\n"
GIT = "1a" * 20


@pytest.fixture
def whole(rule_runner: RuleRunner, server: FileServer, fake_tool: None) -> Dict[str, str]:
    """Files of a project with something of each kind."""
    server.files = {
        **{f"/debian/pool/{name}.deb": DEB for name in ("base", "gcc", "slim", "other")},
        **dict.fromkeys(("/a.tbz", "/debian/pool/a.tar.gz", "/p.patch"), SOURCE),
    }
    sources = source_toml([f"{server.url}/a.tbz", "debian:pool/a.tar.gz"], sha256(SOURCE), len(SOURCE))
    sources += source_toml([f"{server.url}/p.patch"], sha256(SOURCE), len(SOURCE), name="p.patch")
    beside = '[[package.file]]\npath = "fix it.patch"\ncontent = "beside"\n'
    packages = (
        Pkg("a", debs=["gcc"], opam="x: 1\n", extra=sources + beside),
        Pkg("b", depends=["a"]),
        Pkg("elsewhere", debs=["other"]),
    )

    def deb(name: str, digest: str = "") -> str:
        return deb_toml(name, f"pool/{name}.deb", digest or sha256(DEB), len(DEB))

    archive = f"https://me:hunter2@127.0.0.1:9/r.tar.gz#sha256={'cd' * 32}&size=1"
    git = f"git+https://me:hunter2@127.0.0.1:9/r.git#{GIT}"
    rule_runner.set_options(
        [
            *OPTIONS,
            f"--debian-mirrors=['{server.url}/debian']",
            f"--opam-repositories={{'d': 'dir', 'g': '{git}', 'z': '{archive}'}}",
            "--opam-repository-order=['d', 'g', 'z']",
        ]
    )
    runtime = 'runtime=True, runtime_base="3rdparty/debian:second"'
    images = image("b") + image("b", name="runtime", more=runtime)
    files = project(*packages, debs=deb("gcc") + deb("other"), debian_debs=deb("base"), image=images)
    files["3rdparty/debian/second.lock"] = debian_lock("second", debs=deb("slim"))
    files["dir/packages/a/a.1/opam"] = "one"
    return files


def test_all_that_an_image_was_made_of(rule_runner: RuleRunner, whole: Dict[str, str], server: FileServer) -> None:
    rule_runner.write_files(whole)
    files = build(rule_runner)
    [entry, *attached] = json.loads(files["images/image/index.json"])["manifests"]
    document = document_of(files)
    assert document["subject"][0]["digest"] == {"sha256": entry["digest"][len("sha256:") :]}
    found = dependencies(document)
    plugin = found.pop("plugin")["digest"]
    assert list(plugin) == ["dirHash"]
    locks = {f"lockfile {path}": whole[path] for path in ("3rdparty/debian/trixie.lock", "3rdparty/opam/default.lock")}
    distro = "arch=amd64&distro=trixie"
    source, deb = {"sha256": sha256(SOURCE)}, {"sha256": sha256(DEB)}
    assert found == {
        **{name: {"digest": {"sha256": sha256(text)}} for name, text in locks.items()},
        "opam a opam": {"digest": {"sha256": sha256("x: 1\n")}, "uri": "pkg:opam/a@1#opam"},
        "opam a archive": {
            "digest": source,
            "uri": f"{server.url}/a.tbz",
            "annotations": {"mirrors": ["debian:pool/a.tar.gz"]},
        },
        "opam a source p.patch": {"digest": source, "uri": f"{server.url}/p.patch"},
        "opam a file fix it.patch": {
            "digest": {"sha256": sha256("beside")},
            "uri": "pkg:opam/a@1#files/fix%20it.patch",
        },
        "opam b opam": {"digest": {"sha256": sha256("")}, "uri": "pkg:opam/b@1#opam"},
        # Not `other`, which no package of the image needs.
        "deb base": {
            "digest": deb,
            "uri": f"pkg:deb/debian/base@1:2-3?{distro}",
            "downloadLocation": "debian:pool/base.deb",
        },
        "deb gcc": {
            "digest": deb,
            "uri": f"pkg:deb/debian/gcc@1:2-3?{distro}",
            "downloadLocation": "debian:pool/gcc.deb",
        },
    }
    # The referrer: as those of the SBOMs, and what it says is told before it is read.
    manifest = blob_of(files, attached[-1])
    assert attached[-1]["artifactType"] == manifest["artifactType"] == MEDIA_TYPE
    assert manifest["subject"]["digest"] == entry["digest"]
    [layer] = manifest["layers"]
    assert layer["mediaType"] == MEDIA_TYPE and blob_of(files, layer) == document
    for one in (layer, manifest):
        assert one["annotations"]["in-toto.io/predicate-type"] == PREDICATE_TYPE


def test_a_runtime_image(rule_runner: RuleRunner, whole: Dict[str, str]) -> None:
    """It was built in the full base, and stands on another one."""
    rule_runner.write_files(whole)
    found = dependencies(document_of(build(rule_runner, "runtime"), "runtime"))
    assert {name for name in found if name.startswith("deb ")} == {"deb base", "deb gcc", "deb slim"}
    assert {name for name in found if name.startswith("lockfile ")} == {
        "lockfile 3rdparty/debian/second.lock",
        "lockfile 3rdparty/debian/trixie.lock",
        "lockfile 3rdparty/opam/default.lock",
    }


def test_repositories(rule_runner: RuleRunner, whole: Dict[str, str]) -> None:
    """Those that the lockfile was made for, without the passwords of their URLs; of lockfiles that do not say, none."""
    tree = "tree:" + "0" * 64
    lines = [f"d {tree}", f"g git:{GIT}", f"z sha256:{'cd' * 32}"]
    lock = whole["3rdparty/opam/default.lock"]
    said = "constraints = []\nrepositories = "
    rule_runner.write_files({**whole, "3rdparty/opam/default.lock": lock.replace("constraints = []", f"{said}{lines}")})
    with pytest.raises(Exception) as raised:
        build(rule_runner)
    right = re.search("d (tree:[0-9a-f]{64})", str(raised.value).partition("not in the lockfile: ")[2])
    assert right is not None
    lines[0] = right[0]
    rule_runner.write_files({"3rdparty/opam/default.lock": lock.replace("constraints = []", f"{said}{lines}")})
    text = build(rule_runner)["images/image.provenance.json"]
    assert b"hunter2" not in text
    found = dependencies(read(text))
    tree_hash = sha256(f"{sha256('one')}  packages/a/a.1/opam\n")
    assert {name: one for name, one in found.items() if name.startswith("repository ")} == {
        "repository d": {"digest": {"dirHash": tree_hash}},
        "repository g": {"digest": {"gitCommit": GIT}, "uri": f"git+https://127.0.0.1:9/r.git@{GIT}"},
        "repository z": {"digest": {"sha256": "cd" * 32}, "uri": "https://127.0.0.1:9/r.tar.gz"},
    }


@pytest.mark.usefixtures("fake_tool")
def test_projects_of_this_repository(rule_runner: RuleRunner) -> None:
    """The files that they are built from, by the paths below the project."""
    rule_runner.write_files(FILES)
    found = dependencies(document_of(build(rule_runner, "alone"), "alone"))
    files = {"main.ml": "", "opam": 'name: "alone"'}
    lines = "".join(f"{sha256(text)}  {path}\n" for path, text in files.items())
    assert found["opam alone project"] == {"digest": {"dirHash": sha256(lines)}}
    assert "opam alone archive" not in found


@pytest.mark.usefixtures("fake_tool")
def test_what_was_asked_for(rule_runner: RuleRunner) -> None:
    """Fields, with addresses as they are, and the options that layers are made with."""
    more = 'env={"B": "1", "A": "2"}, cmd=["sh"], user="root", output_path="x", sbom="none", provenance="attached"'
    rule_runner.write_files(project(Pkg("a"), image=image("a", more=more)))
    rule_runner.set_options([*OPTIONS, "--opam-overlapping-files=['/etc/x']"])
    files = build(rule_runner)
    assert len(json.loads(files["x/index.json"])["manifests"]) == 2 and "x.spdx.json" not in files
    asked = read(files["x.provenance.json"])["predicate"]["buildDefinition"]["externalParameters"]
    assert asked["target"] == "images:image" and "layout" not in asked
    assert asked["options"] == {"[opam].depext_files_left_out": [], "[opam].overlapping_files": ["/etc/x"]}
    fields = asked["fields"]
    assert (fields["packages"], fields["base"]) == (["3rdparty/opam:default#a"], "3rdparty/debian:trixie")
    assert (fields["env"], fields["cmd"], fields["user"]) == ({"A": "2", "B": "1"}, ["sh"], "root")
    assert fields["layers"] == "grouped" and "labels" not in fields
    assert not {"output_path", "sbom", "provenance", "skip_push", "format"} & set(fields)


@pytest.mark.usefixtures("fake_tool")
def test_images_of_a_layout(rule_runner: RuleRunner) -> None:
    """Where packages are joined, the others decide on an image's layers, so that they are said; nowhere else."""
    packages = (Pkg("a"), Pkg("b", depends=["a"]), Pkg("c", depends=["b"]))
    images = image("c", name="one", more="max_layers=5") + image("a", name="two")
    rule_runner.write_files(
        project(*packages, image=images + 'oci_image_layout(name="all", images=[":one", ":two"])\n')
    )
    files = build(rule_runner, "all", OciImageLayoutFieldSet)
    attached = [
        blob_of(files, blob_of(files, one, "images/all")["layers"][0], "images/all")
        for one in json.loads(files["images/all/index.json"])["manifests"]
        if one.get("artifactType") == MEDIA_TYPE
    ]
    asked = [one["predicate"]["buildDefinition"]["externalParameters"] for one in attached]
    assert [one["target"] for one in asked] == ["images:one", "images:two"]
    assert asked[0]["layout"] == ["images:one", "images:two"] and "layout" not in asked[1]
    assert document_of(build(rule_runner, "two"), "two") == attached[1]


@pytest.mark.usefixtures("fake_tool")
@pytest.mark.parametrize(
    ("more", "entries", "beside"),
    [
        ("", 4, True),
        ('provenance="files"', 3, True),
        ('provenance="none"', 3, False),
        ('sbom="files"', 1, True),
        ('sbom="none"', 1, False),
        ('sbom="none", provenance="files"', 1, True),
    ],
)
def test_what_becomes_of_it(rule_runner: RuleRunner, more: str, entries: int, beside: bool) -> None:
    """By default it goes where SBOMs go: whoever has one entry in index.json keeps one. The image is the same anyway."""
    rule_runner.write_files(
        project(Pkg("a"), image=image("a", more=more) + image("a", name="plain", more='sbom="none"'))
    )
    files = build(rule_runner)
    found = json.loads(files["images/image/index.json"])["manifests"]
    assert len(found) == entries and ("images/image.provenance.json" in files) == beside
    assert found[0] == json.loads(build(rule_runner, "plain")["images/plain/index.json"])["manifests"][0]


@pytest.mark.usefixtures("fake_tool")
def test_the_same_image_elsewhere(rule_runner: RuleRunner) -> None:
    """Another build root gives the same bytes; another lockfile, though the image is the same, does not."""
    files = project(Pkg("a"), image=image("a"))
    rule_runner.write_files(files)
    one = build(rule_runner)
    assert str(rule_runner.build_root).encode() not in one["images/image.provenance.json"]
    rule_runner.write_files({"3rdparty/opam/default.lock": opam_lock(Pkg("a"), Pkg("unused"))})
    two = build(rule_runner)
    entries = [json.loads(files["images/image/index.json"])["manifests"] for files in (one, two)]
    assert entries[0][0] == entries[1][0] and entries[0][1:3] == entries[1][1:3] and entries[0][3] != entries[1][3]
    rule_runner.write_files(files)
    assert build(rule_runner) == one
