"""Locking without network and without opam: what is asked of opam, what is read from repositories, where sources are found."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.locking import cache, lock_opam, solve, write_lockfile
from opam_sandbox.locking.apt import LockedDeb, parse_uri_line
from opam_sandbox.locking.apt_lists import SourceFile
from opam_sandbox.locking.indexes import read_source_index, source_line
from opam_sandbox.locking.opam_steps import LockOpamRequest
from opam_sandbox.locking.package_files import PackageFiles
from opam_sandbox.locking.repositories import Packages, package_files, parse_variables
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.locking.solution import describe
from opam_sandbox.locking.sources import OutOfReach, SourceFinder
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.request import check
from tests.support.file_server import file_server

# What opam is asked.


def test_the_command_line_says_what_it_can() -> None:
    requirements = ["lwt", "dune=3.17.2", "ocaml>=5.2,<5.4", "lwt"]
    assert solve.atoms(requirements) == ["lwt", "dune=3.17.2", "ocaml"]
    text = solve.roots_opam(requirements, ["topkg<1.1", "yojson>=2,<3"])
    assert '"ocaml" {>= "5.2" & < "5.4"}' in text
    assert '"topkg" {>= "1.1"}' in text and '"yojson" {< "2" | >= "3"}' in text
    assert '"dune"' not in text
    opamfile.parse(text, "test")
    assert solve.roots_opam(["lwt", "dune=3.17.2"], []) == ""


def test_a_constraint_without_a_bound() -> None:
    with pytest.raises(ToolError, match="'lwt' bounds nothing: write lwt=VERSION"):
        solve.roots_opam([], ["lwt"])


# Repositories.


def repository(path: Path, packages: Dict[str, Dict[str, bytes]]) -> Path:
    for title, files in packages.items():
        for name, content in files.items():
            file = path / "packages" / title.partition(".")[0] / title / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return path


def zipped(path: Path, repositories: Sequence[Path]) -> Packages:
    with zipfile.ZipFile(path / "packages.zip", "w") as archive:
        for name, content in package_files([(f"r{n}", one) for n, one in enumerate(repositories)]):
            archive.writestr(name, content)
    return Packages(path / "packages.zip")


def test_the_first_repository_wins_as_a_whole(tmp_path: Path) -> None:
    overlay = repository(tmp_path / "a", {"x.1": {"opam": b"mine"}})
    upstream = repository(
        tmp_path / "b",
        {"x.1": {"opam": b"theirs", "files/p": b"patch"}, "x.1.1~rc+2": {"opam": b"o", "files/d/p": b"q"}},
    )
    packages = zipped(tmp_path, [overlay, upstream])
    assert packages.package("x", "1") == PackageFiles(b"mine", None, None, [])
    assert packages.package("x", "1.1~rc+2").files == [("d/p", b"q", False)]
    assert sorted(packages.versions("x")) == ["1", "1.1~rc+2"] and packages.versions("y") == []
    with pytest.raises(ToolError, match="no repository holds x.2"):
        packages.package("x", "2")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = repository(tmp_path / "a", {"x.1": {"opam": b"", "files/ok": b""}})
    (Path(os.fsdecode(os.fsencode(path / "packages/x/x.1/files") + b"/\xff"))).write_bytes(b"")
    packages = zipped(tmp_path, [path])
    with pytest.raises(ToolError, match=r"x.1: the name of its file b'\\xff' is not UTF-8"):
        packages.package("x", "1")


@pytest.mark.parametrize("link", ["opam", "files/passwd"])
def test_links_out_of_a_repository(tmp_path: Path, link: str) -> None:
    path = repository(tmp_path / "a", {"x.1": {"files/ok": b""}, "y.1": {"opam": b""}})
    target = path / "packages/x/x.1"
    (target / "opam").write_bytes(b"") if link != "opam" else None
    (target / link).symlink_to("/etc/passwd")
    with pytest.raises(
        ToolError, match=f"'r0': packages/x/x.1/{link} is a link to a file that is not in the repository"
    ):
        zipped(tmp_path, [path])


def test_executable_files_and_what_stands_beside_an_opam_file(tmp_path: Path) -> None:
    files = {name: name.encode() for name in ("opam", "url", "descr", "other", "files/gen.sh", "files/d/data")}
    path = repository(tmp_path / "a", {"x.1": files})
    (path / "packages/x/x.1/files/gen.sh").chmod(0o755)
    (path / "packages/x/x.1/files/link").symlink_to("gen.sh")
    found = zipped(tmp_path, [path]).package("x", "1")
    listed = [("d/data", b"files/d/data", False), ("gen.sh", b"files/gen.sh", True), ("link", b"files/gen.sh", True)]
    assert found == PackageFiles(b"opam", b"url", b"descr", listed)


def test_absent_packages_and_versions(tmp_path: Path) -> None:
    versions = {f"lwt.{n}": {"opam": b""} for n in range(20)}
    packages = zipped(tmp_path, [repository(tmp_path / "a", versions)])
    solve.check_known(["lwt", "lwt=7", "lwt>=100"], packages, ["r0"])
    with pytest.raises(ToolError, match=r"no package lwtt in the opam repositories r0 \(did you mean lwt\?\)"):
        solve.check_known(["lwtt"], packages, ["r0"])
    with pytest.raises(ToolError, match=r"no version 99 of lwt in .* r0; they have 19, 18, .* and older ones"):
        solve.check_known(["lwt=99"], packages, ["r0"])


def test_variables_of_a_base() -> None:
    text = "\n<><> Global opam variables ><>\narch              x86_64           # Inferred from system\n"
    text += "exe                                # Suffix\nos-family         debian           # Inferred\n"
    assert parse_variables(text) == {"arch": "x86_64", "os-family": "debian"}


def described(tmp_path: Path, text: bytes, solution: Dict[str, str], kinds: Sequence[str] = ()) -> Any:
    packages = zipped(tmp_path, [repository(tmp_path / "a", {"x.1": {"opam": text}})])
    known: Dict[str, Union[bool, str]] = {"with-test": False, "with-doc": False, "build": True, "os-family": "debian"}
    return describe(packages, "x", "1", solution, known, kinds)


def test_what_tests_need_is_no_build_dependency(tmp_path: Path) -> None:
    text = b'depends: ["a" "b" {with-test} "c" {with-doc} "d" {post}]\nflags: [avoid-version deprecated]'
    item, flags, _ = described(tmp_path, text, dict.fromkeys("abcdx", "1"), ["test"])
    assert (item["depends"], item["post"], item["test"], item["doc"]) == (["a"], ["d"], ["b"], [])
    assert flags == {"avoid-version", "deprecated"}


# Sources.


def sums(content: bytes, *kinds: str) -> "tuple[tuple[str, str], ...]":
    return tuple((kind, hashlib.new(kind, content).hexdigest()) for kind in kinds)


def finder(tmp_path: Path, pool: Sequence[SourceFile] = (), archive_mirrors: Sequence[str] = ()) -> SourceFinder:
    mirror = tmp_path / "mirror"
    mirror.mkdir(exist_ok=True)
    known, session = cache.Memo(tmp_path / "known"), cache.Memo(tmp_path / "session")
    return SourceFinder(pool, [f"file://{mirror}"], archive_mirrors, known, session)


def test_md5_only_is_downloaded_and_hashed(tmp_path: Path) -> None:
    with serving({"/a.tgz": b"content"}) as url:
        wanted = Wanted("", (f"{url}/a.tgz",), sums(b"content", "md5"))
        locked = finder(tmp_path).lock("a.1", wanted)
    assert (locked.sha256, locked.size) == (hashlib.sha256(b"content").hexdigest(), 7)
    # Known from then on, in other runs as well, by its checksums.
    other = SourceFinder([], [], [], cache.Memo(tmp_path / "known"), cache.Memo(tmp_path / "later"))
    assert other.lock("b.1", Wanted("x", ("https://127.0.0.1:9/b",), wanted.checksums)).sha256 == locked.sha256


def test_every_checksum_must_fit(tmp_path: Path) -> None:
    wrong = (*sums(b"content", "sha256"), *sums(b"other", "sha512"))
    with serving({"/a.tgz": b"content"}) as url:
        with pytest.raises(OutOfReach, match="a.1: its archive cannot be had:\n.*a.tgz: its sha512 is"):
            finder(tmp_path).lock("a.1", Wanted("", (f"{url}/a.tgz",), wrong))


@pytest.mark.parametrize("url", ["file://%s/a", "FILE://%s/a", "%s/a", "data:,content", "git+https://127.0.0.1:9/a"])
def test_files_of_this_machine_are_not_read(tmp_path: Path, url: str) -> None:
    """A lockfile would name them for everybody, and what a lock command prints tells what is in them."""
    (tmp_path / "a").write_bytes(b"content")
    wanted = Wanted("", (url.replace("%s", str(tmp_path)),), sums(b"content", "sha256"))
    with pytest.raises(OutOfReach, match=r"a\.1: its source .* is neither http:// nor https://") as raised:
        finder(tmp_path).lock("a.1", wanted)
    assert wanted.urls[0] in str(raised.value)
    # What is known of the archive otherwise is enough, and what the lockfile names.
    pooled = SourceFile("pool/a.orig.tar.gz", 7, wanted.checksums)
    (tmp_path / "mirror/pool").mkdir(parents=True)
    (tmp_path / "mirror" / pooled.path).write_bytes(b"content")
    known = SourceFinder([pooled], [f"file://{tmp_path}/mirror"], [])
    assert known.lock("a.1", wanted).urls == (f"debian:{pooled.path}",)


@contextmanager
def serving(files: Dict[str, bytes]) -> Iterator[str]:
    with file_server() as server:
        server.files = files
        yield server.url


def test_a_mirror_in_the_layout_of_opams_cache(tmp_path: Path) -> None:
    checksums = sums(b"content", "sha512")
    path = tmp_path / "cache/sha512" / checksums[0][1][:2] / checksums[0][1]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    locked = finder(tmp_path, archive_mirrors=[f"file://{tmp_path}/cache"]).lock(
        "a.1", Wanted("", ("https://user:secret@127.0.0.1:9/a",), checksums)
    )
    assert locked.size == 7 and locked.urls == ("https://user:secret@127.0.0.1:9/a",)


def test_mirrors_that_speak_http(tmp_path: Path) -> None:
    """opam's cache by every checksum, then the upstream place; a file of Debian's pool is only looked for, not fetched."""
    checksums = sums(b"content", "sha512", "md5")
    by_md5 = f"/cache/md5/{checksums[1][1][:2]}/{checksums[1][1]}"
    pooled = SourceFile("pool/b.orig.tar.gz", 7, sums(b"pooled!", "md5", "sha256"))
    with file_server() as server:
        server.files = {by_md5: b"content", f"/debian/{pooled.path}": b"pooled!"}
        one = SourceFinder([pooled], [f"{server.url}/debian/"], [f"{server.url}/cache/"])
        locked = one.lock("a.1", Wanted("", (f"{server.url}/upstream/a",), checksums))
        assert (locked.size, locked.sha256) == (7, hashlib.sha256(b"content").hexdigest())
        assert server.asked == [f"/cache/sha512/{checksums[0][1][:2]}/{checksums[0][1]}", by_md5]
        assert one.lock("b.1", Wanted("", (f"{server.url}/b",), pooled.checksums)).urls[-1] == f"debian:{pooled.path}"
        with pytest.raises(OutOfReach, match="a.2: its archive cannot be had") as raised:
            one.lock("a.2", Wanted("", (f"{server.url}/upstream/a",), sums(b"else", "md5")))
        assert f"{server.url}/upstream/a: " in str(raised.value) and "Not Found" in str(raised.value)


def test_a_mirror_that_does_not_say_whether_it_has_a_file(tmp_path: Path) -> None:
    """It is named, with what it said: nobody asks again for a file that is said to be absent. One that knows no HEAD is asked
    by GET."""
    pooled = SourceFile("pool/b.orig.tar.gz", 7, sums(b"pooled!", "md5", "sha256"))
    wanted = Wanted("", (), pooled.checksums)
    with file_server() as server:
        mirrors = [f"{server.url}/debian", f"file://{tmp_path}/none"]
        with pytest.raises(OutOfReach, match=r"b\.orig\.tar\.gz: in the index, but on no mirror$"):
            SourceFinder([pooled], mirrors, []).lock("b.1", wanted)
        path = f"/debian/{pooled.path}"
        for status in (500, 503, 429):
            server.statuses = {f"HEAD {path}": status}
            with pytest.raises(OutOfReach, match=f"in the index, but {server.url}/debian did not say: [A-Z]"):
                SourceFinder([pooled], mirrors, []).lock("b.1", wanted)
        for status in (403, 405, 501):
            server.files = {path: b"pooled!"}
            server.statuses = {f"HEAD {path}": status}
            assert SourceFinder([pooled], mirrors, []).lock("b.1", wanted).urls == (f"debian:{pooled.path}",)
            server.statuses[f"GET {path}"] = 404
            with pytest.raises(OutOfReach, match="on no mirror$"):
                SourceFinder([pooled], mirrors, []).lock("b.1", wanted)
    with pytest.raises(OutOfReach, match="in the index, but http://127.0.0.1:9 did not say: .*refused"):
        SourceFinder([pooled], ["http://127.0.0.1:9"], []).lock("b.1", wanted)


def test_a_file_of_the_pool_that_only_its_sha512_knows(tmp_path: Path) -> None:
    files = tmp_path / "mirror/pool/main/r/react"
    files.mkdir(parents=True)
    (files / "react_1.2.orig.tar.gz").write_bytes(b"content")
    file = SourceFile("pool/main/r/react/react_1.2.orig.tar.gz", 7, sums(b"content", "md5", "sha256"))
    wanted = Wanted("", ("https://127.0.0.1:9/a",), sums(b"content", "sha512"))
    assert finder(tmp_path, [file]).lock("react.1.2", wanted).urls[-1] == f"debian:{file.path}"
    with pytest.raises(OutOfReach, match="its sha512 is"):
        finder(tmp_path, [file]).lock("react.1.2", Wanted("", wanted.urls, sums(b"else", "sha512")))


@pytest.mark.parametrize("threads", [1, 8])
def test_what_is_found_for_one_package_is_found_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Whatever the order of the threads was: a lockfile is the same each time."""
    monkeypatch.setattr(write_lockfile, "_DOWNLOADS", threads)
    content = b"content" * (1 << 20)  # hashing takes longer than it takes to find nothing
    files = tmp_path / "mirror/pool"
    files.mkdir(parents=True)
    (files / "react_1.2.orig.tar.gz").write_bytes(content)
    line = source_line(SourceFile("pool/react_1.2.orig.tar.gz", len(content), sums(content, "md5", "sha256")))
    (tmp_path / "sources.txt").write_text(line)
    [(_, sha512)] = sums(content, "sha512")

    def package(name: str, *urls: str) -> write_lockfile.PackageToLock:
        text = "".join(
            f'{section} {{ src: "{url}" checksum: "sha512={sha512}" }}\n'
            for section, url in zip(("url", 'extra-source "a"', 'extra-source "b"'), urls)
        )
        return write_lockfile.PackageToLock(name, "1.2", text, [], (), (), [], [], [])

    far = "https://127.0.0.1:9/a"
    packages = [package("other", far, f"file://{files}/x", far), package("react", far), package("later", far)]
    values = {"store": str(tmp_path / "store"), "sources": str(tmp_path / "sources.txt"), "archive_mirrors": []}
    request: Any = {**values, "mirrors": [f"file://{tmp_path}/mirror"]}
    write_lockfile.lock_sources(packages, request, "session", Secrets(), record=True)
    sha256 = hashlib.sha256(content).hexdigest()
    assert [[(one.name, one.sha256) for one in package.sources] for package in packages] == [
        [("", sha256), ("b", sha256)],
        [("", sha256)],
        [("", sha256)],
    ]
    # Files of this machine are named in no lockfile, whatever is known of them.
    assert [one.name for one in packages[0].out_of_reach] == ["a"]


