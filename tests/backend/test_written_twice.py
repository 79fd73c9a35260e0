"""Two targets of one run that would write one thing: a published name, or a path in the distribution directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pants.core.goals.package import BuiltPackage, Package
from pants.core.goals.publish import Publish, PublishProcesses
from pants.engine.addresses import Address
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.publish import PublishOciImageFieldSet, PublishOciImageRequest
from opam_oci.publishing.claims import Claims
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, image, project

pytestmark = pytest.mark.usefixtures("fake_tool")

ALIASES = "--oci-publish-registries={'r': {'address': 'r.example.org'}, 's': {'address': 'oci:LAYOUT'}}"


def set_up(runner: RuleRunner, *images: str) -> None:
    runner.write_files(project(Pkg("lwt", version="5.6.1"), Pkg("fmt"), image="".join(images)))


def message_of(runner: RuleRunner, goal: Any, *args: str, options: tuple[str, ...] = ()) -> str:
    with pytest.raises(ExecutionError) as raised:
        runner.run_goal_rule(goal, global_args=(*OPTIONS, *options), args=args, env={"PATH": "/usr/bin:/bin"})
    return str(raised.value.wrapped_exceptions[0])


def test_two_targets_of_one_name(rule_runner: RuleRunner, tmp_path: Path) -> None:
    layout = tmp_path / "pub"
    set_up(
        rule_runner,
        image("lwt", name="one", more=f'repositories=["oci:{layout}:x"],'),
        image("fmt", name="two", more=f'repositories=["oci:{layout}:x"], image_tags=["1", "latest"],'),
    )
    for _ in range(2):  # also when the first target's part comes out of the daemon's memory
        message = message_of(rule_runner, Publish, "images:")
        assert (
            f"images:one and images:two would both be published under the same name, oci:{layout}:x:latest" in message
        )
        assert "`image_tags`" in message and "`repositories`" in message and "Nothing was published" in message
        assert not layout.exists()


@pytest.mark.parametrize(
    ("one", "two", "name"),
    [
        ('"@r/x"', '"r.example.org/x"', "r.example.org/x:latest"),
        ('"R.Example.org/X"', '"r.example.org:443/x"', "r.example.org:443/x:latest"),
        ('"docker.io/x"', '"index.docker.io/library/x"', "index.docker.io/library/x:latest"),
        ('"oci:LAYOUT:x"', '"oci:LINK/:x"', "oci:LINK:x:latest"),
        ('"oci:LAYOUT:x"', '"@s/x"', "oci:LAYOUT:x:latest"),
    ],
)
def test_names_written_in_two_ways(rule_runner: RuleRunner, tmp_path: Path, one: str, two: str, name: str) -> None:
    (tmp_path / "pub").mkdir()
    (tmp_path / "link").symlink_to("pub")

    def real(text: str) -> str:
        return text.replace("LAYOUT", str(tmp_path / "pub")).replace("LINK", str(tmp_path / "link"))

    for first, second in ((one, two), (two, one)):
        set_up(
            rule_runner,
            image("lwt", name="one", more=f"repositories=[{real(first)}],"),
            image("fmt", name="two", more=f"repositories=[{real(second)}],"),
        )
        message = message_of(rule_runner, Publish, "images:", options=(real(ALIASES),))
        assert "images:one and images:two would both be published" in message
    # The same field of one target.
    set_up(rule_runner, image("lwt", more=f"repositories=[{real(one)}, {real(two)}],"))
    message = message_of(rule_runner, Publish, "images:", options=(real(ALIASES),))
    assert f"images:image would be published to {real(name).rpartition(':')[0]} twice" in message
    assert repr(real(one).strip('"')) in message and "`repositories`. Leave one of them out." in message


def test_parametrized_targets(rule_runner: RuleRunner, tmp_path: Path) -> None:
    fields = f'layers=parametrize("flat", "per_package"), repositories=["oci:{tmp_path}/pub"],'
    set_up(rule_runner, image("lwt", more=fields))
    message = message_of(rule_runner, Publish, "images:image")
    assert "images:image@layers=flat and images:image@layers=per_package would both be published" in message
    assert '`["latest-{parameters.layers}"]`' in message
    assert not (tmp_path / "pub").exists()
    # The way out.
    set_up(rule_runner, image("lwt", more=fields + 'image_tags=["latest-{parameters.layers}"],'))
    tags = published(rule_runner, "layers=flat", "layers=per_package")
    assert tags == ["pub:image:latest-flat", "pub:image:latest-per_package"]


def published(runner: RuleRunner, *names: str) -> list[str]:
    """The names that a run which publishes these targets would publish."""
    runner.set_options(OPTIONS, env={"PATH": "/usr/bin:/bin"})
    found: list[str] = []
    for name in names:
        field, _, value = name.partition("=")
        parameters = {field: value} if value else {}
        address = Address("images", target_name="image" if value else name, parameters=parameters)
        target = runner.get_target(address)
        built = runner.request(BuiltPackage, [OciPackageImageFieldSet.create(target)])
        request = PublishOciImageRequest(PublishOciImageFieldSet.create(target), (built,))
        found += [ref for one in runner.request(PublishProcesses, [request]) if one.process for ref in one.names]
    return [name.rpartition("/")[2] for name in found]


def test_what_is_not_published_takes_no_name(rule_runner: RuleRunner, tmp_path: Path) -> None:
    where = f'repositories=["oci:{tmp_path}/pub:x"],'
    set_up(rule_runner, image("lwt", name="one", more=where), image("fmt", name="two", more=f"{where} skip_push=True,"))
    assert published(rule_runner, "one", "two") == ["pub:x:latest"]
    # Nor does a target that is not asked for in this run.
    set_up(rule_runner, image("lwt", name="one", more=where), image("fmt", name="two", more=where))
    for name in ("one", "two"):
        assert published(rule_runner, name) == ["pub:x:latest"]


def test_a_tag_twice_counts_once(rule_runner: RuleRunner, tmp_path: Path) -> None:
    set_up(rule_runner, image("lwt", more=f'repositories=["oci:{tmp_path}/pub"], image_tags=["1", "1"],'))
    assert published(rule_runner, "image") == ["pub:image:1"]


def test_two_targets_of_one_output_path(rule_runner: RuleRunner) -> None:
    set_up(
        rule_runner,
        image("lwt", name="one", more='output_path="x/y",'),
        image("fmt", name="two", more='output_path="x/y/",'),
    )
    for _ in range(2):
        message = message_of(rule_runner, Package, "images:")
        assert "`package` would write both images:one and images:two to x/y" in message
        assert "another `output_path`" in message
        assert not Path(rule_runner.build_root, "dist").exists()
    for name in ("one", "two"):
        assert rule_runner.run_goal_rule(Package, global_args=OPTIONS, args=[f"images:{name}"]).exit_code == 0


@pytest.mark.parametrize(
    "other",
    [
        'oci_package_image(name="two", packages=["3rdparty/opam:default#fmt"], output_path="x/blobs")',
        'oci_package_image(name="two", packages=["3rdparty/opam:default#fmt"], output_path="x.tar", format="oci-archive")',
        'oci_image_layout(name="two", images=[":one"], output_path="x")',
        'oci_image_index(name="two", images=[":one"], output_path="x")',
    ],
)
def test_output_paths_of_other_kinds(rule_runner: RuleRunner, other: str) -> None:
    """A path in the other's directory, SBOMs beside both, and the other targets that `package` writes."""
    set_up(rule_runner, image("lwt", name="one", more='output_path="x",'), other)
    assert "would write both images:one and images:two to" in message_of(rule_runner, Package, "images:")


def test_parametrized_targets_have_paths_of_their_own(rule_runner: RuleRunner) -> None:
    set_up(rule_runner, image("lwt", more='layers=parametrize("flat", "per_package"),'))
    assert rule_runner.run_goal_rule(Package, global_args=OPTIONS, args=["::"]).exit_code == 0
    written = {path.name for path in Path(rule_runner.build_root, "dist/images").iterdir()}
    assert {"image@layers=flat", "image@layers=per_package"} <= written
    set_up(rule_runner, image("lwt", more='layers=parametrize("flat", "per_package"), output_path="x",'))
    message = message_of(rule_runner, Package, "::")
    assert "both images:image@layers=flat and images:image@layers=per_package to x " in message


def test_claims() -> None:
    claims, one, two = Claims(), Address("one"), Address("two")
    assert claims.claim_name("n", one) is None and claims.claim_name("n", one) is None
    assert claims.claim_name("n", two) == one
    assert claims.claim_path("a/b", one) is None and claims.claim_path("a/b", one) is None
    assert claims.claim_path("./a//b/", two) == one
    assert claims.claim_path("a", two) == one and claims.claim_path("a/b/c/d", two) == one
    assert claims.claim_path("a/bc", two) is None
