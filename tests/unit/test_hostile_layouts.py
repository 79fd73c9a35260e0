"""Layouts that are damaged, or made to do harm: each command that reads one says what is wrong, and touches nothing else."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.layer_file import LayerFile
from opam_sandbox.oci.shared_layout import SharedLayout
from opam_sandbox.publishing import cli
from opam_sandbox.running.image_config import find_user, read_image
from tests.support.damaged_layouts import CASES, INDEX_TYPE, Json, blob, entry_of, make, nested
from tests.support.small_images import LAYER_TYPE, write_index

# Beside these, `list` reads nothing but the index.
IDS = [name for name, _, _, _ in CASES]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """The directory of the layout; what is in it but the layout stays as it is, and a command that hangs ends."""
    (tmp_path / "canary").write_text("alive")
    (tmp_path / "programs").mkdir()
    program = tmp_path / "programs/any"
    program.write_text('#!/bin/sh\ntouch "$0.ran"\nexit 3\n')
    program.chmod(0o755)

    def too_long(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "canary").read_text() == "alive"


def call(top: Path, command: str, layout: Path) -> int:
    """The command on a layout. Programs of others only say that they were called."""
    if command == "add":
        return cli.main(["add", str(top / "target"), "--image", str(layout), "--name", "x"])
    if command in ("check", "list", "collect"):
        return cli.main([command, str(layout)])
    if command == "remove":
        return cli.main([command, str(layout), "a"])
    program = str(top / "programs/any")
    request: Json = {"image": str(layout), "skopeo": program}
    if command == "push":
        request.update(reference="localhost:1/a:b", tls_verify=False, retries=0)
    else:
        request.update(kind="crun" if command == "run" else "podman", runtime=program, names=["a:b"], engine_args=[])
        request.update(store=str(top / "store"), env=[], network="none", hostname="h", volumes=[], run_args=[])
    (top / "request.json").write_text(json.dumps(request))
    return cli.main([command, str(top / "request.json")])


def everything(top: Path) -> List[str]:
    return sorted(str(path) for path in top.rglob("*"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_damage(outside: Path, capfd: "pytest.CaptureFixture[str]", number: int) -> None:
    """Exit status 1, one message that names file and field; nothing is called and nothing is made."""
    _, change, commands, message = CASES[number]
    source = change(outside / "source")
    for command in commands:
        layout = outside / "layout"
        shutil.copytree(source, layout, symlinks=True) if no_special(source) else source.rename(layout)
        code = call(outside, command, layout)
        captured = capfd.readouterr()
        said = captured.out if command == "check" else captured.err
        assert code == 1, (command, captured)
        assert "Traceback" not in captured.err and re.search(message, said), (command, captured)
        assert command == "check" or captured.err.startswith("error: "), (command, captured)
        assert len(said) < 3000
        assert not (outside / "programs/any.ran").exists(), command
        store = outside / "store"
        assert not store.exists() or list((store).glob("v*/*/layers/*")) == [], command
        assert not (outside / "target/index.json").exists() or json.loads(
            (outside / "target/index.json").read_text()
        ) == {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}
        layout.rename(source) if not no_special(layout) else shutil.rmtree(layout)


def no_special(top: Path) -> bool:
    """Whether the tree can be copied."""
    return all(path.is_symlink() or path.is_file() or path.is_dir() for path in top.rglob("*"))


def test_what_is_whole_passes(tmp_path: Path, capfd: "pytest.CaptureFixture[str]") -> None:
    """The same sample without damage: so it is the damage that is refused."""
    layout = make(tmp_path / "layout")
    for command in ("add", "check", "list", "collect"):
        assert call(tmp_path, command, layout) == 0, capfd.readouterr()
    image = read_image(layout)
    assert (image.argv(()), image.user, image.workdir, len(image.layers)) == (["sh"], "0", "/", 2)
    assert problems(nested(tmp_path / "nested")) == []


def test_a_nested_index_is_read(tmp_path: Path) -> None:
    """An image of several platforms: its manifests are blobs that it cannot be without."""
    SharedLayout(tmp_path / "target").add(nested(tmp_path / "nested"), ["n"])
    SharedLayout(tmp_path / "target").collect()
    assert problems(tmp_path / "target") == []
    assert len(list((tmp_path / "target/blobs/sha256").iterdir())) == 6


def test_one_blob_under_two_types(tmp_path: Path) -> None:
    """Called a manifest in one place and a file in another: what it refers to is not collected, whatever is read first."""
    layout = make(tmp_path / "layout")
    image = entry_of(layout)
    for order in (1, -1):
        other = {**image, "mediaType": "application/octet-stream", "annotations": {}}
        write_index(layout, [image, other][::order])
        SharedLayout(layout).collect()
        assert problems(layout) == []


def test_two_sizes_of_one_blob(tmp_path: Path) -> None:
    layout = make(tmp_path / "layout")
    write_index(layout, [entry_of(layout), {**entry_of(layout), "size": 5, "mediaType": "text/plain"}])
    with pytest.raises(ToolError, match="is said to have"):
        SharedLayout(layout).collect()


@pytest.mark.parametrize(
    "name", [".opam-oci/lock", ".opam-oci/tmp/1-a.lock", ".opam-oci", ".opam-oci/tmp", "blobs/sha256"]
)
@pytest.mark.parametrize("command", ["add", "collect", "remove"])
def test_links_where_the_tool_writes(
    tmp_path: Path, capfd: "pytest.CaptureFixture[str]", name: str, command: str
) -> None:
    """A layout that came from elsewhere has links in the place of this tool's own files: theirs stay as they were."""
    target = tmp_path / "theirs"
    (target / "1-a").mkdir(parents=True)
    (target / "1-a/file").write_text("theirs")
    for file in ("lock", "1-a.lock"):
        (target / file).write_text("theirs")
        (target / file).chmod(0o400)
    layout = make(tmp_path / "layout")
    path = layout / name
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target / "lock" if name.endswith("lock") else target)
    before = {str(file): (file.stat().st_mode, file.stat().st_size) for file in target.rglob("*")}
    arguments = {
        "add": [str(layout), "--image", str(make(tmp_path / "image")), "--name", "b"],
        "collect": [str(layout)],
        "remove": [str(layout), "a"],
    }
    code = cli.main([command, *arguments[command]])
    # What stands in place of another process's lock is left alone; nothing goes on where it stands in place of anything else.
    assert code == (0 if "1-a" in name else 1), capfd.readouterr()
    after = {str(file): (file.stat().st_mode, file.stat().st_size) for file in target.rglob("*")}
    assert after == before


