"""`oci-report`: how large images are, and what they share. The sandbox tool is fake_tool.py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import jsonschema
import pytest
from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import DigestContents
from pants.testutil.rule_runner import GoalRuleResult, RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.oci_report import OciReport
from opam_oci.image_reports import report_json
from opam_oci.image_reports.records import ImageRecordError, LayerKind, read_image
from opam_oci.image_reports.report_page import write_page
from opam_oci.image_reports.report_text import write_text
from opam_oci.image_reports.sharing import Sharing, sharing_of
from opam_oci.image_reports.treemap import Box, squarified
from tests.backend.backend_runner import OPTIONS
from tests.backend.image_records import layer, record
from tests.backend.locktext import Pkg, image, project
from tests.backend.test_health_reports import HOSTILE, Page

SCHEMA = json.loads(Path(report_json.__file__).with_name("report.schema.json").read_text())
PACKAGES = [Pkg("a"), Pkg("b", depends=["a"]), Pkg("c", depends=["a"], version="2.0~rc1")]


def report(runner: RuleRunner, *args: str) -> GoalRuleResult:
    return runner.run_goal_rule(OciReport, global_args=OPTIONS, args=args)


def values(done: GoalRuleResult) -> Any:
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def packaged(runner: RuleRunner, name: str) -> Dict[str, int]:
    """Digest -> size of the blobs of an image's layers, as `package` writes them."""
    field_set = OciPackageImageFieldSet.create(runner.get_target(Address("images", target_name=name)))
    built = runner.request(BuiltPackage, [field_set])
    files = {file.path: file.content for file in runner.request(DigestContents, [built.digest])}
    index = json.loads(files[f"images/{name}/index.json"])["manifests"]
    [one] = [entry for entry in index if "artifactType" not in entry]
    manifest = json.loads(files[f"images/{name}/blobs/{one['digest'].replace(':', '/')}"])
    blobs = {
        layer["digest"]: files[f"images/{name}/blobs/{layer['digest'].replace(':', '/')}"]
        for layer in manifest["layers"]
    }
    return {digest: len(content) for digest, content in blobs.items()}


def test_the_figures_are_those_of_what_package_writes(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(*PACKAGES, image=image("b", name="one") + image("b", "c", name="two")))
    done = report(rule_runner, "--format=json", "images:one", "images:two")
    found = values(done)
    one, two = packaged(rule_runner, "one"), packaged(rule_runner, "two")
    every = {**one, **two}
    assert len(one) == 5 and len(two) == 6 and len(every) == 7
    without, on_disk = sum(one.values()) + sum(two.values()), sum(every.values())
    assert found["totals"] == {
        "images": 2,
        "layers": 11,
        "unique_blobs": 7,
        "bytes_without_sharing": without,
        "bytes_on_disk": on_disk,
        "bytes_saved": without - on_disk,
        "percent_saved": round(100 * (without - on_disk) / without, 1),
    }
    assert [(x["name"], x["bytes"], x["platform"]) for x in found["images"]] == [
        ("images:one", sum(one.values()), "linux/amd64"),
        ("images:two", sum(two.values()), "linux/amd64"),
    ]
    assert [x["bytes_own"] for x in found["images"]] == [
        sum(size for digest, size in one.items() if digest not in two),
        sum(size for digest, size in two.items() if digest not in one),
    ]
    assert [x["layers"] for x in found["images"]] == [list(one), list(two)]
    assert {blob["digest"]: blob["bytes"] for blob in found["blobs"]} == every
    both = ["images:one", "images:two"]
    assert {(blob["title"], tuple(blob["images"])) for blob in found["blobs"]} == {
        *((title, tuple(both)) for title in ("base trixie", "opam's root", "a.1", "b.1")),
        ("c.2.0~rc1", ("images:two",)),
        ("state", ("images:one",)),
        ("state", ("images:two",)),
    }
    assert {(one["name"], one["version"], tuple(one["images"])) for one in found["packages"]} == {
        ("a", "1", tuple(both)),
        ("b", "1", tuple(both)),
        ("c", "2.0~rc1", ("images:two",)),
    }
    files = Path(rule_runner.build_root, "dist/oci-report")
    assert sorted(path.name for path in files.iterdir()) == ["index.html", "report.json"]
    assert files.joinpath("report.json").read_text() == done.stdout
    assert "Wrote dist/oci-report/index.html" in done.stderr
    page = Page(files.joinpath("index.html").read_text())
    said = " ".join(page.words)
    assert f"{on_disk:,}" in said and f"{without:,}" in said and "c.2.0~rc1" in said
    assert [row["data-shared"] for tag, row in page.elements if tag == "tr" and "data-kind" in row].count("all") == 4


