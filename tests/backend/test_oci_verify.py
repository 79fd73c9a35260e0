"""`oci-verify`: whether a published image can be made again. The sandbox tool is fake_tool.py, with the tool's own parts for
comparing and for registries."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Tuple

import jsonschema
import pytest
from pants.engine.process import ProcessCacheScope
from pants.testutil.rule_runner import RuleRunner, mock_console

from opam_oci.goals.oci_verify import OciVerify, OciVerifyError, check_rebuilt
from opam_oci.image_reports import difference_json
from opam_oci.image_reports.differences import difference_of
from opam_oci.image_reports.file_differences import FileDifferences, LayerFiles
from opam_oci.images.provenance_document import BUILD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Dependency
from opam_oci.sandbox.process import tool_process
from opam_oci.subsystems.rebuild import Rebuild
from opam_oci.verification import result_json, result_text
from opam_oci.verification.inputs import input_differences
from opam_oci.verification.json_differences import json_differences
from opam_oci.verification.recorded import RecordedError, read_recorded, recorded_of
from opam_oci.verification.reproduced import reproduced
from opam_oci.verification.result import Verdict, Verification
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Access, Client
from tests.backend.backend_runner import OPTIONS
from tests.backend.image_records import layer, record
from tests.backend.locktext import Pkg, image, project
from tests.backend.test_health_reports import HOSTILE
from tests.backend.test_oci_diff import packaged
from tests.backend.test_processes import TOOL, call
from tests.support.registry import Registry

SCHEMA = json.loads(Path(result_json.__file__).with_name("verification.schema.json").read_text())
DIFFERENCE = json.loads(Path(difference_json.__file__).with_name("difference.schema.json").read_text())
ENV = {"PATH", "HOME", "TMPDIR"}
D = f"sha256:{'1' * 64}"


def verify(runner: RuleRunner, *args: str) -> Tuple[int, str, str]:
    """Exit status, output and errors."""
    runner.set_options([*OPTIONS, "oci-verify", *args], env_inherit=ENV)
    with mock_console(runner.options_bootstrapper) as (_, streams):
        done = runner.run_goal_rule(OciVerify, global_args=OPTIONS, args=args, env_inherit=ENV)
        return done.exit_code, done.stdout + streams.get_stdout(), done.stderr + streams.get_stderr()


def values(done: Tuple[int, str, str], code: int) -> Any:
    assert done[0] == code, done
    found = json.loads(done[1])
    jsonschema.validate(found, SCHEMA)
    jsonschema.validate(found["difference"], DIFFERENCE)
    return found


def failure(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the engine wraps it)
        verify(runner, *args)
    wrapped = getattr(raised.value, "wrapped_exceptions", (raised.value,))
    return str(wrapped[0])


def note_builds(path: Path, *more: Pkg) -> Dict[str, Any]:
    """A project whose packages a and b note in a file that they were built."""
    note = f"note_in={path}"
    return project(Pkg("a", opam=note), Pkg("b", depends=["a"], opam=note), *more, image=image("b"))


AGAINST = ("--rebuild=none", "--against=oci:old")


# The whole way


def test_the_same(rule_runner: RuleRunner, fake_tool: None, tmp_path: Path) -> None:
    """With caches, nothing is built, and nobody says that it was; without, all is built, and no cache knows of it."""
    notes = tmp_path / "notes"
    notes.write_text("")
    rule_runner.write_files(note_builds(notes))
    packaged(rule_runner, "old")
    assert notes.read_text().split() == ["a.1", "b.1"]
    found = values(verify(rule_runner, *AGAINST, "--format=json", "images:image"), 0)
    assert (found["verdict"], found["rebuilt"], found["target"]) == ("identical", "none", "images:image")
    assert not (found["dependencies"]["differ"] or found["parameters"] or found["manifest"])
    assert found["dependencies"]["same"] >= 5 and found["provenance"]["origin"] == "attached to oci:old"
    code, out, errors = verify(rule_runner, *AGAINST, "images:image")
    assert code == 0 and out.startswith("images:image is the same image as oci:old\n"), errors
    assert "`--rebuild=none`: layers from a cache may be those that were published." in out
    assert notes.read_text().split() == ["a.1", "b.1"]
    for built in (4, 6):
        done = verify(rule_runner, "--against=oci:old", "--format=json", "images:image")
        found = values(done, 0)
        assert (found["verdict"], found["rebuilt"]) == ("identical", "all")
        assert len(notes.read_text().split()) == built
    _, out, _ = verify(rule_runner, "--against=oci:old:latest", "images:image")
    assert "\nThe image was made again.\n" in out and "with all layers made in this run" in out
    # For any goal.
    for option, built in (("packages", 10), ("none", 10)):
        rule_runner.set_options([*OPTIONS, f"--opam-rebuild={option}"])
        packaged(rule_runner, "again")
        assert len(notes.read_text().split()) == built


def test_a_statement(rule_runner: RuleRunner, fake_tool: None, tmp_path: Path) -> None:
    """Only where it is shown, and the same each time. in-toto's own code reads it."""
    rule_runner.write_files(note_builds(tmp_path / "notes"))
    packaged(rule_runner, "old")
    file = Path(rule_runner.build_root, "dist/images/image.reproduced.json")
    args = ("--against=oci:old", "--statement", "images:image")
    code, _, errors = verify(rule_runner, *args)
    assert code == 0 and "Wrote dist/images/image.reproduced.json." in errors
    text = file.read_bytes()
    document = json.loads(text)
    assert (document["_type"], document["predicateType"]) == (STATEMENT_TYPE, "urn:opam-oci-pants:reproduced:v1")
    [manifest] = json.loads(Path(rule_runner.build_root, "old/index.json").read_text())["manifests"][:1]
    assert [f"sha256:{one['digest']['sha256']}" for one in document["subject"]] == [manifest["digest"]]
    predicate = document["predicate"]
    assert (predicate["target"], predicate["result"]) == ("images:image", "identical")
    assert predicate["dependencies"]["differ"] == [] and len(predicate["plugin"]["digest"]["dirHash"]) == 64
    file.unlink()
    # Another image: no statement.
    more = image("b", more='user="root"')
    rule_runner.write_files({**note_builds(tmp_path / "notes"), "images/BUILD": more})
    code, out, _ = verify(rule_runner, *args)
    assert code == 1 and out.startswith("images:image is not the same image as oci:old\n") and not file.exists()
    assert ["User", "opam", "root"] in [line.split() for line in out.splitlines()]
    assert "fields.user  opam" in out
    says = "`--oci-verify-rebuild=packages` does not show that the image can be made again"
    assert says in failure(rule_runner, "--rebuild=packages", *args)
    says = "`--push-statement` is for an image in a registry"
    assert says in failure(rule_runner, "--against=oci:old", "--push-statement", "images:image")


