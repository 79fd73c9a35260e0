"""What a package or a maintainer script may leave behind in a view, before every reader and writer there is outside of it:
nothing of the host is read, made, overwritten or removed.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from opam_sandbox import accounts, dpkg
from opam_sandbox.building import prepare_opam, sorted_readdir
from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.copy_files import Copies
from opam_sandbox.imaging.debian_files import Owners, write_status
from opam_sandbox.imaging.needs import Needs
from opam_sandbox.imaging.selection import SWITCH, Selection
from opam_sandbox.layer import merge_accounts
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.compress import GZIP
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.locking import repositories
from opam_sandbox.running.image_config import find_user
from opam_sandbox.sandbox import syscalls
from opam_sandbox.sandbox.overlay import Overlay
from tests.unit.conftest import Collected, Namespaces

SECRET = "secret-of-the-host"


def snapshot(directory: Path) -> Dict[str, Tuple[object, ...]]:
    """Names, kinds, modes and contents of all below a directory: equal before and after where nothing was done to it."""
    found: Dict[str, Tuple[object, ...]] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        seen = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[os.fspath(path)] = (seen.st_mode, seen.st_uid, seen.st_gid, content)
    return found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with files of all names that the tool reads or writes somewhere; nothing is to happen to it."""
    directory = tmp_path / "host"
    files = {
        "etc/passwd": f"{SECRET}:x:7:7::/:/bin/sh\n",
        "etc/group": f"{SECRET}:x:7:\n",
        "etc/shadow": f"{SECRET}:!:1::::::\n",
        "dpkg/status": f"Package: {SECRET}\nArchitecture: amd64\n\n",
        "dpkg/triggers/File": f"{SECRET} x\n",
        "dpkg/info/x.list": f"/{SECRET}\n",
        "file": SECRET,
        "opam": f'# {SECRET}\nopam-version: "2.0"\n',
        "x/x.1/opam": f"# {SECRET}\n",
        "files/patch": SECRET,
        "directory/data": SECRET,
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "packages").mkdir()
    shutil.copytree(directory / "x", directory / "packages/x")
    before = snapshot(directory)
    yield directory
    assert snapshot(directory) == before


def tree(root: Path, files: Dict[str, str], **links: Any) -> Path:
    """A tree of files; `links`: a dict of name -> target."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, target in links.get("links", {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    return root


# -- finding 1: a runtime image ------------------------------------------------


def runtime(
    tmp_path: Path, full: Path, slim: Path, keep: Tuple[str, ...] = (), trees: Tuple[str, ...] = ("p",)
) -> Path:
    """What `runtime` does to the files of the full image and of the slim base, but for mounting; returns the slim one."""
    selection = Selection(full, slim, {name: full for name in trees})
    selection.choose([{"name": name, "opam": "", "depends": [], "root": True} for name in trees], keep)
    owners = Owners(full)
    Needs(full, slim, selection, owners, {}).follow()
    copies = Copies(full, slim, rootless=True)
    for path in sorted(selection.chosen):
        copies.copy(path)
    write_status(full, slim, [], owners.names(selection.chosen))
    return slim


def holds_secret(root: Path) -> bool:
    files = (path for path in root.rglob("*") if not path.is_symlink() and path.is_file())
    return any(SECRET.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    "links",
    [
        {"lib/x": "{host}", "share/y": "{switch}/lib/x/file"},
        {"lib/x": "{host}", "share/y": "../lib/x/file"},
        {"lib/x": "{host}", "share/y": "../lib/x/directory"},
        {"share/y": "{host}/file"},
        {"share/y": "/proc/self/environ"},
        {"share/y": "/proc/1/root{host}/file"},
        {"share": "{host}"},
        {"bin": "{host}"},
    ],
)
def test_links_of_a_package_bring_nothing_of_the_host(tmp_path: Path, host: Path, links: Dict[str, str]) -> None:
    names = {f"{SWITCH}/{name}": to.format(host=host, switch=f"/{SWITCH}") for name, to in links.items()}
    full = tree(tmp_path / "full", {f"{SWITCH}/etc/own": "own"}, links=names)
    slim = runtime(
        tmp_path, full, tree(tmp_path / "slim", {}), keep=(f"/{SWITCH}/share/y",) if "share/y" in links else ()
    )
    assert not holds_secret(slim)
    assert (slim / SWITCH / "etc/own").read_text() == "own"


@pytest.mark.parametrize("name", ["share/x", "share"])
def test_a_package_that_turns_anothers_directory_into_a_link(tmp_path: Path, host: Path, name: str) -> None:
    """One package has share/x/directory/data, the other has replaced a directory above by a link to one of the host: what
    is copied to these names goes into the image, and the host's files of those names stay."""
    first = tree(tmp_path / "first", {f"{SWITCH}/share/x/data": "own", f"{SWITCH}/share/own": "own"})
    second = tree(tmp_path / "second", {}, links={f"{SWITCH}/{name}": os.fspath(host / "directory")})
    full = tree(tmp_path / "full", {}, links={f"{SWITCH}/{name}": os.fspath(host / "directory")})
    if name == "share/x":
        tree(full, {f"{SWITCH}/share/own": "own"})
    # The slim image has the link as well, made first.
    slim = tree(tmp_path / "slim", {}, links={f"{SWITCH}/{name}": os.fspath(host / "directory")})
    selection = Selection(full, slim, {"first": first, "second": second})
    selection.choose([{"name": one, "opam": "", "depends": [], "root": True} for one in ("first", "second")], ())
    copies = Copies(full, slim, rootless=True)
    for path in sorted(selection.chosen):
        copies.copy(path)
    for path in (f"{SWITCH}/{name}/data", f"{SWITCH}/{name}/new"):
        tree(tmp_path / "other", {path: "own"})
        with pytest.raises(ToolError, match="link there that leads nowhere"):
            Copies(tmp_path / "other", slim, rootless=True).copy(path)
    assert not holds_secret(slim)