def test_a_directory_among_the_blobs(tmp_path: Path, capfd: "pytest.CaptureFixture[str]") -> None:
    """Nothing is deleted, rather than some of it."""
    layout = make(tmp_path / "layout")
    (layout / "blobs/sha256" / ("a" * 64)).write_text("not referred to")
    (layout / "blobs/sha256" / ("b" * 64)).mkdir()
    before = everything(layout / "blobs")
    assert cli.main(["collect", str(layout)]) == 1
    assert "is a directory" in capfd.readouterr().err and everything(layout / "blobs") == before
    assert cli.main(["check", str(layout)]) == 1


@pytest.mark.parametrize("name", ["x", "." + "a" * 64, "a" * 63, "A" * 64, "a" * 64 + ".tmp"])
def test_files_that_are_no_blobs(tmp_path: Path, name: str) -> None:
    layout = make(tmp_path / "layout")
    (layout / "blobs/sha256" / name).write_text("x")
    assert problems(layout) == [f"{name!r} in blobs/sha256 is no sha256"]


@pytest.mark.parametrize(
    "diff_id", ["/", "sha256:/", "..", "sha256:..", "sha256:../../x", "", "sha256:", "a" * 63, "A" * 64]
)
def test_the_store_makes_no_path_of_anything_else(tmp_path: Path, diff_id: str) -> None:
    """Neither to read nor to write nor to remove."""
    store = Store(tmp_path / "store", rootless=False)
    layer = LayerFile("a layer", tmp_path, LAYER_TYPE, "sha256:" + "a" * 64, diff_id)
    calls: List[Callable[[], object]] = [
        lambda: store.get(layer),
        lambda: store.put(diff_id, lambda _: None),
        lambda: store.discard(diff_id),
        lambda: store.path(diff_id),
    ]
    for one in calls:
        with pytest.raises(ToolError, match="sha256 digest"):
            one()


@pytest.mark.parametrize(
    ("user", "passwd", "group"),
    [
        ("opam", "opam:x:abc:0::/:/bin/sh", ""),
        ("opam", "opam:x:1:abc::/:/bin/sh", ""),
        ("opam", "opam:x:4294967295:0::/:/bin/sh", ""),
        ("opam", "opam:x:-1:0::/:/bin/sh", ""),
        ("opam", "opam:x:\u00b2:0::/:/bin/sh", ""),
        ("opam", "opam:x:1:1::/:/bin/sh", "g:x:abc:opam"),
        ("1:g", "", "g:x:1e3:"),
        ("\u00b2", "", ""),
        ("99999999999999999999", "", ""),
        ("nobody", "opam:x:1:1", ""),
    ],
)
def test_accounts_that_make_no_sense(tmp_path: Path, user: str, passwd: str, group: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(passwd + "\n")
    (tmp_path / "etc/group").write_text(group + "\n")
    with pytest.raises(ToolError, match="the image's|number"):
        find_user(user, [tmp_path])


def test_an_endless_passwd(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with open(tmp_path / "etc/passwd", "wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(ToolError, match="more than"):
        find_user("opam", [tmp_path])


def test_what_is_damaged_can_be_removed(tmp_path: Path) -> None:
    """By its name, and only if all that is kept can be read."""
    layout = make(tmp_path / "layout")
    make(tmp_path / "other", config=lambda data: data.update(author="somebody else"))
    SharedLayout(layout).add(tmp_path / "other", ["b"])
    manifest = blob(layout, "manifest")
    manifest.chmod(0o644)
    manifest.write_text("{")
    with pytest.raises(ToolError, match="it cannot be read"):
        SharedLayout(layout).remove(["b"])
    assert sorted(SharedLayout(layout).names()) == ["a", "b"]
    SharedLayout(layout).remove(["a"])
    assert SharedLayout(layout).names().keys() == {"b"} and problems(layout) == []