def test_what_differs_is_named(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(Pkg("a"), Pkg("b", depends=["a"]), Pkg("c"), image=image("b")))
    packaged(rule_runner, "old")
    new = project(Pkg("a", opam="other"), Pkg("b", depends=["a"]), Pkg("c"), image=image("b", more='user="root"'))
    rule_runner.write_files(new)
    # The fake tool's layers are no tars, so that no file of them can be compared.
    code, out, errors = verify(rule_runner, *AGAINST, "images:image")
    assert (code, out) == (1, "") and "error: oci:old: layer a.1" in errors
    # Another lockfile of the same packages: the same image, which is said to be made of something else.
    rule_runner.write_files(project(Pkg("a"), Pkg("b", depends=["a"]), Pkg("d"), image=image("b")))
    found = values(verify(rule_runner, *AGAINST, "--format=json", "images:image"), 0)
    [lockfile] = found["dependencies"]["differ"]
    assert (lockfile["name"], lockfile["change"]) == ("lockfile 3rdparty/opam/default.lock", "changed")
    content = Path(rule_runner.build_root, "3rdparty/opam/default.lock").read_bytes()
    assert lockfile["here"]["digest"] == {"sha256": hashlib.sha256(content).hexdigest()}
    assert lockfile["recorded"]["digest"] != lockfile["here"]["digest"]
    code, out, _ = verify(rule_runner, *AGAINST, "images:image")
    assert code == 0 and "lockfile 3rdparty/opam/default.lock  changed  sha256:" in out
    assert "1 difference in what it is made of" in out


def test_no_provenance(rule_runner: RuleRunner, fake_tool: None) -> None:
    """An error before anything is built; a file may say it."""
    rule_runner.write_files(project(Pkg("a"), image=image("a", more='provenance="files"')))
    packaged(rule_runner, "old")
    beside = Path(rule_runner.build_root, "beside.json")
    rule_runner.write_files(project(Pkg("a", opam="fail"), image=image("a")))
    says = failure(rule_runner, *AGAINST, "images:image")
    assert says.startswith("oci:old (sha256:") and "no provenance is attached to it" in says and "--provenance" in says
    assert "`oci-diff --check --files`" in says
    digest = json.loads(Path(rule_runner.build_root, "old/index.json").read_text())["manifests"][0]["digest"]
    beside.write_bytes(statement(digest))
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    done = verify(rule_runner, *AGAINST, "--provenance=beside.json", "--format=json", "images:image")
    found = values(done, 0)
    assert found["provenance"]["origin"] == "beside.json"
    assert {one["change"] for one in found["dependencies"]["differ"]} == {"added", "gone", "changed"}
    beside.write_bytes(statement(D))
    says = failure(rule_runner, *AGAINST, "--provenance=beside.json", "images:image")
    assert says.startswith(f"beside.json: it is about {D}, and not about oci:old, which is {digest}")
    says = failure(rule_runner, *AGAINST, "--provenance=nowhere", "images:image")
    assert "names 'nowhere', which cannot be read: No such file" in says