def test_the_pools_file_is_named_where_upstreams_is_in_reach_too(tmp_path: Path) -> None:
    gone = SourceFile("pool/main/r/react/react_1.2.orig.tar.gz", 7, sums(b"content", "md5", "sha256"))
    with serving({"/a.tgz": b"content"}) as url:
        wanted = Wanted("", (f"{url}/a.tgz",), sums(b"content", "sha512"))
        assert finder(tmp_path, [gone]).lock("react.1.2", wanted).urls == wanted.urls
    there = SourceFile("pool/a_1.2.orig.tar.gz", 7, gone.checksums)
    (tmp_path / "mirror/pool").mkdir()
    (tmp_path / "mirror" / there.path).write_bytes(b"content")
    both = (*wanted.urls, f"debian:{there.path}")
    # In a later run, which knows the archive's checksums and does not download it again.
    later = SourceFinder([gone, there], [f"file://{tmp_path}/mirror"], [], cache.Memo(tmp_path / "known"))
    assert later.lock("react.1.2", wanted).urls == both
    # In a run that knows nothing.
    with serving({"/a.tgz": b"content"}) as url:
        again = SourceFinder([gone, there], [f"file://{tmp_path}/mirror"], [])
        found = again.lock("react.1.2", Wanted("", (f"{url}/a.tgz",), wanted.checksums))
        assert found.urls == (f"{url}/a.tgz", both[1])