def test_links_that_stay_inside_work(tmp_path: Path) -> None:
    """As Debian's merged /usr has them, and libraries."""
    full = tree(
        tmp_path / "full",
        {"usr/lib/libx.so.1.2": "library", f"{SWITCH}/lib/x/data": "data"},
        links={
            "lib": "usr/lib",
            "usr/lib/libx.so.1": "libx.so.1.2",
            f"{SWITCH}/share/x": "/lib/libx.so.1",
            f"{SWITCH}/share/data": "../lib/x/data",
        },
    )
    slim = runtime(tmp_path, full, tree(tmp_path / "slim", {"usr/lib/libc.so": ""}, links={"lib": "usr/lib"}))
    assert (slim / "usr/lib/libx.so.1.2").read_text() == "library"
    assert os.readlink(slim / SWITCH / "share/x") == "/lib/libx.so.1" and (slim / "usr/lib/libx.so.1").is_symlink()
    assert (slim / SWITCH / "share/data").read_text() == "data"


def test_a_script_and_a_list_of_libraries_that_are_links(tmp_path: Path, host: Path) -> None:
    (host / "conf").mkdir()
    (host / "conf/x.conf").write_text("/lib\n")
    full = tree(
        tmp_path / "full",
        {f"{SWITCH}/bin/script": f"#!{host}/file\n"},
        links={"etc/ld.so.conf.d": os.fspath(host / "conf"), "var/lib/dpkg": os.fspath(host / "dpkg")},
    )
    slim = tree(tmp_path / "slim", {}, links={"var/lib": os.fspath(host)})
    selection = Selection(full, slim, {"p": full})
    selection.choose([{"name": "p", "opam": "", "depends": [], "root": True}], ())
    owners = Owners(full)
    [problem] = Needs(full, slim, selection, owners, {}).follow()
    assert "which is in neither image" in problem and owners.names([SECRET]) == set()
    (host / "conf/x.conf").unlink()
    (host / "conf").rmdir()


# -- finding 2: what maintainer scripts leave behind ----------------------------


@pytest.mark.parametrize("name", ["status", "triggers/File", "triggers", ""])
@pytest.mark.parametrize("target", ["{host}/dpkg/{name}", "../../../../../host/dpkg/{name}", "/proc/self/environ"])
def test_records_of_dpkg_that_are_links(tmp_path: Path, host: Path, name: str, target: str) -> None:
    """Nothing of the host's lands in what a layer says of itself, and nothing is written where the link leads."""
    link = os.path.join("var/lib/dpkg", name).rstrip("/")
    root = tree(tmp_path / "layer/root", {}, links={link: target.format(host=host, name=name)})
    assert SECRET not in str(dpkg.difference(dpkg.Database({}, {}), root))
    addition = {"status": {"x:amd64": "Package: x\nArchitecture: amd64"}, "triggers": ["/usr x"]}
    if name in ("triggers", ""):
        with pytest.raises(ToolError, match=f"/{link} is a symlink"):
            dpkg.merge(root, [addition])
    else:
        dpkg.merge(root, [addition])
        assert not (root / link).is_symlink() and SECRET not in (root / link).read_text()