def test_another_compression(rule_runner: RuleRunner, fake_tool: None) -> None:
    """The blob is read: what a configuration says of it need not be so. Here it is no gzip at all."""
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    packaged(rule_runner, "old")
    root = Path(rule_runner.build_root, "old")
    index = json.loads((root / "index.json").read_text())
    entry = index["manifests"][0]
    manifest = json.loads((root / "blobs/sha256" / entry["digest"][7:]).read_text())
    data = gzip.compress(b"no tar")
    digest = hashlib.sha256(data).hexdigest()
    (root / "blobs/sha256" / digest).write_bytes(data)
    manifest["layers"][-1].update(digest=f"sha256:{digest}", size=len(data))
    text = json.dumps(manifest).encode()
    entry.update(digest=f"sha256:{hashlib.sha256(text).hexdigest()}", size=len(text))
    (root / "blobs/sha256" / entry["digest"][7:]).write_bytes(text)
    (root / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))
    Path(rule_runner.build_root, "p.json").write_bytes(statement(entry["digest"]))
    code, out, errors = verify(rule_runner, *AGAINST, "--same-contents", "--provenance=p.json", "images:image")
    assert (code, out) == (1, "") and "oci:old: layer state" in errors and "Traceback" not in errors


def test_what_makes_no_sense(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    packaged(rule_runner, "old")
    for args, says in (
        ((*AGAINST,), "`oci-verify` verifies one image, but the command line names none"),
        ((*AGAINST, "images:image", "images:other"), "but the command line names 2"),
        ((*AGAINST, "images::"), "`oci-verify` takes an image by its address"),
        ((*AGAINST, "3rdparty/debian:trixie"), "//3rdparty/debian:trixie is no `oci_package_image`"),
        (("--rebuild=none", "images:image"), "`--oci-verify-against` should name the published image"),
        (("--rebuild=none", "--against=hello:1.0", "images:image"), "'hello:1.0' is none"),
    ):
        assert says in failure(rule_runner, *args), args
    code, out, errors = verify(rule_runner, "--rebuild=none", "--against=oci:none", "images:image")
    assert (code, out) == (1, "") and "error: oci:none: there is no directory" in errors


@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed")
def test_a_registry(rule_runner: RuleRunner, fake_tool: None, tmp_path: Path) -> None:
    """The provenance is found there, and the statement goes there, once."""
    rule_runner.write_files(project(Pkg("a"), image=image("a")))
    packaged(rule_runner, "old")
    layout = Path(rule_runner.build_root, "old")
    [entry, *referrers] = json.loads((layout / "index.json").read_text())["manifests"]
    with Registry(tmp_path / "registry") as registry:
        client = Client(Access(registry.address, tls_verify=False), "team/image", {})
        client.connect()
        for blob in sorted((layout / "blobs/sha256").iterdir()):
            blobs.upload(client, "team/image", f"sha256:{blob.name}", str(blob), blob.stat().st_size)
        for tag, one in (("1.0", entry), *((one["digest"], one) for one in referrers)):
            content = (layout / "blobs/sha256" / one["digest"][7:]).read_bytes()
            manifests.put(client, "team/image", tag, one["mediaType"], content)
        against = f"--against=docker://{registry.address}/team/image:1.0"
        assert "no provenance is attached to it" in failure(rule_runner, "--rebuild=none", against, "images:image")
        manifests.list_by_tag(client, "team/image", entry["digest"], referrers)
        for _ in range(2):
            code, out, errors = verify(rule_runner, against, "--push-statement", "images:image")
            assert code == 0 and "The image was made again." in out, errors
        listed = manifests.referrers(client, "team/image", entry["digest"])
        new = [one for one in listed if one["digest"] not in {known["digest"] for known in referrers}]
        assert [one["artifactType"] for one in new] == ["application/vnd.in-toto+json"]
        assert new[0]["annotations"]["in-toto.io/predicate-type"] == "urn:opam-oci-pants:reproduced:v1"
        manifest = json.loads(manifests.read(client, "team/image", new[0]["digest"]))
        assert manifest["subject"]["digest"] == entry["digest"]
        text = blobs.read(client, "team/image", manifest["layers"][0]["digest"])
        assert text == Path(rule_runner.build_root, "dist/images/image.reproduced.json").read_bytes()
        client.close()


# Processes


def test_what_is_made_again_is_in_no_cache() -> None:
    tool = {one: dataclasses.replace(TOOL, rebuild=one) for one in Rebuild}
    scopes = {
        (command, one.value): tool_process(
            dataclasses.replace(tool[one], parts=dict.fromkeys([command], TOOL.parts["build"])),
            call(command),
            TOOL.parts["build"],
        ).cache_scope
        for command in ("rootfs", "opam-root", "join-image", "build", "state", "lock-opam")
        for one in Rebuild
    }
    anew = {key for key, scope in scopes.items() if scope is ProcessCacheScope.PER_SESSION}
    assert anew == {
        *((command, "all") for command in ("rootfs", "opam-root", "join-image", "build", "state")),
        *((command, "packages") for command in ("build", "state")),
    }
    check_rebuilt(Rebuild.packages, Rebuild.all)
    with pytest.raises(OciVerifyError, match="`oci-verify` runs together with other goals.*--opam-rebuild=all"):
        check_rebuilt(Rebuild.all, Rebuild.packages)
    assert Rebuild.packages.more_of(Rebuild.none) is Rebuild.packages.more_of(Rebuild.packages) is Rebuild.packages
    assert Rebuild.packages.more_of(Rebuild.all) is Rebuild.all


# What is recorded


def statement(image: str = D, **changes: Any) -> bytes:
    algorithm, _, digest = image.partition(":")
    dependencies = [
        {"name": "lockfile 3rdparty/opam/default.lock", "digest": {"sha256": "0" * 64}},
        {"name": "opam old opam", "digest": {"sha256": "0" * 64}, "uri": "pkg:opam/old@1"},
    ]
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"target": "images:image", "fields": {"user": "root"}},
        "resolvedDependencies": dependencies,
        **changes.pop("definition", {}),
    }
    document = {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": [{"name": "x", "digest": {algorithm: digest}}],
        "predicate": {"buildDefinition": definition, "runDetails": {"builder": {"id": "urn:x"}}},
        **changes,
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[]", "it should hold a JSON object|should hold a JSON object"),
        (b"{", "is no JSON file"),
        (statement(_type="x"), "its `_type` should be"),
        (statement(predicateType="urn:x"), "its `predicateType` should be"),
        (statement(subject={}), "its `subject` should be a list"),
        (statement(subject=[{"name": "x"}]), r"subject\[0\]: it has no `digest`"),
        (statement(predicate=[]), "its `predicate` should be an object"),
        (statement(definition={"buildType": "urn:other"}), "the image was made by something else"),
        (statement(definition={"externalParameters": 1}), "its `externalParameters` should be an object"),
        (statement(definition={"resolvedDependencies": None}), "its `resolvedDependencies` should be a list"),
        (statement(definition={"resolvedDependencies": [1]}), r"resolvedDependencies\[0\]: it has no `name`"),
        (statement(definition={"resolvedDependencies": [{"name": "x", "digest": {"a": 1}}]}), "it has no `digest`"),
        (
            statement(definition={"resolvedDependencies": [{"name": "x", "digest": {"a": "b"}}] * 2}),
            "stands there twice",
        ),
    ],
)
def test_what_is_no_provenance(text: bytes, says: str) -> None:
    with pytest.raises(RecordedError, match=says) as raised:
        read_recorded(text, "here")
    assert str(raised.value).startswith("here")


