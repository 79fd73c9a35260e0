"""Locked files come from the first place that has them; wrong ones are passed over; failures name all places."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Iterator

import pytest
from pants.engine.fs import Digest, DigestContents, DownloadFile, FileDigest, Snapshot
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.downloads import debian_mirrors
from opam_oci.downloads.fetch import Fetched, FetchRequest, candidates, without_password
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome
from tests.backend.backend_runner import OPTIONS, new_runner
from tests.backend.locktext import Pkg, deb_toml, image, project, source_toml
from tests.support.file_server import FileServer, file_server

CONTENT = b"an archive\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
POOL = "pool/main/a/a/a_1.orig.tar.gz"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as state:
        yield state


def options(mirrors: list[str], archive_mirrors: tuple[str, ...] = ()) -> list[str]:
    return [*OPTIONS, f"--debian-mirrors={mirrors!r}", f"--opam-archive-mirrors={list(archive_mirrors)!r}"]


def request(*urls: str) -> FetchRequest:
    return FetchRequest(owner="a.1", name="a.tbz", urls=urls, sha256=SHA, size=len(CONTENT))


def test_candidates() -> None:
    assert candidates(
        ["https://up.example/a.tbz", f"debian:{POOL}"],
        sha256=SHA,
        archive_mirrors=["file:///cache/"],
        debian_mirrors=["http://one.example/debian", "http://two.example/debian/"],
    ) == (
        f"file:///cache/sha256/{SHA[:2]}/{SHA}",
        f"http://one.example/debian/{POOL}",
        f"http://two.example/debian/{POOL}",
        "https://up.example/a.tbz",
    )


def test_a_deb_that_has_left_the_mirror(rule_runner: RuleRunner, server: FileServer) -> None:
    """An archive of the past is asked last, and only if one is named; without one, the error says what mends it."""
    gone = FetchRequest(
        owner="the base trixie", name="a.deb", urls=(f"debian:{POOL}",), sha256=SHA, size=len(CONTENT), resolve="trixie"
    )
    server.files = {f"/then/{POOL}": CONTENT}
    rule_runner.set_options(options([f"{server.url}/now"]))
    error = rule_runner.request(Fetched, [gone]).error
    assert error is not None and error.startswith("Cannot fetch a.deb for the base trixie")
    assert "`pants generate-lockfiles --resolve=trixie`" in error and "`[debian].snapshot_mirrors`" in error
    assert server.asked == [f"/now/{POOL}"]

    server.asked.clear()
    past = f"--debian-snapshot-mirrors=['{server.url}/before', '{server.url}/then/']"
    rule_runner.set_options([*options([f"{server.url}/now"]), past])
    assert rule_runner.request(Fetched, [gone]) == Fetched(FileDigest(SHA, len(CONTENT)), None)
    assert server.asked == [f"/now/{POOL}", f"/before/{POOL}", f"/then/{POOL}"]


def test_archives_of_the_past_have_no_upstream_files(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {"/upstream/a.tbz": CONTENT}
    rule_runner.set_options([*options([]), f"--debian-snapshot-mirrors=['{server.url}/then']"])
    assert rule_runner.request(Fetched, [request(f"{server.url}/upstream/a.tbz")]).error is None
    assert server.asked == ["/upstream/a.tbz"]


def test_passwords_are_not_shown() -> None:
    assert without_password("see https://me:secret@h.example/x@y") == "see https://h.example/x@y"


def test_the_first_place_that_has_it(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {f"/two/{POOL}": CONTENT, "/upstream/a.tbz": CONTENT}
    rule_runner.set_options(options([f"{server.url}/one", f"{server.url}/two"], (f"{server.url}/cache",)))
    fetched = rule_runner.request(Fetched, [request(f"{server.url}/upstream/a.tbz", f"debian:{POOL}")])
    assert fetched == Fetched(FileDigest(SHA, len(CONTENT)), None)
    assert server.asked == [f"/cache/sha256/{SHA[:2]}/{SHA}", f"/one/{POOL}", f"/two/{POOL}"]


def test_upstream_last(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {"/upstream/a.tbz": CONTENT}
    rule_runner.set_options(options([f"{server.url}/one"]))
    assert rule_runner.request(Fetched, [request(f"{server.url}/upstream/a.tbz", f"debian:{POOL}")]).error is None
    assert server.asked == [f"/one/{POOL}", "/upstream/a.tbz"]


def test_files_on_disk(rule_runner: RuleRunner, tmp_path: Path) -> None:
    place = tmp_path / "sha256" / SHA[:2] / SHA
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    rule_runner.set_options(options([], (f"file://{tmp_path}",)))
    assert rule_runner.request(Fetched, [request("https://127.0.0.1:9/a.tbz")]).error is None


@pytest.mark.parametrize("wrong", [b"other text\n", b"much longer than the right one\n", b"short"])
def test_wrong_content_is_warned_of_and_passed_over(
    rule_runner: RuleRunner, server: FileServer, caplog: pytest.LogCaptureFixture, wrong: bytes
) -> None:
    server.files = {f"/one/{POOL}": wrong, f"/two/{POOL}": CONTENT}
    rule_runner.set_options(options([f"{server.url}/one", f"{server.url}/two"]))
    assert rule_runner.request(Fetched, [request(f"debian:{POOL}")]).error is None
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"a.1: {server.url}/one/{POOL} has a file that is not the locked a.tbz (wrong content: ")


def test_nobody_has_it(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {"/upstream/a.tbz": b"other text\n"}
    rule_runner.set_options(options([f"{server.url}/one"]))
    error = rule_runner.request(Fetched, [request(f"{server.url}/upstream/a.tbz", f"debian:{POOL}")]).error
    assert error is not None
    assert error.startswith(f"Cannot fetch a.tbz for a.1 (sha256 {SHA}, {len(CONTENT)} bytes):\n")
    assert f"  * {server.url}/one/{POOL}: " in error and "404" in error
    other = hashlib.sha256(b"other text\n").hexdigest()
    assert f"  * {server.url}/upstream/a.tbz: wrong content: its sha256 is {other} (11 bytes)" in error
    assert "`[debian].mirrors`" in error and "`[opam].archive_mirrors`" in error and "regenerate the lockfile" in error


def test_a_failure_is_tried_again_in_the_next_run(rule_runner: RuleRunner, server: FileServer) -> None:
    wanted = request(f"debian:{POOL}")
    rule_runner.set_options(options([f"{server.url}/one"]))
    assert rule_runner.request(Fetched, [wanted]).error is not None
    server.files = {f"/one/{POOL}": CONTENT}
    rule_runner.set_options(options([f"{server.url}/one"]))
    assert rule_runner.request(Fetched, [wanted]).error is None


def test_what_was_fetched_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    server.files = {f"/one/{POOL}": CONTENT}
    for _ in range(2):  # two daemons with one store
        runner = new_runner(f"--local-store-dir={tmp_path}")
        runner.set_options(options([f"{server.url}/one"]))
        assert runner.request(Fetched, [request(f"debian:{POOL}")]).error is None
    assert server.asked == [f"/one/{POOL}"]


def test_no_mirror_is_known(rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_mirrors, "apt_mirrors", lambda _: ())
    rule_runner.set_options(options([]))
    error = rule_runner.request(Fetched, [request(f"debian:{POOL}")]).error
    assert error is not None
    assert "no Debian mirror is known" in error and "set `[debian].mirrors`" in error


def test_mirrors_of_the_machine(rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    server.files = {f"/host/{POOL}": CONTENT}
    monkeypatch.setattr(debian_mirrors, "apt_mirrors", lambda _: (f"{server.url}/host",))
    rule_runner.set_options(options([]))
    assert rule_runner.request(Fetched, [request(f"debian:{POOL}")]).error is None


def test_the_debian_scheme_for_any_download(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {f"/two/{POOL}": CONTENT}
    rule_runner.set_options(options([f"{server.url}/one", f"{server.url}/two"]))
    wanted = DownloadFile(f"debian:{POOL}", FileDigest(SHA, len(CONTENT)))
    digest = rule_runner.request(Digest, [wanted])
    assert rule_runner.request(Snapshot, [digest]).files == ("a_1.orig.tar.gz",)
    assert rule_runner.request(DigestContents, [digest])[0].content == CONTENT
    missing = DownloadFile("debian:pool/nothing", FileDigest(SHA, len(CONTENT)))
    with pytest.raises(ExecutionError, match="Cannot fetch nothing for debian:pool/nothing"):
        rule_runner.request(Digest, [missing])


@pytest.mark.usefixtures("fake_tool")
def test_sources_and_debs_reach_the_build(rule_runner: RuleRunner, server: FileServer) -> None:
    server.files = {f"/one/{POOL}": CONTENT, "/one/pool/main/g/gcc/gcc_2.deb": CONTENT, "/p.patch": CONTENT}
    sources = source_toml(["https://127.0.0.1:9/a.tbz", f"debian:{POOL}"], SHA, len(CONTENT))
    sources += source_toml([f"{server.url}/p.patch"], SHA, len(CONTENT), name="p.patch")
    deb = deb_toml("gcc", "pool/main/g/gcc/gcc_2.deb", SHA, len(CONTENT))
    rule_runner.write_files(project(Pkg("a", debs=["gcc"], extra=sources), debs=deb, debian_debs=deb))
    rule_runner.set_options(options([f"{server.url}/one"]))
    # fake_tool.py compares the files in the sandbox with the checksums in the request.
    outcome = rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "a")])
    assert outcome.failed is None


@pytest.mark.usefixtures("fake_tool")
def test_a_package_without_its_source_is_a_failed_package(rule_runner: RuleRunner, server: FileServer) -> None:
    source = source_toml([f"{server.url}/a.tbz"], SHA, len(CONTENT))
    rule_runner.write_files(project(Pkg("a", extra=source), Pkg("b", depends=["a"]), Pkg("c"), image=image("b")))
    outcomes = {
        name: rule_runner.request(PackageOutcome, [PackageLayerRequest("default", name)]) for name in ("a", "b", "c")
    }
    assert outcomes["a"].failed is not None and "Cannot fetch a.tbz for a.1" in outcomes["a"].failed
    assert outcomes["b"].blocked_by == ("a.1",)
    assert outcomes["c"].ok


@pytest.mark.usefixtures("fake_tool")
def test_a_base_without_its_debs(rule_runner: RuleRunner, server: FileServer) -> None:
    debs = deb_toml("gcc", "pool/gcc.deb") + deb_toml("cpp", "pool/cpp.deb")
    rule_runner.write_files(project(Pkg("a"), debian_debs=debs))
    rule_runner.set_options(options([f"{server.url}/one"]))
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(PackageOutcome, [PackageLayerRequest("default", "a")])
    message = str(raised.value.wrapped_exceptions[0])
    assert "Cannot fetch gcc.deb for the base trixie" in message and "Cannot fetch cpp.deb" in message