def test_text(rule_runner: RuleRunner, fake_tool: None) -> None:
    rule_runner.write_files(project(*PACKAGES, image=image("b", name="one") + image("b", "c", name="two")))
    done = report(rule_runner, "--output-dir=out/here", "images:one", "images:two")
    assert done.exit_code == 0, done.stderr
    one, two = packaged(rule_runner, "one"), packaged(rule_runner, "two")
    shared = sum(size for digest, size in one.items() if digest in two)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["image", "layers", "packages", "bytes", "only", "its", "own", "shared"]
    for row, name, blobs, packages in ((rows[1], "one", one, 2), (rows[2], "two", two, 3)):
        size = sum(blobs.values())
        assert row == [
            f"images:{name}",
            str(len(blobs)),
            str(packages),
            f"{size:,}",
            f"{size - shared:,}",
            f"{shared:,}",
        ]
    assert f"Shared by images:one, images:two (4 layers, {shared:,} bytes):" in done.stdout
    assert re.search(
        r"Only in images:two \(2 layers, [0-9,]+ bytes\):\n  (state, c\.2\.0~rc1|c\.2\.0~rc1, state)\n", done.stdout
    )
    assert Path(rule_runner.build_root, "out/here/index.html").exists()
    assert not Path(rule_runner.build_root, "dist/oci-report").exists()


def test_layouts_flat_and_runtime_images(rule_runner: RuleRunner, fake_tool: None) -> None:
    """An image that is another one in a layout says so; one that is the same is there once."""
    images = (
        image("b", name="one", more='compression="zstd"')
        + image("c", name="two", more="max_layers=4")
        + image("b", name="flat", more='layers="flat"')
        + image("b", name="slim", more='runtime=True, runtime_base="3rdparty/debian:second"')
        + 'oci_image_layout(name="all", images=[":one", ":flat"], format="docker-archive")\n'
        + 'oci_image_layout(name="plain", images=[":one", ":two"])\n'
    )
    rule_runner.write_files(project(*PACKAGES, image=images))
    found = values(report(rule_runner, "--format=json", "images::"))
    assert [one["name"] for one in found["images"]] == [
        "images:flat",
        "images:one",
        "images:one in images:all",
        "images:slim",
        "images:two",
    ]
    assert len({one["manifest"] for one in found["images"]}) == 5
    kinds = {
        one["name"]: [blob["kind"] for digest in one["layers"] for blob in found["blobs"] if blob["digest"] == digest]
        for one in found["images"]
    }
    assert kinds["images:one"] == ["base", "opam-root", "packages", "packages", "state"]
    assert kinds["images:two"] == ["base", "opam-root", "packages", "state"]
    assert kinds["images:flat"] == ["flat"]
    assert kinds["images:slim"] == ["base", "runtime"]
    [group] = [blob for blob in found["blobs"] if blob["images"] == ["images:two"] and blob["kind"] == "packages"]
    assert (group["packages"], group["title"]) == (["a.1", "c.2.0~rc1"], "a.1 and 1 more")