def test_every_place_is_named_but_no_password(tmp_path: Path) -> None:
    wanted = Wanted("p.patch", ("https://user:secret@127.0.0.1:9/a", "file:///nowhere/b"), sums(b"", "md5"))
    with pytest.raises(OutOfReach) as raised:
        finder(tmp_path).lock("a.1", wanted)
    message = str(raised.value)
    assert "a.1: its source p.patch cannot be had" in message and "file:///nowhere/b" in message
    assert "https://127.0.0.1:9/a" in message and "secret" not in message


def test_a_source_without_checksum() -> None:
    [wanted] = wanted_sources(opamfile.parse('url { src: "https://x/y" }', "a.1"), "a.1")
    with pytest.raises(OutOfReach, match="a.1: its source https://x/y has no checksum in the opam file"):
        SourceFinder([], [], []).lock("a.1", wanted)


@pytest.mark.parametrize("text", ["sha256=../../etc", "md5=12", "sha999=" + "a" * 64, "", "sha256=" + "g" * 64])
def test_what_is_no_checksum(text: str) -> None:
    items = opamfile.parse(f'url {{ src: "https://x/y" checksum: "{text}" }}', "a.1")
    with pytest.raises(ToolError, match="a.1: its opam file has .*, which is not a checksum"):
        wanted_sources(items, "a.1")