@pytest.mark.parametrize("name", ["etc", "etc/passwd", "etc/shadow"])
def test_accounts_that_are_links(tmp_path: Path, host: Path, name: str) -> None:
    root = tree(tmp_path / "root", {}, links={name: os.fspath(host / name)})
    assert not accounts.has_user(root)
    if name == "etc":
        with pytest.raises(ToolError, match="/etc is a symlink"):
            accounts.add_user(root)
    else:
        accounts.add_user(root)
        assert SECRET not in (root / name).read_text()
    with pytest.raises(ToolError, match="not in its /etc/passwd"):
        find_user(SECRET, [tree(tmp_path / "layer", {}, links={name: os.fspath(host / name)})])
    assert merge_accounts.merge(root, [root, root, root, root]) == []


class HostileGcc:
    """A view whose /tmp and /dev have links to the host in place of what the tool is about to make there."""

    rootless = True
    opam = None

    def __init__(self, root: Path, host: Path, output: str) -> None:
        self.root = tree(root, {"usr/bin/gcc": "", "usr/include/dirent.h": "", "dev/.keep": "", "tmp/.keep": ""})
        for name in ("tmp/readdir.c", "tmp/sorted-readdir.so", "dev/sorted-readdir.so"):
            (root / name).symlink_to(host / "made")
        self._host, self._output = host, output
        self.shown: Dict[str, Any] = {}
        self.preloaded = ""

    def run(self, argv: List[str], env: object, log: object, *, user: bool) -> Any:
        made = self.root / "tmp/sorted-readdir.so"
        made.unlink()
        if self._output:
            made.symlink_to(self._host / self._output)
        else:
            made.write_text("library")
        return SimpleNamespace(returncode=0)

    def show_in_dev(self, name: str, content: Any) -> None:
        self.shown[name] = content

    def preload(self, name: str) -> None:
        self.preloaded = name