def test_several_documents() -> None:
    one, other = statement(), statement(definition={"externalParameters": {}})
    about_else = json.dumps({"predicateType": "urn:opam-oci-pants:reproduced:v1"}).encode()
    assert recorded_of("x", D, [("a", one), ("b", about_else), ("c", one)]).subjects == (D,)
    with pytest.raises(RecordedError, match="2 documents about its provenance are attached to it: sha256:"):
        recorded_of("x", D, [("a", one), ("b", other)])


def test_inputs() -> None:
    recorded = read_recorded(
        statement(
            definition={
                "externalParameters": {"target": "a:b", "fields": {"cmd": ["x"], "user": "opam"}},
                "resolvedDependencies": [
                    {"name": "both", "digest": {"sha256": "1", "sha512": "2"}},
                    {"name": "changed", "digest": {"sha256": "1"}, "uri": "u"},
                    {"name": "kind", "digest": {"gitCommit": "1"}},
                    {"name": "gone", "digest": {"sha256": "1"}},
                ],
            }
        ),
        "here",
    )
    here = [Dependency(name, "sha256", "1") for name in ("both", "kind", "new")] + [
        Dependency("changed", "sha256", "2")
    ]
    found = input_differences(recorded, {"target": "a:b", "fields": {"user": "root"}, "layout": ["a:c"]}, here)
    assert [(one.name, one.change.value) for one in found.dependencies] == [
        ("changed", "changed"),
        ("gone", "gone"),
        ("kind", "changed"),
        ("new", "added"),
    ]
    assert found.same == 1
    assert [(one.name, one.recorded, one.here) for one in found.parameters] == [
        ("fields.cmd", ["x"], None),
        ("fields.user", "opam", "root"),
        ("layout", None, ["a:c"]),
    ]


