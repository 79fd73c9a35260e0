"""`oci-diff`: in what two images differ. The sandbox tool is fake_tool.py, which has the tool's own part for comparing."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

import jsonschema
import pytest
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner, mock_console

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.oci_diff import OciDiff
from opam_oci.image_reports import difference_json, difference_text
from opam_oci.image_reports.differences import Change, difference_of
from opam_oci.image_reports.records import ImageRecord, LayerRecord
from opam_oci.image_reports.references import ImageReference, ImageReferenceError, parse_reference
from opam_oci.subsystems.oci_publish import Registry
from tests.backend.backend_runner import OPTIONS
from tests.backend.image_records import layer, record
from tests.backend.locktext import Pkg, image, project
from tests.backend.test_health_reports import HOSTILE

SCHEMA = json.loads(Path(difference_json.__file__).with_name("difference.schema.json").read_text())
PACKAGES = [Pkg("a"), Pkg("b", depends=["a"]), Pkg("c", depends=["a"], version="2.0~rc1")]
ENV = {"PATH", "HOME", "TMPDIR"}


def diff(runner: RuleRunner, *args: str) -> Tuple[int, str, str]:
    """Exit status, output and errors, those of the tool's process among them."""
    runner.set_options([*OPTIONS, "oci-diff", *args], env_inherit=ENV)
    with mock_console(runner.options_bootstrapper) as (_, streams):
        done = runner.run_goal_rule(OciDiff, global_args=OPTIONS, args=args, env_inherit=ENV)
        return done.exit_code, done.stdout + streams.get_stdout(), done.stderr + streams.get_stderr()


def values(done: Tuple[int, str, str]) -> Any:
    code, out, errors = done
    assert code == 0, errors
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA)
    return found


def failure(runner: RuleRunner, *args: str) -> str:
    with pytest.raises(ExecutionError) as raised:
        diff(runner, *args)
    return str(raised.value.wrapped_exceptions[0])


def packaged(runner: RuleRunner, directory: str) -> None:
    """The layout of images:image, as `package` writes it, in a directory of the build root."""
    field_set = OciPackageImageFieldSet.create(runner.get_target(Address("images", target_name="image")))
    built = runner.request(BuiltPackage, [field_set])
    for file in runner.request(DigestContents, [built.digest]):
        if not file.path.startswith("images/image/"):
            continue
        path = Path(runner.build_root, directory, file.path.partition("images/image/")[2])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)


def test_two_targets(rule_runner: RuleRunner, fake_tool: None) -> None:
    more = 'labels={"a": "1", "both": "x"}, user="root"'
    images = image("b", name="one") + image("c", name="two", more=more)
    rule_runner.write_files(project(*PACKAGES, image=images))
    found = values(diff(rule_runner, "--format=json", "images:one", "images:two"))
    assert [(found[side]["name"], found[side]["layers"]) for side in ("before", "after")] == [
        ("images:one", 5),
        ("images:two", 5),
    ]
    assert (found["same_image"], found["same_layers"], found["reordered"]) == (False, 3, False)
    assert [(one["name"], one["change"], one["before"], one["after"]) for one in found["packages"]] == [
        ("b", "removed", "1", ""),
        ("c", "added", "", "2.0~rc1"),
    ]
    layers = {(one["change"], (one["before"] or one["after"])["title"]): one for one in found["layers"]}
    assert set(layers) == {("removed", "b.1"), ("added", "c.2.0~rc1"), ("changed", "state")}
    assert found["packages"][0]["bytes_before"] == layers["removed", "b.1"]["before"]["bytes"] > 0
    config = {(one["field"], one["key"]): (one["before"], one["after"]) for one in found["config"]}
    assert config["Labels", "a"] == (None, "1") and config["User", ""][1] == "root"
    # The first is what was before.
    back = values(diff(rule_runner, "--format=json", "images:two", "images:one"))
    assert (back["before"], back["after"]) == (found["after"], found["before"])
    assert diff(rule_runner, "--check", "images:two", "images:one")[0] == 1
    code, out, _ = diff(rule_runner, "images:one", "--", "images:two")
    assert code == 0
    change = back["before"]["bytes"] - back["after"]["bytes"]
    assert f"\n3 layers with the same content in both; compressed bytes {change:+,}\n" in out
    lines = [line.split() for line in out.splitlines()]
    removed, added = found["packages"]
    assert ["b", "removed", "1", f"{-removed['bytes_before']:+,}"] in lines
    assert ["c", "added", "2.0~rc1", f"{added['bytes_after']:+,}"] in lines
    assert ["Labels", "a", "not", "set", "1"] in lines