def test_the_index_of_sources_gives_only_what_is_asked_for(tmp_path: Path) -> None:
    files = [
        SourceFile(f"pool/p{n}/p_{n}.orig.tar.gz", n, (("md5", f"{n:032}"), ("sha256", f"{n:064}"))) for n in range(9)
    ]
    (tmp_path / "index").write_text("".join(map(source_line, files)))
    found = read_source_index(tmp_path / "index", {f"{1:032}", f"{2:064}"}, {"pool/p3/p_3.orig.tar.gz"}, {"4"})
    assert list(found) == files[1:5]


def test_apts_answer() -> None:
    line = "'http://h/debian/pool/main/libe/libev4t64_4.33%2bb1_amd64.deb' libev4t64_1%3a4.33+b1_amd64.deb 42 SHA256:ab"
    deb = LockedDeb("libev4t64", "1:4.33+b1", "amd64", "pool/main/libe/libev4t64_4.33+b1_amd64.deb", "ab", 42)
    assert parse_uri_line(line, "http://h/debian") == deb
    assert parse_uri_line("Reading package lists...", "http://h/debian") is None
    with pytest.raises(ToolError, match="no sha256"):
        parse_uri_line(line.replace("SHA256", "MD5Sum"), "http://h/debian")


# The last step.


def solution(*packages: Dict[str, Any]) -> Dict[str, Any]:
    empty: Dict[str, Any] = {"files": [], "depends": [], "post": [], "test": [], "doc": [], "depexts": []}
    return {"packages": [{**empty, "version": "1", **package} for package in packages], "notes": ["a note"]}