def test_json_values() -> None:
    one = {"layers": [{"size": 1, "a": {"x": "1"}}, {"size": 2}], "same": [1], "was": None, "n": 1}
    two = {"layers": [{"size": 3, "a": {}}], "same": [1], "n": True}
    assert [(found.path, found.before, found.after) for found in json_differences(one, two)] == [
        ("layers[0].a.x", "1", None),
        ("layers[0].size", 1, 3),
        ("layers[1]", {"size": 2}, None),
        ("n", 1, True),
    ]


# The verdict


def verification(**changes: Any) -> Verification:
    """Of two images with one configuration, one layer of which is compressed otherwise."""
    old = dataclasses.replace(record("old", layer(1, 100), layer(2, 50)), configuration=D)
    packed = dataclasses.replace(layer(2, 40), digest=D)
    new = dataclasses.replace(record("new", layer(1, 100), packed), configuration=D)
    recorded = read_recorded(statement(), "here")
    values: Dict[str, Any] = {
        "target": "images:x",
        "rebuilt": Rebuild.all,
        "plugin": "ab" * 32,
        "recorded": recorded,
        "inputs": input_differences(recorded, recorded.parameters, []),
        "difference": difference_of(old, new),
        "files": FileDifferences((LayerFiles(0, "x", False, ()),)),
        "manifest": (),
    }
    return Verification(**{**values, **changes})


def test_verdicts() -> None:
    result = verification(manifest=tuple(json_differences({"layers": [{"size": 50}]}, {"layers": [{"size": 40}]})))
    assert result.verdict is Verdict.same_contents and not result.is_reproduced
    text = result_text.write_verification(result)
    assert text.startswith("images:x has the same contents as, and another manifest than, old\n")
    assert "layers[0].size  50" in text and "compressed otherwise" in text and "opam old opam" in text
    assert "Files of" not in text
    jsonschema.validate(json.loads(result_json.write_json(result)), SCHEMA)
    # Nobody has looked, or the configurations are others, or not known, or something else differs as well.
    difference = result.difference
    for other in (
        verification(files=None),
        verification(files=FileDifferences(())),
        *(
            verification(difference=difference_of(difference.before, dataclasses.replace(difference.after, **changes)))
            for changes in ({"configuration": ""}, {"configuration": f"sha256:{'2' * 64}"})
        ),
        verification(difference=difference_of(difference.before, dataclasses.replace(difference.after, layers=()))),
    ):
        assert other.verdict is Verdict.different and not other.is_reproduced
    same = verification(difference=difference_of(difference.before, difference.before), files=None)
    assert same.verdict is Verdict.identical and same.is_reproduced
    assert not dataclasses.replace(same, rebuilt=Rebuild.packages).is_reproduced
    document = reproduced(same, "X")
    assert document.text == reproduced(same, "X").text and document.attached
    assert json.loads(document.text)["predicate"]["dependencies"]["differ"][0]["change"] == "gone"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    definition = {
        "resolvedDependencies": [{"name": text or "x", "digest": {text: text}, "uri": text}],
        "externalParameters": {text: text, "fields": {text: [text]}},
    }
    recorded = read_recorded(statement(definition=definition), f"x{text}")
    result = verification(
        recorded=recorded,
        inputs=input_differences(recorded, {}, []),
        manifest=tuple(json_differences({"annotations": {text: text}}, {"annotations": {text: 1}})),
    )
    written = result_text.write_verification(result)
    written.encode()
    assert not set(written) & set("\x1b\x00\x08\x7f\u202e\ud800")
    jsonschema.validate(json.loads(result_json.write_json(result)), SCHEMA)