def test_the_same_image(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(*PACKAGES, image=image("b", name="one") + image("b", name="two")))
    code, out, _ = diff(rule_runner, "--check", "--files", "images:one", "//images:two")
    assert code == 0 and out.startswith("images:one and images:two are the same image: manifest sha256:")
    found = values(diff(rule_runner, "--check", "--format=json", "images:one", "images:two"))
    assert found["same_image"] and not (found["packages"] or found["layers"] or found["config"])


def test_a_target_against_what_it_was(rule_runner: RuleRunner, fake_tool: None) -> None:
    """A layout that was written earlier: by its directory and, where there are several, by the tag."""
    rule_runner.write_files(project(*PACKAGES, image=image("b")))
    packaged(rule_runner, "old")
    code, out, errors = diff(rule_runner, "--check", "--", "oci:old", "images:image")
    assert code == 0 and out.startswith("oci:old and images:image are the same image"), errors
    new = [Pkg("a"), Pkg("b", depends=["a"], version="1.1"), Pkg("c")]
    rule_runner.write_files(project(*new, image=image("b")))
    absolute = f"oci:{rule_runner.build_root}/old:latest"
    found = values(diff(rule_runner, "--format=json", "--", absolute, "images:image"))
    assert [(one["name"], one["change"], one["before"], one["after"]) for one in found["packages"]] == [
        ("b", "version", "1", "1.1")
    ]
    assert {one["change"] for one in found["layers"]} == {"changed"}
    assert found["before"]["name"] == absolute and found["before"]["ours"]
    # a is built of other instructions, with the same version.
    rule_runner.write_files(project(Pkg("a", opam="other"), *PACKAGES[1:], image=image("b")))
    found = values(diff(rule_runner, "--format=json", "images:image", "--", "oci:old"))
    assert [(one["name"], one["change"]) for one in found["packages"]][0] == ("a", "rebuilt")
    assert found["after"]["name"] == "oci:old"


Tar = Mapping[str, bytes]