def run_lock(answer: Dict[str, Any], **values: Any) -> str:
    Path("solution.json").write_text(json.dumps(answer))
    Path("base.json").write_text(json.dumps({"status": "", "variables": {}}))
    Path("indexes.json").write_text(json.dumps({"lists": "none", "session": "s"}))
    Path("sources.txt").write_text("")
    request = {
        **{"step": "lock", "store": "store", "resolve": "r", "base": "//b:b", "suite": "s", "architecture": "amd64"},
        **{"requirements": ["x"], "constraints": [], "repositories": ["o tree:1"], "options": ["with_test"]},
        **{"solution": "solution.json", "base_json": "base.json", "indexes": "indexes.json", "sources": "sources.txt"},
        **{"mirrors": [], "archive_mirrors": [], **values},
    }
    assert lock_opam.run(request, 1) == 0
    return Path("lockfile").read_text()


def test_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = b'maintainer: "\xe9"'
    written = run_lock(solution({"name": "x", "opam": text.decode("utf-8", "surrogateescape")}))
    assert f'opam_base64 = "{base64.b64encode(text).decode()}"' in written
    assert json.loads(Path("notes.json").read_text()) == ["a note"]


def test_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    urls = 'url { src: "http://127.0.0.1:9/%s" checksum: "md5=d41d8cd98f00b204e9800998ecf8427e" }'
    answer = solution(*({"name": name, "opam": urls % name} for name in ("a", "b")), {"name": "c", "opam": ""})
    with pytest.raises(ToolError) as raised:
        run_lock(answer)
    message = str(raised.value)
    assert "sources of 2 of 3 packages cannot be had" in message
    for part in (
        "a.1: its archive",
        "http://127.0.0.1:9/a",
        "http://127.0.0.1:9/b",
        "[opam].archive_mirrors",
        "'record'",
    ):
        assert part in message
    assert not Path("lockfile").exists()
    written = run_lock(answer, record_out_of_reach=True)
    assert written.count("[[package.source_out_of_reach]]") == 2 and "[[package.source]]" not in written
    assert "md5=d41d8cd98f00b204e9800998ecf8427e" in written
    [_, note] = json.loads(Path("notes.json").read_text())
    assert note.startswith("the sources of a.1, b.1 are out of reach")