def foreign_layout(lines: Sequence[str], directory: str = "other", **changes: Any) -> Dict[str, str]:
    """A layout that some other tool made: a layer for each line of its history."""
    blobs = [f"layer {number}" for number in range(len(lines))]

    def described(text: str, kind: str) -> Dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        files[f"{directory}/blobs/{digest.replace(':', '/')}"] = text
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(text.encode())}

    files: Dict[str, str] = {f"{directory}/oci-layout": '{"imageLayoutVersion": "1.0.0"}'}
    layers = [described(blob, "layer.v1.tar+gzip") for blob in blobs]
    config = {
        "architecture": "arm64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        "history": [{"created_by": line, "comment": "opam resolve x"} for line in lines],
        **changes,
    }
    manifest = {"schemaVersion": 2, "config": described(json.dumps(config), "config.v1+json"), "layers": layers}
    entry = described(json.dumps(manifest), "manifest.v1+json")
    files[f"{directory}/index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]})
    return files


INDEX = 'oci_image_index(name="index", images=[":image"], layouts=["other"])\n'


def test_an_index_with_an_image_of_another_tool(rule_runner: RuleRunner, fake_tool: None) -> None:
    lines = [*(text.replace(" ", "_") for text in HOSTILE), "opam install <b>.1 \ud800.2 \x9b31m.3"]
    rule_runner.write_files({**project(*PACKAGES, image=image("b") + INDEX), **foreign_layout(lines)})
    found = values(report(rule_runner, "--format=json", "images:index", "images:image"))
    assert [(one["name"], one["platform"]) for one in found["images"]] == [
        ("images:image", "linux/amd64"),
        ("other", "linux/arm64"),
    ]
    theirs = {blob["created_by"]: blob for blob in found["blobs"] if blob["images"] == ["other"]}
    assert list(sorted(theirs)) == sorted(lines)
    assert all(theirs[line]["kind"] == "other" and theirs[line]["packages"] == [] for line in lines[:-1])
    assert theirs[lines[-1]]["packages"] == ["<b>.1", "\ud800.2", "\x9b31m.3"]
    page = Page(Path(rule_runner.build_root, "dist/oci-report/index.html").read_text())
    check_page(page)
    said = report(rule_runner, "images:index")
    assert said.exit_code == 0 and "<b>.1" in said.stdout
    assert "\x9b" not in said.stdout and "\x1b" not in said.stdout


def check_page(page: Page) -> None:
    """No markup but its own, and nothing that is fetched or run."""
    assert len(page.scripts) == 1 and "alert" not in page.scripts[0]
    own = "html head meta title style body header main nav section script a p ul li h1 h2 h3 b div table thead tbody tr th td"
    own += " form label input select option button output code svg g rect text"
    assert {tag for tag, _ in page.elements} <= set(own.split())
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
        assert attributes.get("href", "#").startswith("#")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    one = record(f"1{text}", layer(1, 1000, text, (f"{text}.1", "b.1"), "base"), layer(2, 500, text))
    two = record(f"2{text}", layer(1, 1000, text, (f"{text}.1", "b.1"), "base"), layer(3, 100, text), layer(4, 0, text))
    sharing = sharing_of([one, two])
    check_page(Page(write_page(sharing)))
    write_page(sharing).encode()
    assert not set(write_text(sharing)) & set("\x1b\x00\x08\x7f\u202e\ud800")
    jsonschema.validate(json.loads(report_json.write_json(sharing)), SCHEMA)


def test_a_layer_that_an_image_has_twice() -> None:
    """As other tools' images have an empty one: it takes its bytes once, and nothing is shared or saved by that."""
    sharing = sharing_of([record("a", layer(1, 32), layer(2, 100), layer(1, 32)), record("b", layer(3, 7))])
    assert (sharing.layers, len(sharing.blobs)) == (4, 3)
    assert (sharing.without_sharing, sharing.on_disk, sharing.saved) == (139, 139, 0)
    assert [sharing.own(image) for image in sharing.images] == [132, 7]


def test_images_without_bytes() -> None:
    sharing = sharing_of([record("a", layer(1, 0)), record("b")])
    assert (sharing.saved, sharing.saved_percent) == (0, 0.0)
    assert "<svg" not in write_page(sharing) and "0.0 %" in write_text(sharing)


def test_nothing_depends_on_the_order_of_images() -> None:
    images = [record(name, layer(1, 10), layer(number, 5)) for number, name in enumerate("dbac", 2)]

    def written(sharing: Sharing) -> Tuple[str, str, str]:
        return write_page(sharing), write_text(sharing), report_json.write_json(sharing)

    assert written(sharing_of(images)) == written(sharing_of(reversed(images)))


@pytest.mark.parametrize(
    "sizes", [[1.0], [6, 6, 4, 3, 2, 2, 1], [1e9, 1, 1], [5.0] * 100, [2.0**-n for n in range(40)]]
)
def test_areas_are_as_sizes(sizes: List[float]) -> None:
    box = Box(3, 5, 960, 540)
    boxes = squarified(sizes, box)
    scale = box.width * box.height / sum(sizes)
    assert [one.width * one.height for one in boxes] == pytest.approx([size * scale for size in sizes])
    for one in boxes:
        assert one.x >= box.x - 1e-6 and one.y >= box.y - 1e-6
        assert one.x + one.width <= box.x + box.width + 1e-6 and one.y + one.height <= box.y + box.height + 1e-6
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across <= 1e-6 or down <= 1e-6


def manifest_of(layers: int) -> Dict[str, Any]:
    one = {"mediaType": "x", "digest": f"sha256:{'1' * 64}", "size": 1}
    return {"config": one, "layers": [one] * layers}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "a list `diff_ids`, one for each of 2 layers"),
        ({"rootfs": []}, "a list `diff_ids`"),
        ({"rootfs": {"diff_ids": ["sha256:" + "1" * 64]}}, "one for each of 2 layers"),
        ({"rootfs": {"diff_ids": ["sha256:" + "1" * 64, 5]}}, "`diff_ids`"),
    ],
)
def test_configurations_that_make_no_sense(config: Dict[str, Any], says: str) -> None:
    with pytest.raises(ImageRecordError, match=says) as raised:
        read_image("images:x", "sha256:" + "2" * 64, manifest_of(2), config)
    assert "images:x: the configuration sha256:1111" in str(raised.value)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"created_by": "opam install a", "comment": "opam resolve x"}, LayerKind.other),
        ({"created_by": "opam install ", "comment": "opam resolve x"}, LayerKind.other),
        ({"created_by": "opam install a.1", "comment": "by hand"}, LayerKind.other),
        ({"created_by": "debian_rootfs x", "comment": ""}, LayerKind.other),
        ({"created_by": "oci_base_image x", "comment": ""}, LayerKind.other),
        ({"created_by": "oci_base_image x", "comment": "a layer of y"}, LayerKind.base),
        ({"created_by": "oci_base_image x; runtime files of a"}, LayerKind.flat),
        ({"created_by": 5, "comment": []}, LayerKind.other),
        ({"created_by": "RUN opam install a.1"}, LayerKind.other),
        ({"created_by": "opam install a.1", "comment": "opam resolve x"}, LayerKind.packages),
    ],
)
def test_history_of_other_tools(line: Any, kind: LayerKind) -> None:
    config = {"rootfs": {"diff_ids": ["sha256:" + "3" * 64]}, "history": [{"empty_layer": True}, line]}
    [found] = read_image("x", "sha256:" + "2" * 64, manifest_of(1), config).layers
    assert found.kind is kind
    # Where lines and layers do not go together, no line is taken for a layer's.
    config["history"] = [line, line]
    [found] = read_image("x", "sha256:" + "2" * 64, manifest_of(1), config).layers
    assert (found.kind, found.title) == (LayerKind.other, "sha256:111111111111")