def foreign(root: str, name: str, layers: Sequence[Tar], **changes: Any) -> None:
    """A layout that some other tool made: real tars."""
    blobs = Path(root, name, "blobs/sha256")
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> Dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs.joinpath(digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    plain = []
    for one in layers:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path, content in one.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        plain.append(file.getvalue())
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in plain]},
        "history": [{"created_by": f"step {number}"} for number, _ in enumerate(layers)],
        **changes,
    }
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(one, mtime=0), "layer.v1.tar+gzip") for one in plain],
    }
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    Path(root, name, "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def test_files(rule_runner: RuleRunner, fake_tool: None) -> None:
    many = {f"many/{number:03}": b"x" for number in range(60)}
    base = {"etc/x": b"1"}
    old = {"usr/bin/a": b"12345", "usr/bin/\x1b[2J": b"", "gone": b"1234"}
    new = {"usr/bin/a": b"12346789", "moved": b"m", **many}
    other_steps = [{"created_by": "a"}, {"created_by": "b"}]
    foreign(rule_runner.build_root, "one", [base, old, {"moved": b"m"}])
    foreign(rule_runner.build_root, "two", [base, new], author="me", history=other_steps)
    found = values(diff(rule_runner, "--format=json", "--files", "--", "oci:one", "oci:two"))
    assert not found["before"]["ours"] and found["packages"] == [] and found["same_layers"] == 1
    removed, moved, added = found["layers"]
    assert (moved["change"], moved["paths"]) == ("removed", [])
    assert (removed["change"], removed["paths"][0]["path"], removed["paths"][0]["after"]) == ("removed", "/gone", None)
    assert removed["file_bytes_change"] == -4 and added["file_bytes_change"] == 60 + 3
    assert [one["path"] for one in removed["paths"]] == ["/gone", "/usr/bin/\x1b[2J"]
    [changed] = [one for one in added["paths"] if one["before"]]
    assert (changed["path"], changed["fields"]) == ("/usr/bin/a", ["content", "size"])
    assert (changed["before"]["size"], changed["after"]["size"]) == (5, 8)
    assert changed["after"]["content"] == hashlib.sha256(b"12346789").hexdigest()
    code, out, _ = diff(rule_runner, "--files", "--", "oci:one", "oci:two")
    assert code == 0
    assert "  - /gone: file, mode 0644, 4 bytes\n" in out and "  + /many/000: file, mode 0644, 1 bytes\n" in out
    assert "  ... and 11 more, which `--format=json` has\n" in out
    assert "\n\nLayers whose files all lie in other layers of the other image:\n  sha256:" in out
    assert "\x1b" not in out and "note: the history of oci:one is none that this backend writes" in out
    # Nothing but what a configuration says beside what containers get.
    foreign(rule_runner.build_root, "three", [base, new], author="you", history=other_steps)
    code, out, _ = diff(rule_runner, "--check", "--files", "--", "oci:two", "oci:three")
    assert code == 1 and "note: layers and configuration are the same; the manifests, or what else" in out
    foreign(rule_runner.build_root, "four", [base, {"usr/bin/a": b"6"}], history=other_steps)
    [layer] = values(diff(rule_runner, "--format=json", "--files", "--", "oci:four", "oci:three"))["layers"]
    assert (layer["change"], layer["file_bytes_change"]) == ("changed", 7 + 1 + 60)


def test_what_the_tool_refuses(rule_runner: RuleRunner, fake_tool: None) -> None:
    """Its message is the error; without `--check` too. Nothing is printed."""
    rule_runner.write_files(project(*PACKAGES, image=image("b") + image("c", name="other")))
    foreign(rule_runner.build_root, "one", [{"a": b"1"}])
    foreign(rule_runner.build_root, "two", [{"a": b"2"}])
    [blob] = [
        path for path in Path(rule_runner.build_root, "one/blobs/sha256").iterdir() if b"\x1f\x8b" in path.read_bytes()
    ]
    blob.write_bytes(b"damaged")
    for args, says in (
        (("--", "oci:none", "oci:two"), f"error: oci:none: there is no directory {rule_runner.build_root}/none"),
        (("--", "oci:two:x", "oci:one"), "has 0 images with the name 'x'"),
        (("--files", "--", "oci:one", "oci:two"), "error: oci:one: layer sha256:"),
        # Of a target, the tool has the blobs of the layers; the fake one's are no tars.
        (("--files", "images:image", "images:other"), "error: images:image: layer b.1: its blob first/blobs/sha256/"),
        (
            ("--files", "--", "oci:two", "images:other"),
            "images:other: layer base trixie: its blob second/blobs/sha256/",
        ),
    ):
        code, out, errors = diff(rule_runner, *args)
        assert (code, out) == (1, "") and says in errors and "Traceback" not in errors


def test_what_makes_no_sense(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(Pkg("a", opam="fail"), Pkg("b"), image=image("a", name="fails") + image("b")))
    two = "`oci-diff` compares two images, but the command line names"
    for args, says in (
        ((), f"{two} none"),
        (("images:image",), f"{two} 1"),
        (("images:image", "--", "oci:x", "oci:y"), f"{two} 3"),
        (("images::",), "takes two images by their addresses"),
        (("images:image", "images:"), "takes two images by their addresses"),
        (("images:image", "3rdparty/debian:trixie"), "//3rdparty/debian:trixie is no `oci_package_image`"),
        (("images:image", "images:none"), "images:none"),
        (("images:image", "--", "docker://x"), "'docker://x' names no image in a registry"),
        (("images:image", "images:fails"), "The image images:fails was not written"),
    ):
        assert says in failure(rule_runner, *args), args


def test_without_skopeo(rule_runner: RuleRunner, fake_tool: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    says = failure(rule_runner, "--", "docker://127.0.0.1:9/x:1", "docker://127.0.0.1:9/x:2")
    assert says.startswith("Reading docker://127.0.0.1:9/x:1 needs `skopeo`, which is not on PATH (/nowhere).")


REGISTRIES = {
    "plain": Registry("h.example:5000", tls_verify=False),
    "team": Registry("h.example:5000/team", cert_dir="certs"),
    "layout": Registry("oci:/srv"),
}
D = f"sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("oci:a/b", ImageReference("oci:a/b", layout="/root/a/b")),
        ("oci:/a/../b:hello:1.0", ImageReference("oci:/a/../b:hello:1.0", layout="/b", wanted="hello:1.0")),
        (f"oci:a@{D}", ImageReference(f"oci:a@{D}", layout="/root/a", wanted=D)),
        ("docker://localhost:1/x:1", ImageReference("", repository="docker://localhost:1/x", tls_verify=False)),
        (f"docker://h.example/x/y@{D}", ImageReference("", repository="docker://h.example/x/y")),
        ("docker://[::1]:1/x:1", ImageReference("", repository="docker://[::1]:1/x", tls_verify=False)),
        ("docker://h.example:5000/x:1", ImageReference("", repository="docker://h.example:5000/x", tls_verify=False)),
        (
            "docker://h.example:5000/team/x:1",
            ImageReference("", repository="docker://h.example:5000/team/x", cert_dir="/root/certs"),
        ),
        (
            "docker://h.example:5000/teams:1",
            ImageReference("", repository="docker://h.example:5000/teams", tls_verify=False),
        ),
    ],
)
def test_references(text: str, wanted: ImageReference) -> None:
    found = parse_reference(text, "/root", REGISTRIES)
    assert found == dataclasses.replace(wanted, text=text)
    digest = f"sha256:{'2' * 64}"
    if wanted.layout:
        assert found.request("") == {"kind": "layout", "path": wanted.layout, "wanted": wanted.wanted}
        assert found.request("", digest)["wanted"] == digest
    else:
        assert found.request("/s")["source"] == text
        assert found.request("/s", digest)["source"] == f"{wanted.repository}@{digest}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "oci:",
            "oci::tag",
            "oci:a@sha256:12",
            "oci:a:",
            "docker://",
            "docker://h.example/x",
            "docker://h.example:5000:1",
        ),
        *("docker://user:word@h.example/x:1", "docker://h.example/X:1", "docker://h.example/x:1 --help", "docker://-x"),
        *("docker://h.example/x:-1", "docker://h.example/../x:1", "docker://h.example/x@sha256:12", "docker://h/x:1\n"),
    ],
)
def test_references_that_are_none(text: str) -> None:
    with pytest.raises(ImageReferenceError) as raised:
        parse_reference(text, "/root", {})
    assert repr(text) in str(raised.value)