@pytest.mark.parametrize("output", ["", "file"])
def test_the_library_that_sorts_directories(
    tmp_path: Path, host: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither written nor read through links, whatever a base has there, and whatever its gcc leaves as its output."""
    gcc = HostileGcc(tmp_path / "root", host, output)
    view: Any = SimpleNamespace(root=gcc.root, overlay=gcc, log=BytesIO())
    base: Any = SimpleNamespace(diff_id="sha256:" + "1" * 64, title="base")
    store = Store(tmp_path / "store", rootless=True)
    monkeypatch.setattr(store, "get", lambda layer: gcc.root)
    monkeypatch.setattr(sorted_readdir, "mounted", lambda *_, **__: nullcontext(view))
    if output:
        with pytest.raises(ToolError, match="does not compile"):
            sorted_readdir.library(store, base)
        return
    made = sorted_readdir.library(store, base)
    assert made is not None and made.read_text() == "library"
    sorted_readdir.show(view, made)
    assert gcc.preloaded == "/dev/sorted-readdir/not-libasan.so"
    assert gcc.shown == {
        "sorted-readdir/sorted-readdir.so": b"library",
        "sorted-readdir/not-libasan.so": "sorted-readdir.so",
    }


def test_opam_files_of_dependencies(tmp_path: Path, host: Path) -> None:
    packages = f"{SWITCH}/.opam-switch/packages"
    root = tree(tmp_path / "root", {}, links={f"{packages}/x.1/opam": os.fspath(host / "opam")})
    with pytest.raises(ToolError, match="lacks its opam file"):
        prepare_opam._opam_file(root, "x.1")


# -- mounts ---------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path, namespaces: Namespaces) -> Callable[[Callable[[Overlay], object], Dict[str, str]], Any]:
    """Runs a function with the mounted view of one layer, which has these links."""

    def run(function: Callable[[Overlay], object], links: Dict[str, str]) -> Any:
        layer = tree(tmp_path / "lower", {f"{name}/.keep": "" for name in ("proc", "dev", "tmp") if name not in links})
        tree(layer, {}, links=links)

        def inside() -> object:
            overlay = Overlay([layer], tmp_path / "scratch", rootless=False)
            try:
                overlay.mount()
                return function(overlay)
            except ToolError as error:
                return str(error)
            finally:
                overlay.remove()

        return namespaces(inside)

    return run


@pytest.mark.parametrize("name", ["proc", "dev", "tmp"])
def test_nothing_is_mounted_through_a_link(work: Any, host: Path, name: str) -> None:
    assert f"/{name} of the layers is no directory" in work(lambda overlay: 0, {name: os.fspath(host)})


def test_nothing_is_bound_or_unbound_through_a_link(work: Any, host: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("source")

    def bind(overlay: Overlay) -> object:
        said = []
        for target in ("a/file", "b"):
            for function in (lambda target: overlay.bind(tmp_path / "source", target), overlay.unbind):
                try:
                    function(target)
                    said.append("done")
                except ToolError as error:
                    said.append(str(error).partition(" is a symlink")[0])
        (overlay.root / "c").write_text("")
        overlay.bind(tmp_path / "source", "c")

        def show() -> None:
            """As in a command's own mount namespace."""
            try:
                overlay._show_to_root()
            finally:
                for name in ("proc", "dev"):
                    syscalls.umount(overlay.root / name, syscalls.MNT_DETACH)

        show()
        shown = (overlay.root / "c").read_text()
        try:
            (overlay.root / "c").write_text("changed")
        except OSError as error:
            shown += f" {errno.errorcode[error.errno or 0]}"
        syscalls.umount(overlay.root / "c")
        overlay.unbind("c")
        # What a package has moved away is no mount any more, nor what it has put a link in the place of.
        for make in ("moved", "linked"):
            overlay.bind(tmp_path / "source", "c")
            (overlay.root / "c").rename(overlay.root / make)
            if make == "moved":
                (overlay.root / "c").write_text("")
            else:
                (overlay.root / "c").symlink_to(host / "file")
            try:
                show()
                syscalls.umount(overlay.root / "c")
            except ToolError as error:
                shown += f" {error}."
            try:
                overlay.unbind("c")
            except ToolError as error:
                shown += f" {error}."
        return said, (host / "file").read_text(), shown

    links = {"a": os.fspath(host), "b": os.fspath(host / "file")}
    refused = ["/a", "nothing is shown at /a/file", "/b", "nothing is shown at /b"]
    moved = " /c was moved away while it was in use."
    link = " /c is a symlink that a package's layer has made. Nothing is written through it.."
    expected = (refused, SECRET, f"source EROFS{moved}{link}{moved}")
    assert work(bind, links) == expected


# -- repositories, capture, compression -----------------------------------------


@pytest.mark.parametrize(
    "links",
    [
        {"packages": "{host}/packages"},
        {"wrapped": "{host}"},
        {"packages/x/x.1": "{host}/x/x.1"},
        {"packages/x": "{host}/x"},
        {"packages/x/x.1/opam": "{host}/opam"},
        {"packages/x/x.1/files": "{host}/files"},
        {"packages/x/x.1/files/patch": "/proc/self/environ"},
    ],
)
def test_an_opam_repository_of_links(tmp_path: Path, host: Path, links: Dict[str, str]) -> None:
    files = {} if "packages" in links or "wrapped" in links else {"packages/y/y.1/opam": "own"}
    if any("/files" in name for name in links):
        files["packages/x/x.1/opam"] = "own"
    root = tree(tmp_path / "repository", files, links={name: to.format(host=host) for name, to in links.items()})
    try:
        content = list(repositories.package_files([("r", repositories._top(root))]))
    except ToolError as error:
        assert "is a link to a file that is not in the repository" in str(error) or "no directory `packages`" in str(
            error
        )
    else:
        assert content == [("y.1/opam", b"own")]


def test_links_inside_of_a_repository_work(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "repository",
        {"shared/opam": "opam", "packages/x/x.1/opam": "own", "packages/x/x.1/files/patch": "patch"},
        links={"packages/x/x.2/opam": "../../../shared/opam", "packages/x/x.2/files": "../x.1/files"},
    )
    assert dict(repositories.package_files([("r", root)])) == {
        "x.1/opam": b"own",
        "x.1/files/patch": b"patch",
        "x.2/opam": b"opam",
        "x.2/files/patch": b"patch",
    }


def test_a_capture_takes_links_as_links(tmp_path: Path, host: Path) -> None:
    root = tree(
        tmp_path / "upper", {"own": "own"}, links={"file": os.fspath(host / "file"), "directory": os.fspath(host)}
    )
    sink = Collected()
    capture(root, Rules(skip=lambda path, directory: False, owner=lambda path, found: (0, 0)), sink)
    assert SECRET.encode() not in sink.data and b"own" in sink.data


def test_the_program_that_compresses_is_the_bases(tmp_path: Path, host: Path) -> None:
    root = tree(tmp_path / "root", {}, links={"usr/bin/libdeflate-gzip": os.fspath(host / "file")})
    with pytest.raises(ToolError, match="the base lacks /bin/gzip"):
        GZIP.program(root)