def test_a_step_that_is_not_there() -> None:
    with pytest.raises(RequestError, match="request: 'step' should be one of 'repositories', .* but is 'x'"):
        check({"step": "x"}, LockOpamRequest, "request")


# Hostile opam files.

PIECES = st.sampled_from(
    ["depends:", "depexts:", "flags:", "url", "extra-source", '"x"', "{", "}", "[", "]", "(", ")", "src:", "checksum:"]
    + [
        '"md5=00"',
        "&",
        "|",
        "!",
        "?",
        "=",
        ">=",
        '"1"',
        "os",
        "7",
        "true",
        '"""',
        "(*",
        "#",
        "\n",
        "\x00",
        "\udcff",
        "é",
    ]
)


@given(st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=60))
def test_an_opam_file_is_understood_or_refused(text: str) -> None:
    """Nothing but a ToolError that names the file comes of any text."""
    try:
        items = opamfile.parse(text, "x.1: opam file")
        wanted_sources(items, "x.1")
        named = {item.name: item.value for item in items if item.value is not None}
        for value in named.values():
            formulas.dependencies([value], "x", "1", {"x": "1", "y": "2"}, {"os": "linux"})
            formulas.depexts(value, {"os": "linux"})
            formulas.idents(value)
    except ToolError as error:
        assert str(error).startswith("x.1") or str(error).startswith("x.opam")


@given(st.text(max_size=30))
def test_a_requirement_is_understood_or_refused(text: str) -> None:
    try:
        name, bounds = solve.parse_requirement(text)
    except ToolError as error:
        assert "is not an opam requirement" in str(error)
        return
    # What goes to opam's command line is no option, and no second argument.
    [atom] = solve.atoms([text])
    assert not atom.startswith("-") and not any(char.isspace() for char in atom) and name in text


def titles(packages: List[Any]) -> List[str]:
    return [package.title for package in packages]


def test_a_solution_is_read_as_it_was_written() -> None:
    assert titles(write_lockfile._read_packages(solution({"name": "x", "opam": ""}))) == ["x.1"]