def compressed(one: LayerRecord, number: int, size: int) -> LayerRecord:
    return dataclasses.replace(one, digest=f"sha256:{number:064x}", size=size)


def test_layers_that_belong_together() -> None:
    """By content, by packages, by names of packages, by kind; of joint layers nothing is known but their packages' versions."""
    base, state = layer(1, 100, "base trixie", kind="base"), layer(2, 10, "state", kind="state")
    group = layer(3, 50, "g", ("x.1", "y.1"))
    a, b = layer(4, 7, "a", ("a.1",)), layer(5, 8, "b", ("b.1",))
    before = record("before", base, a, b, group, state)
    after = record(
        "after",
        layer(11, 120, "base trixie", kind="base"),
        compressed(b, 15, 5),
        layer(14, 9, "a", ("a.2",)),
        layer(13, 50, "g", ("x.1", "y.2")),
        state,
    )
    found = difference_of(before, after)
    assert [(one.change, one.title) for one in found.layers] == [
        (Change.changed, "base trixie"),
        (Change.changed, "a"),
        (Change.repacked, "b"),
        (Change.changed, "g"),
    ]
    assert [(one.name, one.change, one.bytes_before, one.bytes_after) for one in found.packages] == [
        ("a", Change.version, 7, 9),
        ("b", Change.repacked, 8, 5),
        ("x", Change.joined, None, None),
        ("y", Change.version, None, None),
    ]
    assert (found.same_layers, found.reordered) == (2, False)
    text = difference_text.write_text(found, None)
    assert "compressed otherwise" in text and "(in a layer with others)" in text
    assert difference_of(record("x", a, b), record("y", b, a)).reordered


def test_layers_of_other_tools() -> None:
    """The lines of the history say which belong together."""
    one, two = (
        record(name, *(layer(at + place, 1, f"RUN {place}", kind="other") for place in range(2)))
        for name, at in (("x", 1), ("y", 4))
    )
    assert [(one.change, one.title) for one in difference_of(one, two).layers] == [
        (Change.changed, "RUN 0"),
        (Change.changed, "RUN 1"),
    ]


def test_values_of_the_configuration() -> None:
    one = dataclasses.replace(
        record("one", layer(1, 1)),
        config={"Env": ["A=1", "B=2"], "User": "", "Labels": None, "Cmd": ["x"], "Volumes": {"/v": {}}},
        annotations={"k": "1"},
    )
    two = dataclasses.replace(
        record("two", layer(1, 1)),
        config={"Env": ["A=1", "B=3=4", "C="], "Labels": {"l": "m"}, "Cmd": ["x", "y"], "Volumes": {}},
        platform="linux/arm64",
    )
    found = difference_of(one, two)
    assert [(value.field, value.key, value.before, value.after) for value in found.values] == [
        ("platform", "", "linux/amd64", "linux/arm64"),
        ("Cmd", "", ["x"], ["x", "y"]),
        ("Env", "B", "2", "3=4"),
        ("Env", "C", None, ""),
        ("Labels", "l", None, "m"),
        ("Volumes", "/v", {}, None),
        ("annotations", "k", "1", None),
    ]
    jsonschema.validate(json.loads(difference_json.write_json(found, None)), SCHEMA)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    def made(number: int, **config: Any) -> ImageRecord:
        one = record(
            f"{number}{text}", layer(number, 1000, text, (f"{text}.{number}", "b.1")), layer(9, 1, kind="other")
        )
        return dataclasses.replace(one, config=config, annotations={text: f"{number}{text}"})

    found = difference_of(made(1, Env=[f"{text}=1"], **{text: 1}), made(2, Env=[f"{text}=2"], Labels={text: [text]}))
    assert found.packages and len(found.values) >= 3
    written = difference_text.write_text(found, None)
    written.encode()
    assert not set(written) & set("\x1b\x00\x08\x7f\u202e\ud800")
    jsonschema.validate(json.loads(difference_json.write_json(found, None)), SCHEMA)