def test_what_makes_no_sense(rule_runner: RuleRunner, fake_tool: None) -> None:
    bad = foreign_layout(["a"], rootfs={"diff_ids": []})
    rule_runner.write_files(
        {
            **project(Pkg("a", opam="fail"), Pkg("b"), image=image("a", name="fails") + image("b") + INDEX),
            **bad,
            "images/none/BUILD": 'oci_image_index(name="none", layouts=["nowhere"])\noci_image_layout(name="empty", images=[])\n',
        }
    )
    for args, text in (
        (("3rdparty/debian:trixie",), "`oci-report` is for `oci_package_image`.* the command line names none"),
        (("images:fails",), "The image images:fails was not written.*\n+a.1 failed: error: a does not compile"),
        (("images:index",), "other: the configuration sha256:.*should have a list `diff_ids`, one for each of 1 layer"),
        (("images/none:none",), "there is no nowhere/index.json"),
        (("images/none:empty",), "`images` field in target images/none:empty is empty"),
        (("--output-dir=../x", "images:image"), "`--oci-report-output-dir` should be a directory below the build root"),
        (("--output-dir=/tmp/x", "images:image"), "`--oci-report-output-dir`"),
        (("--output-dir=.", "images:image"), "`--oci-report-output-dir`"),
    ):
        with pytest.raises(Exception, match=text):
            report(rule_runner, *args)
    assert not Path(rule_runner.build_root, "dist/oci-report").exists()
